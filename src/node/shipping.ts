/** Ships a process's spans to the trace service every second; while it is away they wait, within the tracer's limit. */
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../kernel/call.ts";
import { asFailure } from "../kernel/error.ts";
import type { Log } from "../kernel/log.ts";
import type { Span, Tracer } from "../kernel/trace.ts";
import type { Trace } from "../services/trace/api.ts";

const SHIP_EVERY_MS = 1_000;
const SHIP_TIMEOUT_MS = 2_000;
const LAST_WAIT_MS = 300;
/** A batch of spans stays well under the trace service's body limit. */
const SPANS_MAX = 2_048;

/** Steps that only keep the house running: shipped, they would make a span of every span. */
const isHousekeeping = (span: Span): boolean =>
  span.status === 0 &&
  ((span.service === "trace" && span.operation === "record") ||
    (span.service === "core-keeper" && span.operation === "renew"));

/** Begins; the result ships what is left and ends. */
export function shipSpans(options: { tracer: Tracer; trace: Trace; caller: string; log: Log }): () => Promise<void> {
  const { tracer, trace, caller, log } = options;
  let away = false;
  let running: Promise<void> | undefined;
  async function ship(): Promise<void> {
    const spans = tracer.take().filter((span) => !isHousekeeping(span));
    for (let at = 0; at < spans.length; at += SPANS_MAX) {
      const call = makeCall({ caller, timeoutMs: SHIP_TIMEOUT_MS });
      const { dropped } = tracer;
      try {
        await trace.record({ body: { spans: spans.slice(at, at + SPANS_MAX) as never, dropped } }, call);
        tracer.dropped -= dropped;
        away = false;
      } catch (error) {
        tracer.giveBack(spans.slice(at));
        // Once an outage: forensics never fills the log of what it looks at.
        if (!away) log.info({ code: asFailure(error).code }, "the trace service is away; spans wait in memory");
        away = true;
        return;
      } finally {
        call.end(false);
      }
    }
  }
  const timer = setInterval(() => {
    running ??= ship().finally(() => (running = undefined));
  }, SHIP_EVERY_MS).unref();
  return async () => {
    clearInterval(timer);
    // The trace service may have stopped before: whoever waits for it to come back would stop for seconds.
    const last = (running ?? Promise.resolve()).then(ship);
    await Promise.race([last, sleep(LAST_WAIT_MS, undefined, { ref: false })]);
  };
}
