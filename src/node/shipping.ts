/** Ships a process's spans and notes for the audit trail to the trace service; while it is away they wait, within their limits. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Auditor } from "../kernel/audit.ts";
import { makeCall } from "../kernel/call.ts";
import { asFailure } from "../kernel/error.ts";
import type { Log } from "../kernel/log.ts";
import type { Span, Tracer } from "../kernel/trace.ts";
import type { Trace } from "../services/trace/api.ts";

const SHIP_EVERY_MS = 1_000;
/** A note goes to the trail at once, with those that come in the same moment: what a process has not shipped ends with it. */
const AUDIT_WAIT_MS = 100;
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
  readonly tracer: Tracer;
  readonly audit: Auditor;
  readonly trace: Trace;
  readonly caller: string;
  readonly log: Log;
}

/** Begins; the result ships what is left and ends. */
export function ship(options: Shipped): () => Promise<void> {
  const { audit } = options;
  const told = { away: false };
  let running: Promise<void> | undefined;
  const all = async (): Promise<void> => {
    if (!(await inTold(options, told, shipAudit))) return;
    await inTold(options, told, shipSpans);
  };
  const soon = (): void => void (running ??= all().finally(() => (running = undefined)));
  const timer = setInterval(soon, SHIP_EVERY_MS).unref();
  let early: NodeJS.Timeout | undefined;
  audit.onNote = () => {
    if (told.away) return;
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
    const last = (running ?? Promise.resolve()).then(all);
    await Promise.race([last, sleep(LAST_WAIT_MS, undefined, { ref: false })]);
  };
}

/** Says once an outage that the trace service is away: forensics never fills the log of what it looks at. */
async function inTold(
  options: Shipped,
  told: { away: boolean },
  work: (options: Shipped) => Promise<void>,
): Promise<boolean> {
  try {
    await work(options);
    told.away = false;
    return true;
  } catch (error) {
    const { code } = asFailure(error);
    if (!told.away) options.log.info({ code }, "the trace service is away; spans and notes wait in memory");
    told.away = true;
    return false;
  }
}

async function shipSpans({ tracer, trace, caller }: Shipped): Promise<void> {
  const spans = tracer.take().filter((span) => !isHousekeeping(span));
  for (let at = 0; at < spans.length; at += SPANS_MAX) {
    const call = makeCall({ caller, timeoutMs: SHIP_TIMEOUT_MS });
    const { dropped } = tracer;
    try {
      await trace.record({ body: { spans: spans.slice(at, at + SPANS_MAX) as never, dropped } }, call);
      tracer.dropped -= dropped;
    } catch (error) {
      tracer.giveBack(spans.slice(at));
      throw error;
    } finally {
      call.end(false);
    }
  }
}

async function shipAudit({ audit, trace, caller }: Shipped): Promise<void> {
  const entries = audit.take();
  const { dropped } = audit;
  if (entries.length === 0 && dropped === 0) return;
  const call = makeCall({ caller, timeoutMs: SHIP_TIMEOUT_MS });
  try {
    await trace.audit({ body: { entries, dropped } }, call);
    audit.dropped -= dropped;
  } catch (error) {
    audit.giveBack(entries);
    throw error;
  } finally {
    call.end(false);
  }
}
