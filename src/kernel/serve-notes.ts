/** What is written down of a request when it is over: a log line, a span, a count, and what belongs in the audit trail. */
import type { FastifyRequest } from "fastify";
import type { Call } from "./call.ts";
import type { Contract, Operation } from "./contract.ts";
import { CALLER_REFUSED, type Failure } from "./error.ts";
import type { ServeOptions } from "./serve.ts";

/** Finds the device in a request's path, as EdgeX writes them: `/device/name/:name`. */
export function deviceOf(op: Operation): ((request: FastifyRequest) => string | undefined) | undefined {
  const field = /\/device\/name\/:(\w+)/.exec(op.path)?.[1];
  return field === undefined ? undefined : ({ params }) => (params as Record<string, string>)[field];
}

/** One log line and one span a request. */
export function note(
  options: ServeOptions<Contract>,
  operation: string,
  op: Operation,
  call: Call,
  startMs: number,
  failure: Failure | undefined,
  device: string | undefined,
): void {
  const ms = Math.round((options.clock.monotonicMs() - startMs) * 1000) / 1000;
  const status = failure?.status ?? 0;
  const seconds = op.kind === "stream" ? undefined : ms / 1000;
  options.calls?.finished(operation, status, failure?.code ?? "", seconds, op.quiet ? undefined : call.requestId);
  const quiet = op.quiet && !failure;
  options.log[quiet ? "debug" : "info"]({
    requestId: call.requestId,
    operation,
    caller: call.caller,
    status: status || 200,
    ms,
    ...(failure ? { code: failure.code } : {}),
  });
  if (!quiet) {
    const told = { ...(failure ? { note: failure.code } : {}), ...(device === undefined ? {} : { device }) };
    options.tracer.step(call, operation, startMs, status, told);
  }
  noteDeed(options, operation, op, call, failure);
}

/** For the audit trail: a caller that may not do what it asked for, and what is changed over a socket that has no gateway before it. */
function noteDeed(
  { audit, contract, plainCaller }: ServeOptions<Contract>,
  operation: string,
  op: Operation,
  { caller, requestId }: Call,
  failure: Failure | undefined,
): void {
  // By the contract (CALLER_REFUSED), or by the service: a name, a topic or a role that is not the caller's.
  const isRefused = failure?.kind === CALLER_REFUSED.kind;
  const isDeed = plainCaller !== undefined && op.method !== "GET" && op.kind !== "stream" && !op.quiet && !failure;
  if (!isRefused && !isDeed) return;
  audit?.note({
    action: `${contract.name} ${operation}`,
    outcome: isRefused ? "denied" : "done",
    who: caller === "" ? "somebody without a certificate" : caller,
    what: `${op.method} ${op.path}`,
    requestId,
    note: failure?.code,
  });
}
