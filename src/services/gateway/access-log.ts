/** What is written of a request when it is over: a count, one log line, one span. */
import type { Clock } from "../../kernel/clock.ts";
import type { Failure } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { Tracer } from "../../kernel/trace.ts";
import { GATEWAY_BUSY } from "./api.ts";
import type { Metrics } from "./metrics.ts";
import type { Visit } from "./visit.ts";

export interface Passed {
  readonly visit: Visit;
  readonly failure: Failure | undefined;
  readonly status: number;
  /** Of the answer's body. */
  readonly bytes: number;
}

/** As much of a URL as is worth a line. */
const URL_LENGTH_MAX = 200;

/** Notes a request that is over. Never its token, its headers or its bodies. */
export function noteRequest(
  { clock, log, metrics, tracer }: { clock: Clock; log: Log; metrics: Metrics; tracer: Tracer },
  { visit, failure, status, bytes }: Passed,
): void {
  const { service, operation, verdict, method, client, url, requestId, spanId, startMs, head } = visit;
  const ms = clock.monotonicMs() - startMs;
  // What is asked all the time, and what a flood is made of, is counted and not written.
  const quiet = visit.quiet || status === 429 || failure?.code === GATEWAY_BUSY.code;
  const traced = verdict && !quiet ? requestId : undefined;
  metrics.finished(service, operation, status, ms * 1000, traced, traced === undefined ? 0 : clock.wallMs());
  log[quiet ? "debug" : "info"]({
    requestId,
    subject: verdict?.subject.name,
    upstream: service,
    operation,
    method,
    status,
    ms: Math.round(ms * 1000) / 1000,
    bytes,
    client,
    code: failure?.code,
    clientCorrelationId: head?.correlationId,
    clientTraceId: head?.traceId,
    // Its query may be a secret (`?token=`).
    url: operation === "unknown" ? url.split("?", 1)[0].slice(0, URL_LENGTH_MAX) : undefined,
  });
  // Only of people we know: strangers do not fill the store of traces.
  if (traced === undefined) return;
  const queuedUs = Math.round((visit.ticket?.queuedMs ?? 0) * 1_000);
  const link = [head?.correlationId, head?.traceId].filter((id) => id !== undefined).join(" ");
  tracer.step({ requestId, spanId }, `${service} ${operation}`, startMs, status < 400 ? 0 : status, {
    bytes,
    ...(visit.cache === undefined ? {} : { cache: visit.cache }),
    ...(visit.ticket?.retries ? { retries: visit.ticket.retries } : {}),
    ...(queuedUs > 0 ? { queuedUs } : {}),
    ...(failure ? { note: failure.code } : {}),
    ...(link === "" ? {} : { link }),
  });
}
