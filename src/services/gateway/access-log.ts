/** What is written of a request when it is over: a count, one log line, one span. */
import type { Clock } from "../../kernel/clock.ts";
import type { Failure } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { Tracer } from "../../kernel/trace.ts";
import type { Head } from "./headers.ts";
import type { Metrics } from "./metrics.ts";
import type { Visit } from "./service.ts";

export interface Passed {
  readonly requestId: string;
  readonly spanId: string;
  readonly startMs: number;
  readonly visit: Visit;
  readonly head: Head | undefined;
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
  { requestId, spanId, startMs, visit, head, failure, status, bytes }: Passed,
): void {
  const { service = "gateway", operation = "unknown", verdict, page, method, client, url } = visit;
  const ms = clock.monotonicMs() - startMs;
  metrics.finished(service, operation, status, ms * 1000);
  const known = page !== undefined || service !== "gateway";
  // What is asked all the time, and what a flood is made of, is counted and not written.
  const quiet = page === "health" || page === "ready" || page === "metrics" || status === 429;
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
    url: known ? undefined : url.slice(0, URL_LENGTH_MAX),
  });
  // Only of people we know: strangers do not fill the store of traces.
  if (!verdict || quiet) return;
  const note = [failure?.code, head?.correlationId && `client's id ${head.correlationId}`].filter(Boolean).join(", ");
  tracer.step({ requestId, spanId }, `${service} ${operation}`, startMs, status < 400 ? 0 : status, note || undefined);
}
