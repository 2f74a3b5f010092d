/**
 * Brings the node's telemetry into the outbox for a destination: spans as the trace service has them and log lines as the log
 * book has them, decided by tail, and the metrics of every instance. The position in either feed goes into the outbox with
 * what it stands for.
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
import { LEVELS, type LineBook } from "./lines.ts";
import { logsOf, metricsOf, type Teller, tracesOf } from "./otlp.ts";
import type { Signal } from "./protobuf.ts";
import { Tail, type TracedLine } from "./tail.ts";

/** A pipeline has no such name: it begins with a letter or a digit. */
const TELEMETRY_PREFIX = "~telemetry.";
/** The log book has positions of its own. */
const LINES_PREFIX = "~lines.";
/** Telemetry yields to what devices say. */
const PRIORITY = 0;
const LOOK_EVERY_MS = 1_000;
const CALL_TIMEOUT_MS = 5_000;
/** Spans of one batch: about half a megabyte in OTLP. */
const BATCH_SPANS_MAX = 1_000;
/** Of one answer of the trace service. */
const PAGE_SPANS_MAX = 1_000;
const DECIDED_MAX = 4_096;
/** Lines of one batch: about half a megabyte in OTLP. */
const BATCH_LINES_MAX = 1_000;

export interface TelemetryOptions extends Teller {
  readonly destination: string;
  readonly config: OtlpConfig;
  readonly trace: Trace;
  readonly book: Pick<LineBook, "read">;
  readonly outbox: Pick<Outbox, "add" | "followed">;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export class Telemetry {
  readonly #o: TelemetryOptions;
  readonly #tail: Tail;
  /** Not in the outbox yet. */
  readonly #decided: StoredSpan[] = [];
  readonly #decidedLines: TracedLine[] = [];
  #read: number;
  #readLines: number;
  #toldMs: number;
  #isFailing = false;
  #missed = 0;
  #missedLines = 0;

  constructor(options: TelemetryOptions) {
    const { clock, config, destination, metrics, outbox } = options;
    this.#o = options;
    this.#tail = new Tail({
      share: config.tracesShare,
      slowMs: config.slowMs,
      waitMs: config.decideAfterMs,
      lineLevel: LEVELS[config.logsLevel],
      monotonicMs: () => clock.monotonicMs(),
    });
    const followed = (prefix: string) => outbox.followed(prefix + destination)?.through ?? Number.MAX_SAFE_INTEGER;
    this.#read = followed(TELEMETRY_PREFIX);
    this.#readLines = followed(LINES_PREFIX);
    this.#toldMs = clock.monotonicMs() - config.metricsEveryMs;
    metrics.read(
      "counter",
      "holdfast_telemetry_missed_spans",
      "Spans that were gone before they were sent, by destination.",
      () => [[{ destination }, this.#missed]],
    );
    metrics.read(
      "counter",
      "holdfast_telemetry_missed_lines",
      "Log lines that were gone before they were sent, by destination.",
      () => [[{ destination }, this.#missedLines]],
    );
  }

  /** Works until the signal aborts; what is undecided then is decided anew at the next start. */
  async run(): Promise<void> {
    const { log, signal, destination } = this.#o;
    while (!signal.aborted) {
      try {
        await this.#readSpans();
        await this.#readBook();
        await this.#tell();
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

  /** While the outbox takes nothing the position stands still. */
  async #readSpans(): Promise<void> {
    if (!this.#o.config.traces) return;
    while (this.#decided.length < DECIDED_MAX) {
      const after = this.#read;
      const { spans, next, missed } = await this.#asking((call) =>
        this.#o.trace.newest({ after, limit: PAGE_SPANS_MAX }, call),
      );
      this.#missed += missed;
      for (const [i, span] of spans.entries()) this.#tail.add(span, Math.max(0, next - spans.length + i));
      this.#read = next;
      if (spans.length < PAGE_SPANS_MAX) break;
    }
  }

  async #readBook(): Promise<void> {
    const { book, config } = this.#o;
    if (!config.logs) return;
    while (this.#decidedLines.length < DECIDED_MAX) {
      const page = await book.read(this.#readLines);
      if (!page) return;
      this.#missedLines += page.missed;
      for (const { line, position } of page.lines) this.#tail.addLine(line, position);
      this.#readLines = page.next;
      if (page.lines.length === 0) return;
    }
  }

  /** Queues what is decided; with the last of it goes how far all is. */
  async #tell(): Promise<void> {
    const { clock } = this.#o;
    const { spans, lines } = this.#tail.take();
    this.#decided.push(...spans);
    this.#decidedLines.push(...lines);
    while (this.#decided.length > 0) {
      const through = this.#decided.length <= BATCH_SPANS_MAX ? this.#tail.through(this.#read, "spans") : undefined;
      const request = tracesOf(this.#o, this.#decided.slice(0, BATCH_SPANS_MAX));
      await this.#queue(TELEMETRY_PREFIX, "traces", request, through);
      this.#decided.splice(0, BATCH_SPANS_MAX);
    }
    while (this.#decidedLines.length > 0) {
      const isLast = this.#decidedLines.length <= BATCH_LINES_MAX;
      const through = isLast ? this.#tail.through(this.#readLines, "lines") : undefined;
      const request = logsOf(this.#o, this.#decidedLines.slice(0, BATCH_LINES_MAX), clock.wallNs());
      await this.#queue(LINES_PREFIX, "logs", request, through);
      this.#decidedLines.splice(0, BATCH_LINES_MAX);
    }
  }

  async #metrics(): Promise<void> {
    const { clock, config, trace } = this.#o;
    const nowMs = clock.monotonicMs();
    if (!config.metrics || nowMs - this.#toldMs < config.metricsEveryMs) return;
    const { instances } = await this.#asking((call) => trace.metrics({}, call));
    if (instances.length === 0) return;
    this.#toldMs = nowMs;
    await this.#queue(TELEMETRY_PREFIX, "metrics", metricsOf(this.#o, instances, clock.wallNs()));
  }

  /** Queues a request; a batch without events. */
  async #queue(prefix: string, signal: Signal, request: object, through?: number): Promise<void> {
    const { clock, destination, outbox } = this.#o;
    const batch = { events: 0, readings: 0, queuedNs: clock.wallNs(), through };
    const shipment = { pipeline: prefix + destination, destinations: [destination], priority: PRIORITY };
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
