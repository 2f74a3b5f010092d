/** Spans as OpenTelemetry's API has them, which become steps of the node's stories when they end. */
import type { Attributes, Exception, Link, Span, SpanContext, SpanStatus, TimeInput } from "@opentelemetry/api";
import { asUuid } from "../call.ts";
import type { Tracer } from "../trace.ts";

/** Limits of the trace service (trace/api.ts): a step that is longer would have all be refused that is told with it. */
const NAME_LENGTH_MAX = 200;
const NOTE_LENGTH_MAX = 1_024;
const VALUE_LENGTH_MAX = 200;
const ATTRIBUTES_MAX = 32;
/** As many ids of 36 characters as a step may name. */
const LINKS_MAX = 5;
/** SpanStatusCode. */
const [UNSET, OK, ERROR] = [0, 1, 2];
const SAMPLED = 1;
const NS_PER_MS = 1e6;
const STATUS_KEYS = ["http.response.status_code", "http.status_code"] as const;
const DEVICE_KEY = "holdfast.device";

export interface Step {
  readonly requestId: string;
  readonly spanId: string;
}

const SOUND = { traceId: /^(?!0{32})[0-9a-f]{32}$/, spanId: /^(?!0{16})[0-9a-f]{16}$/ };
/** Whether the ids of a span are such (W3C trace context 3.2.2). */
export const isSound = ({ traceId, spanId }: SpanContext): boolean =>
  SOUND.traceId.test(traceId) && SOUND.spanId.test(spanId);

/** A span of somebody else, here or elsewhere: others are its children, and it takes nothing. */
export class SpanHandle implements Span {
  readonly #context: SpanContext;

  constructor({ requestId, spanId }: Step, isRemote = false) {
    const ids = { traceId: requestId.replaceAll("-", ""), spanId, traceFlags: SAMPLED };
    this.#context = isRemote ? { ...ids, isRemote } : ids;
  }

  spanContext(): SpanContext {
    return this.#context;
  }
  isRecording(): boolean {
    return false;
  }
  setAttribute(..._of: [string, unknown]): this {
    return this;
  }
  setAttributes(_attributes: Attributes): this {
    return this;
  }
  addEvent(..._of: unknown[]): this {
    return this;
  }
  addLink(_link: Link): this {
    return this;
  }
  addLinks(_links: Link[]): this {
    return this;
  }
  setStatus(_status: SpanStatus): this {
    return this;
  }
  updateName(_name: string): this {
    return this;
  }
  end(_time?: TimeInput): void {}
  recordException(_exception: Exception, _time?: TimeInput): void {}
}

export interface Begun extends Step {
  readonly name: string;
  readonly parentId: string | undefined;
  /** Where it is told; undefined where no service runs yet. */
  readonly tracer: Tracer | undefined;
  readonly startTime: TimeInput | undefined;
}

/** A span that is going on. */
export class KitSpan extends SpanHandle {
  readonly #begun: Begun;
  readonly #startMs: number;
  readonly #attributes = new Map<string, string>();
  readonly #links: string[] = [];
  #name: string;
  #code = UNSET;
  #message = "";
  #exception = "";
  #isOver = false;

  constructor(begun: Begun) {
    super(begun);
    this.#begun = begun;
    this.#name = begun.name;
    this.#startMs = wallMsOf(begun.startTime);
  }

  override isRecording(): boolean {
    return !this.#isOver;
  }

  override setAttribute(key: string, value: unknown): this {
    if (!this.#isOver && (this.#attributes.has(key) || this.#attributes.size < ATTRIBUTES_MAX))
      this.#attributes.set(
        key,
        (typeof value === "string" ? value : (JSON.stringify(value) ?? "")).slice(0, VALUE_LENGTH_MAX),
      );
    return this;
  }

  override setAttributes(attributes: Attributes): this {
    for (const [key, value] of Object.entries(attributes)) this.setAttribute(key, value);
    return this;
  }

  /** An event is told as an attribute that says when it was, in milliseconds after the span's begin. */
  override addEvent(name: string, ...of: unknown[]): this {
    const time = of.findLast(isTime);
    const ms = wallMsOf(time) - this.#startMs;
    return this.setAttribute(`event ${name.slice(0, NAME_LENGTH_MAX)}`, `+${Math.max(0, ms).toFixed(3)} ms`);
  }

  override addLink({ context }: Link): this {
    if (isSound(context) && this.#links.length < LINKS_MAX) this.#links.push(asUuid(context.traceId));
    return this;
  }

  override addLinks(links: Link[]): this {
    for (const link of links) this.addLink(link);
    return this;
  }

  /** OK is final, and what is not set sets nothing (OpenTelemetry, trace API, "Set Status"). */
  override setStatus(status: SpanStatus): this {
    const code: number = status.code;
    if (this.#code !== OK && code !== UNSET) [this.#code, this.#message] = [code, status.message ?? ""];
    return this;
  }

  override updateName(name: string): this {
    this.#name = name;
    return this;
  }

  override recordException(exception: Exception): void {
    const { name, message } = typeof exception === "string" ? { name: "", message: exception } : exception;
    this.#exception = [name, message].filter(Boolean).join(": ");
  }

  /** Tells the step; a span ends once. */
  override end(time?: TimeInput): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { requestId, spanId, parentId, tracer } = this.#begun;
    if (!tracer) return;
    const device = this.#attributes.get(DEVICE_KEY);
    const note = this.#note();
    tracer.add({
      requestId,
      spanId,
      ...(parentId === undefined ? {} : { parentId }),
      service: tracer.service,
      operation: this.#name.slice(0, NAME_LENGTH_MAX) || "(no name)",
      startNs: BigInt(Math.round(this.#startMs * NS_PER_MS)),
      durationUs: Math.max(0, Math.round((wallMsOf(time) - this.#startMs) * 1_000)),
      status: this.#statusOf(),
      ...(note === "" ? {} : { note }),
      ...(device === undefined ? {} : { device }),
      ...(this.#links.length === 0 ? {} : { link: this.#links.join(" ") }),
    });
  }

  /** The HTTP status that a failure stands for. */
  #statusOf(): number {
    if (this.#code !== ERROR) return 0;
    const status = Number(STATUS_KEYS.map((key) => this.#attributes.get(key)).find(Boolean));
    return status >= 400 && status <= 999 ? status : 500;
  }

  #note(): string {
    const said = this.#code === ERROR ? [this.#message, this.#exception] : [this.#exception];
    const told = [...this.#attributes].filter(([key]) => key !== DEVICE_KEY).map(([key, value]) => `${key}=${value}`);
    return [...new Set(said), ...told].filter(Boolean).join("; ").slice(0, NOTE_LENGTH_MAX);
  }
}

const isTime = (value: unknown): value is TimeInput =>
  typeof value === "number" || value instanceof Date || Array.isArray(value);

/** Reads a time as milliseconds since 1970: a Date, seconds and nanoseconds, a number of either clock; now where there is none. */
function wallMsOf(time: TimeInput | undefined): number {
  if (time === undefined) return performance.timeOrigin + performance.now();
  if (time instanceof Date) return time.getTime();
  const ms = typeof time === "number" ? time : time[0] * 1_000 + time[1] / NS_PER_MS;
  return ms < performance.timeOrigin / 2 ? performance.timeOrigin + ms : ms;
}
