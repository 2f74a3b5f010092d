/**
 * Ships what a process knows of itself to the trace service: notes for the audit trail at once, spans every second, metrics every
 * few. While it is away they wait, within their limits.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Auditor } from "../kernel/audit.ts";
import { type Call, makeCall } from "../kernel/call.ts";
import { asFailure } from "../kernel/error.ts";
import type { Log } from "../kernel/log.ts";
import type { Metrics } from "../kernel/metrics/metrics.ts";
import type { Span, Tracer } from "../kernel/trace.ts";
import type { Trace } from "../services/trace/api.ts";

const SHIP_EVERY_MS = 1_000;
/** A note goes to the trail at once, with those that come in the same moment: what a process has not shipped ends with it. */
const AUDIT_WAIT_MS = 100;
/** Metrics are told with every so many-th batch of spans. */
const METRICS_EVERY = 5;
const SHIP_TIMEOUT_MS = 2_000;
const LAST_WAIT_MS = 300;
/** A batch of spans stays well under the trace service's body limit. */
const SPANS_MAX = 2_048;

/** Steps that only keep the house running: shipped, they would make a span of every span. */
const isHousekeeping = (span: Span): boolean =>
  span.status === 0 &&
  ((span.service === "trace" && span.operation === "record") ||
    (span.service === "core-keeper" && span.operation === "renew"));

export interface Shipped {
  readonly part: { readonly name: string; readonly instance: string };
  readonly tracer: Tracer;
  readonly audit: Auditor;
  readonly metrics: Metrics;
  readonly trace: Trace;
  readonly log: Log;
}

/** Begins; the result ships what is left and ends. */
export function ship(options: Shipped): () => Promise<void> {
  const { audit } = options;
  const shipping = new Shipping(options);
  let running: Promise<void> | undefined;
  let turn = 0;
  const soon = (withMetrics = false): void =>
    void (running ??= shipping.ship(withMetrics).finally(() => (running = undefined)));
  const timer = setInterval(() => soon(turn++ % METRICS_EVERY === 0), SHIP_EVERY_MS).unref();
  let early: NodeJS.Timeout | undefined;
  audit.onNote = () => {
    if (shipping.isAway) return;
    early ??= setTimeout(() => {
      early = undefined;
      soon();
    }, AUDIT_WAIT_MS).unref();
  };
  return async () => {
    clearInterval(timer);
    clearTimeout(early);
    audit.onNote = undefined;
    // The trace service may have stopped before: whoever waits for it to come back would stop for seconds.
    const last = (running ?? Promise.resolve()).then(() => shipping.end());
    await Promise.race([last, sleep(LAST_WAIT_MS, undefined, { ref: false })]);
  };
}

class Shipping {
  readonly #o: Shipped;
  isAway = false;
  /** Spans that were lost, as far as the trace service knows of it. */
  #droppedTold = 0;

  constructor(options: Shipped) {
    this.#o = options;
    const { metrics, tracer } = options;
    const dropped = () => this.#droppedTold + tracer.dropped;
    metrics.read(
      "counter",
      "holdfast_spans_dropped",
      "Spans that were lost before the trace service had them.",
      dropped,
    );
  }

  /** Says once an outage that the trace service is away: forensics never fills the log of what it looks at. */
  async ship(withMetrics: boolean): Promise<void> {
    try {
      await this.#audit();
      await this.#spans();
      if (withMetrics) await this.#metrics();
      this.isAway = false;
    } catch (error) {
      const { code } = asFailure(error);
      if (!this.isAway) this.#o.log.info({ code }, "the trace service is away; spans and notes wait in memory");
      this.isAway = true;
    }
  }

  /** Ships what is left, and has the metrics of this instance forgotten. */
  async end(): Promise<void> {
    await this.ship(false);
    if (!this.isAway) await this.#report({ families: [], ends: true });
  }

  async #audit(): Promise<void> {
    const { audit, trace } = this.#o;
    const entries = audit.take();
    const { dropped } = audit;
    if (entries.length === 0 && dropped === 0) return;
    try {
      await this.#asking((call) => trace.audit({ body: { entries, dropped } }, call));
    } catch (error) {
      audit.giveBack(entries);
      throw error;
    }
    audit.dropped -= dropped;
  }

  async #spans(): Promise<void> {
    const { tracer, trace } = this.#o;
    const spans = tracer.take().filter((span) => !isHousekeeping(span));
    for (let at = 0; at < spans.length; at += SPANS_MAX) {
      const { dropped } = tracer;
      const body = { spans: spans.slice(at, at + SPANS_MAX) as never, dropped };
      try {
        await this.#asking((call) => trace.record({ body }, call));
      } catch (error) {
        tracer.giveBack(spans.slice(at));
        throw error;
      }
      tracer.dropped -= dropped;
      this.#droppedTold += dropped;
    }
  }

  #metrics(): Promise<void> {
    return this.#report({ families: this.#o.metrics.families() });
  }

  #report(told: { families: ReturnType<Metrics["families"]>; ends?: boolean }): Promise<void> {
    const { part, trace } = this.#o;
    return this.#asking((call) => trace.report({ body: { ...told, instance: part.instance } as never }, call));
  }

  async #asking(ask: (call: Call) => Promise<unknown>): Promise<void> {
    const call = makeCall({ caller: this.#o.part.name, timeoutMs: SHIP_TIMEOUT_MS });
    try {
      await ask(call);
    } finally {
      call.end(false);
    }
  }
}
