/** A call carries what every operation needs besides its input: the request id, the caller, the deadline, the way to be stopped. */
import { randomFillSync } from "node:crypto";
import { fail, DEADLINE } from "./error.ts";

/** The person (or outside program) on whose behalf a call is made; believed from the gateway's certificate alone. */
export interface Subject {
  readonly name: string;
  readonly scopes: readonly string[];
}

export interface Call {
  /** One id per top-level request: a W3C trace id written as a UUID, so that it serves EdgeX's correlation too. */
  readonly requestId: string;
  /** This step's span id, 16 hex digits; calls made from here name it as their parent. */
  readonly spanId: string;
  readonly parentId?: string;
  /** Service key of the caller as its certificate says; `cli`, `open-edgex` or the service itself for its own work. */
  readonly caller: string;
  /** Whom the caller may call, as its certificate says (identity/needs.ts); everybody where it is absent. */
  readonly needs?: readonly string[];
  readonly subject?: Subject;
  /** On the monotonic clock (`performance.now()`). */
  readonly deadlineMs: number;
  /** Aborts at the deadline or when the caller hangs up. */
  readonly signal: AbortSignal;
}

const POOL_IDS = 512;
const pool = Buffer.alloc(POOL_IDS * 16);
let used = POOL_IDS;

/** Draws 16 random bytes as hex from a pool: one system call for 512 ids (6 us to 87 ns each). */
function randomHex(bytes: 8 | 16): string {
  if (used === POOL_IDS) {
    randomFillSync(pool);
    used = 0;
  }
  const at = used++ * 16;
  return pool.toString("hex", at, at + bytes);
}

/** Writes 32 hex digits as a UUID. */
export const asUuid = (hex: string): string =>
  `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;

/** Makes a request id: a random trace id in the form of a UUID (version 4, so that strict parsers take it). */
export function newRequestId(): string {
  const hex = randomHex(16);
  const variant = "89ab"[Number.parseInt(hex[16], 16) & 3];
  return asUuid(`${hex.slice(0, 12)}4${hex.slice(13, 16)}${variant}${hex.slice(17)}`);
}

export const newSpanId = (): string => randomHex(8);

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Reads a request id from a header as lower-case UUID; undefined when it is none, or all zero (W3C trace-context 3.2.2.3). */
export function readRequestId(text: string | undefined): string | undefined {
  const id = text?.toLowerCase();
  return id && UUID.test(id) && id !== "00000000-0000-0000-0000-000000000000" ? id : undefined;
}

/**
 * Writes a traceparent (W3C trace-context level 2): always sampled. The random flag (3.2.2.5.2) says that the last seven
 * bytes of the id are random: so they are of a UUID version 4, and not of an id that was derived from an event's place.
 */
export const traceparent = ({ requestId, spanId }: Pick<Call, "requestId" | "spanId">): string =>
  `00-${requestId.replaceAll("-", "")}-${spanId}-${requestId.charCodeAt(UUID_VERSION_AT) === FOUR ? "03" : "01"}`;

const UUID_VERSION_AT = 14;
const FOUR = 0x34;

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$/;

/** Reads a traceparent; undefined when it is invalid (W3C trace-context 3.2.2: version ff, zero ids, trailing data in version 00). */
export function readTraceparent(text: string | undefined): { requestId: string; parentId: string } | undefined {
  const m = text ? TRACEPARENT.exec(text) : null;
  if (!m || m[1] === "ff" || (m[1] === "00" && m[4]) || /^0+$/.test(m[2]) || /^0+$/.test(m[3])) return undefined;
  return { requestId: asUuid(m[2]), parentId: m[3] };
}

class CallValue implements Call {
  readonly requestId: string;
  readonly spanId = newSpanId();
  readonly parentId?: string;
  readonly caller: string;
  readonly needs?: readonly string[];
  readonly subject?: Subject;
  readonly deadlineMs: number;
  #controller?: AbortController;
  #upstream?: AbortSignal;
  #timer?: NodeJS.Timeout;
  #aborted = false;
  #onUpstream?: () => void;

  constructor(from: CallOptions) {
    this.requestId = from.requestId ?? newRequestId();
    if (from.parentId) this.parentId = from.parentId;
    this.caller = from.caller;
    if (from.needs) this.needs = from.needs;
    if (from.subject) this.subject = from.subject;
    this.deadlineMs = performance.now() + from.timeoutMs;
    if (from.signal) this.#upstream = from.signal;
  }

  /** Made when first asked for: most operations end before anybody needs it. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      const controller = (this.#controller = new AbortController());
      if (this.#aborted || this.#upstream?.aborted) controller.abort();
      if (this.#upstream) {
        this.#onUpstream = () => controller.abort();
        this.#upstream.addEventListener("abort", this.#onUpstream, { once: true, signal: controller.signal });
      }
      const left = this.deadlineMs - performance.now();
      // A call without end (a stream, a service's own loop) has no timer: setTimeout takes at most 2^31-1.
      if (left < 2 ** 31)
        this.#timer = setTimeout(
          () => controller.abort(fail(DEADLINE, "the deadline passed")),
          Math.max(0, left),
        ).unref();
    }
    return this.#controller.signal;
  }

  /** Stops the clock (the call ended) or, with `abort`, the work (the caller hung up). */
  end(abort: boolean): void {
    clearTimeout(this.#timer);
    // What is upstream may live as long as the process: each call would leave it a listener.
    if (this.#onUpstream) this.#upstream?.removeEventListener("abort", this.#onUpstream);
    this.#aborted = abort;
    if (abort) this.#controller?.abort();
  }
}

export interface CallOptions {
  readonly caller: string;
  /** Infinity for streams and a service's own loops. */
  readonly timeoutMs: number;
  readonly requestId?: string;
  readonly parentId?: string;
  readonly needs?: readonly string[];
  readonly subject?: Subject;
  readonly signal?: AbortSignal;
}

/** Makes a call: at a door from what came over the wire, in a service for its own work (then with a new request id). */
export const makeCall = (options: CallOptions): Call & { end(abort: boolean): void } => new CallValue(options);

/** Milliseconds left until a call's deadline; Infinity where it has none. */
export const leftMs = (call: Call): number => call.deadlineMs - performance.now();

/** Calls back when a call is over, at once where it is already: an "abort" that was is not told again. Returns how to stop that. */
export function whenOver({ signal }: Call, act: () => void): () => void {
  if (signal.aborted) act();
  else signal.addEventListener("abort", act, { once: true });
  return () => signal.removeEventListener("abort", act);
}
