/**
 * Brings the node's telemetry into the outbox for a destination: spans as the trace service has them, decided by tail, and the
 * metrics of every instance. The position in the trace service's feed goes into the outbox with the spans that it stands for.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { zstdCompressSync } from "node:zlib";
import { type Call, makeCall } from "../../../kernel/call.ts";
import type { Clock } from "../../../kernel/clock.ts";
import { asFailure } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import type { Metrics } from "../../../kernel/metrics/metrics.ts";
import type { StoredSpan, Trace } from "../../trace/api.ts";
import type { OtlpConfig } from "../destinations/config.ts";
import type { Outbox } from "../outbox/outbox.ts";
import { metricsOf, type Teller, tracesOf } from "./otlp.ts";
import type { Signal } from "./protobuf.ts";
import { Tail } from "./tail.ts";

/** A pipeline has no such name: it begins with a letter or a digit. */
export const TELEMETRY_PREFIX = "~telemetry.";
/** Telemetry yields to what devices say. */
const PRIORITY = 0;
const LOOK_EVERY_MS = 1_000;
const CALL_TIMEOUT_MS = 5_000;
/** Spans of one batch: about half a megabyte in OTLP. */
const BATCH_SPANS_MAX = 1_000;
/** Of one answer of the trace service. */
const PAGE_SPANS_MAX = 1_000;
const DECIDED_SPANS_MAX = 4_096;

export interface TelemetryOptions extends Teller {
  readonly destination: string;
  readonly config: OtlpConfig;
  readonly trace: Trace;
  readonly outbox: Pick<Outbox, "add" | "followed">;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export class Telemetry {
  readonly #o: TelemetryOptions;
  readonly #tail: Tail;
  readonly #pipeline: string;
  /** Not in the outbox yet. */
  readonly #decided: StoredSpan[] = [];
  #read: number;
  #toldMs: number;
  #isFailing = false;
  #missed = 0;

  constructor(options: TelemetryOptions) {
    const { clock, config, destination, metrics, outbox } = options;
    this.#o = options;
    this.#pipeline = TELEMETRY_PREFIX + destination;
    this.#tail = new Tail({
      share: config.tracesShare,
      slowMs: config.slowMs,
      waitMs: config.decideAfterMs,
      monotonicMs: () => clock.monotonicMs(),
    });
    this.#read = outbox.followed(this.#pipeline)?.through ?? Number.MAX_SAFE_INTEGER;
    this.#toldMs = clock.monotonicMs() - config.metricsEveryMs;
    metrics.read(
      "counter",
      "holdfast_telemetry_missed_spans",
      "Spans that were gone before they were sent, by destination.",
      () => [[{ destination }, this.#missed]],
    );
  }

  /** Works until the signal aborts; what is undecided then is decided anew at the next start. */
  async run(): Promise<void> {
    const { log, signal, destination } = this.#o;
    while (!signal.aborted) {
      try {
        await this.#spans();
        await this.#metrics();
        this.#isFailing = false;
      } catch (error) {
        const { code, message } = asFailure(error);
        if (!this.#isFailing && !signal.aborted)
          log.warn({ destination, code, err: message }, "telemetry cannot be queued; it is tried again");
        this.#isFailing = true;
      }
      await sleep(LOOK_EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #spans(): Promise<void> {
    const { config } = this.#o;
    if (!config.traces) return;
    // While the outbox takes nothing the position stands still.
    while (this.#decided.length < DECIDED_SPANS_MAX) {
      const after = this.#read;
      const { spans, next, missed } = await this.#asking((call) =>
        this.#o.trace.newest({ after, limit: PAGE_SPANS_MAX }, call),
      );
      this.#missed += missed;
      for (const [i, span] of spans.entries()) this.#tail.add(span, Math.max(0, next - spans.length + i));
      this.#read = next;
      if (spans.length < PAGE_SPANS_MAX) break;
    }
    this.#decided.push(...this.#tail.take());
    while (this.#decided.length > 0) {
      const through = this.#decided.length <= BATCH_SPANS_MAX ? this.#tail.through(this.#read) : undefined;
      await this.#queue("traces", tracesOf(this.#o, this.#decided.slice(0, BATCH_SPANS_MAX)), through);
      this.#decided.splice(0, BATCH_SPANS_MAX);
    }
  }

  async #metrics(): Promise<void> {
    const { clock, config, trace } = this.#o;
    const nowMs = clock.monotonicMs();
    if (!config.metrics || nowMs - this.#toldMs < config.metricsEveryMs) return;
    const { instances } = await this.#asking((call) => trace.metrics({}, call));
    if (instances.length === 0) return;
    this.#toldMs = nowMs;
    await this.#queue("metrics", metricsOf(this.#o, instances, clock.wallNs()));
  }

  /** Queues a request; a batch without events. */
  async #queue(signal: Signal, request: object, through?: number): Promise<void> {
    const { clock, destination, outbox } = this.#o;
    const batch = { events: 0, readings: 0, queuedNs: clock.wallNs(), through };
    const shipment = { pipeline: this.#pipeline, destinations: [destination], priority: PRIORITY };
    await outbox.add(shipment, [{ ...batch, blocks: pack(signal, request) }]);
  }

  async #asking<T>(ask: (call: Call) => Promise<T>): Promise<T> {
    const call = makeCall({ caller: "pipeline", timeoutMs: CALL_TIMEOUT_MS, signal: this.#o.signal });
    try {
      return await ask(call);
    } finally {
      call.end(false);
    }
  }
}

/** A batch of telemetry as the outbox holds it: OTLP/JSON, packed; which form it takes on the wire is the destination's to say. */
const pack = (signal: Signal, request: object): Buffer =>
  zstdCompressSync(Buffer.from(JSON.stringify({ signal, request })));
