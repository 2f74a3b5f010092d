/** Spans: what was done when, how long, how it ended. Collected here, shipped by the process to the trace service. */
import type { Call } from "./call.ts";
import { newSpanId } from "./call.ts";
import type { Clock } from "./clock.ts";
import { Failure } from "./error.ts";

/** Events a step handled together, told by their numbers: one span for a batch serves the trace of each event in it. */
export interface Range {
  readonly publisher: string;
  readonly epoch: number;
  readonly from: number;
  readonly to: number;
}

export interface Span {
  /** Of the top-level request; absent on a step that handled events of many requests (then `ranges` says which). */
  readonly requestId?: string;
  readonly spanId: string;
  readonly parentId?: string;
  readonly service: string;
  /** Operation as the contract calls it, or the step's name in the story. */
  readonly operation: string;
  readonly startNs: bigint;
  readonly durationUs: number;
  /** 0 for fine, else the HTTP status that the failure stands for. */
  readonly status: number;
  /** A short note for the reader: sizes, positions, the error's code. Never telemetry or secrets. */
  readonly note?: string;
  /** The device that it was about. */
  readonly device?: string;
  /** What a stranger called the request: his ids, a space between. A link, never our own id. */
  readonly link?: string;
  /** Of what was answered or sent. */
  readonly bytes?: number;
  /** Of the duration, so much went by in a queue. */
  readonly queuedUs?: number;
  /** How often it was tried again. */
  readonly retries?: number;
  /** How a cache answered: `hit`, `stale`, `miss`. */
  readonly cache?: string;
  readonly ranges?: readonly Range[];
}

/** Spans waiting in memory; above it the oldest are dropped and counted (forensics never costs the service its life). */
export const SPANS_WAITING_MAX = 4096;

/** What a step may tell of itself beside its time and its end. */
export type Told = Pick<Span, "note" | "device" | "link" | "bytes" | "queuedUs" | "retries" | "cache">;

export class Tracer {
  readonly service: string;
  readonly #clock: Clock;
  #waiting: Span[] = [];
  dropped = 0;

  constructor(service: string, clock: Clock) {
    this.service = service;
    this.#clock = clock;
  }

  /** Notes a finished step of a request. `startMs` is on the monotonic clock. */
  step(
    call: Pick<Call, "requestId" | "spanId" | "parentId">,
    operation: string,
    startMs: number,
    status = 0,
    told: Told = {},
  ): void {
    const { requestId, spanId, parentId } = call;
    const span = { requestId, spanId, ...this.#timed(operation, startMs, status), ...told };
    this.add(parentId === undefined ? span : { ...span, parentId });
  }

  /** Notes a finished step that handled ranges of events. */
  batch(operation: string, startMs: number, ranges: readonly Range[], note?: string): void {
    const told = note === undefined ? {} : { note };
    this.add({ spanId: newSpanId(), ranges, ...this.#timed(operation, startMs, 0), ...told });
  }

  /** Runs a step and notes it, however it ends. */
  async around<T>(call: Call, operation: string, work: () => Promise<T>, told: Told = {}): Promise<T> {
    const startMs = this.#clock.monotonicMs();
    const inner = { requestId: call.requestId, spanId: newSpanId(), parentId: call.spanId };
    try {
      const result = await work();
      this.step(inner, operation, startMs, 0, told);
      return result;
    } catch (error) {
      const [status, note] = error instanceof Failure ? [error.status, error.code] : [500, "KERNEL_INTERNAL"];
      this.step(inner, operation, startMs, status, { ...told, note });
      throw error;
    }
  }

  add(span: Span): void {
    if (this.#waiting.length >= SPANS_WAITING_MAX) {
      this.#waiting.splice(0, SPANS_WAITING_MAX / 4);
      this.dropped += SPANS_WAITING_MAX / 4;
    }
    this.#waiting.push(span);
  }

  /** Hands over what waits. */
  take(): Span[] {
    const spans = this.#waiting;
    this.#waiting = [];
    return spans;
  }

  /** Puts back what could not be shipped, in front, within the limit. */
  giveBack(spans: Span[]): void {
    const room = SPANS_WAITING_MAX - this.#waiting.length;
    this.dropped += Math.max(0, spans.length - room);
    if (room > 0) this.#waiting = [...spans.slice(-room), ...this.#waiting];
  }

  #timed(operation: string, startMs: number, status: number) {
    const durationUs = Math.max(0, Math.round((this.#clock.monotonicMs() - startMs) * 1000));
    return {
      service: this.service,
      operation,
      startNs: this.#clock.wallNs() - BigInt(durationUs) * 1000n,
      durationUs,
      status,
    };
  }
}
