/** What is written of a request when it is over: a count, one log line, one span. */
import type { Auditor } from "../../kernel/audit.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Failure } from "../../kernel/error.ts";
import { jsonOf, type Log, logFields } from "../../kernel/log.ts";
import type { Told, Tracer } from "../../kernel/trace.ts";
import {
  GATEWAY_CERTIFICATE_INVALID,
  GATEWAY_CROSS_SITE,
  GATEWAY_LOGIN_FAILED,
  GATEWAY_POLICY_REFUSED,
} from "./access.api.ts";
import { GATEWAY_BUSY, GATEWAY_SCOPE_MISSING, GATEWAY_TOKEN_INVALID, GATEWAY_TOKENS_GUESSED } from "./api.ts";
import type { Metrics } from "./metrics.ts";
import type { Visit } from "./visit.ts";

export interface Passed {
  readonly visit: Visit;
  readonly failure: Failure | undefined;
  readonly status: number;
  /** Of the answer's body. */
  readonly bytes: number;
}

export interface Notes {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly tracer: Tracer;
  readonly audit: Auditor;
}

/** Somebody was denied, or was not who they said: the audit trail keeps it. What comes without a token is everybody's first request. */
const DENIALS: ReadonlySet<string | undefined> = new Set(
  [
    GATEWAY_TOKEN_INVALID,
    GATEWAY_SCOPE_MISSING,
    GATEWAY_POLICY_REFUSED,
    GATEWAY_CERTIFICATE_INVALID,
    GATEWAY_CROSS_SITE,
    GATEWAY_LOGIN_FAILED,
    GATEWAY_TOKENS_GUESSED,
  ].map(({ code }) => code),
);

/** Readings that people hand in are data, not deeds; they come by thousands. */
const DATA: ReadonlySet<string> = new Set(["core-data", "bus"]);
const READS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** As much of a URL as is worth a line. */
const URL_LENGTH_MAX = 200;

/** Notes a request that is over. Never its token, its headers or its bodies. */
export function noteRequest(notes: Notes, { visit, failure, status, bytes }: Passed): void {
  const { clock, log, metrics, tracer } = notes;
  const { service, operation, verdict, method, requestId, spanId, startMs, head } = visit;
  const ms = clock.monotonicMs() - startMs;
  // What is asked all the time, and what a flood is made of, is counted and not written.
  const quiet = visit.quiet || status === 429 || failure?.code === GATEWAY_BUSY.code;
  const traced = verdict && !quiet ? requestId : undefined;
  metrics.finished(service, operation, status, ms * 1000, traced, traced === undefined ? 0 : clock.wallMs());
  const level = quiet ? "debug" : "info";
  if (log.isLevelEnabled(level)) logFields(log, level, lineOf({ visit, failure, status, bytes }, ms));
  const isDeed = verdict && status < 400 && !READS.has(method) && !DATA.has(service);
  if (DENIALS.has(failure?.code)) noteDeed(notes.audit, visit, "denied", failure?.code);
  else if (isDeed) noteDeed(notes.audit, visit, "done");
  // Only of people we know: strangers do not fill the store of traces.
  if (traced === undefined) return;
  const told: { -readonly [name in keyof Told]: Told[name] } = { bytes };
  if (visit.cache !== undefined) told.cache = visit.cache;
  if (visit.ticket?.retries) told.retries = visit.ticket.retries;
  if (visit.ticket?.queuedMs) told.queuedUs = Math.round(visit.ticket.queuedMs * 1_000);
  if (failure) told.note = failure.code;
  if (head?.correlationId ?? head?.traceId)
    told.link = [head?.correlationId, head?.traceId].filter((id) => id !== undefined).join(" ");
  tracer.step({ requestId, spanId }, `${service} ${operation}`, startMs, status < 400 ? 0 : status, told);
}

/** The fields of a request's line. */
function lineOf({ visit, failure, status, bytes }: Passed, ms: number): string {
  const { service, operation, verdict, method, client, url, requestId, head } = visit;
  const field = (name: string, value: string | undefined) => (value === undefined ? "" : `,"${name}":${jsonOf(value)}`);
  return (
    `"requestId":"${requestId}"${field("subject", verdict?.subject.name)}${field("upstream", service)}` +
    `${field("operation", operation)}${field("method", method)},"status":${status},"ms":${Math.round(ms * 1000) / 1000},` +
    `"bytes":${bytes}${field("client", client)}${field("code", failure?.code)}` +
    `${field("clientCorrelationId", head?.correlationId)}${field("clientTraceId", head?.traceId)}` +
    // Its query may be a secret (`?token=`).
    (operation === "unknown" ? field("url", url.split("?", 1)[0].slice(0, URL_LENGTH_MAX)) : "")
  );
}

/** The path without its query, which may hold what is nobody's to keep. */
function noteDeed(
  audit: Auditor,
  { service, operation, verdict, method, client, requestId, target }: Visit,
  outcome: "done" | "denied",
  note?: string,
) {
  const who = verdict?.subject.name ?? client;
  audit.note({
    action: `${service} ${operation}`,
    outcome,
    who,
    what: `${method} ${target?.path ?? ""}`,
    requestId,
    note,
  });
}
