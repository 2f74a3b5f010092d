/** The last step of most routes: sends the request to a service and gives its answer back. */
import { traceparent } from "../../../kernel/call.ts";
import { fail } from "../../../kernel/error.ts";
import { HEADER } from "../../../kernel/wire.ts";
import { GATEWAY_UPSTREAM_FAILED } from "../api.ts";
import { brokenOff } from "../delivery.ts";
import type { Metrics } from "../metrics.ts";
import { ERROR_BYTES_MAX, isOurs } from "../refusals.ts";
import type { Handler, Reply, Visit } from "../visit.ts";
import type { Sent, Upstream } from "./upstream.ts";

export interface ForwardOptions {
  readonly service: string;
  readonly method: string;
  readonly operation: string;
  /** May be done again where it is not known whether it was done. */
  readonly safe: boolean;
  readonly upstream: Upstream;
  readonly metrics: Metrics;
  /** Writes the path and the query that the service is asked for. */
  readonly pathOf: (visit: Visit) => string;
}

/** Makes the handler; UNAVAILABLE, GATEWAY_BUSY, GATEWAY_UPSTREAM_FAILED, or what ended the visit's ticket. */
export const forward =
  (options: ForwardOptions): Handler =>
  async (visit) => {
    const lead = leadOf(options, visit);
    const sent = await options.upstream.send({
      service: options.service,
      operation: options.operation,
      safe: options.safe,
      body: visit.body,
      ticket: visit.ticket!,
      head: (instance, leftMs) =>
        `${lead}${HEADER.timeout}: ${Math.max(1, Math.ceil(leftMs))}\r\n${HEADER.instance}: ${instance}\r\n\r\n`,
    });
    const { answer, done } = sent;
    if (answer.status >= 400) return passError(options, sent);
    return { status: answer.status, headers: answer.headers, body: answer.whole ?? answer, done };
  };

/** An error is in the one shape that services answer, or it tells more of the inside than it should. */
async function passError({ service, metrics }: ForwardOptions, { answer, done }: Sent): Promise<Reply> {
  try {
    const body = await answer.gather(ERROR_BYTES_MAX);
    if (body && isOurs(body, answer.headers)) return { status: answer.status, headers: answer.headers, body };
  } catch (error) {
    throw brokenOff(error as Error);
  } finally {
    done();
  }
  metrics.failed(service, "malformed");
  throw fail(
    GATEWAY_UPSTREAM_FAILED,
    `${service} answered with status ${answer.status} and no reason that can be passed on`,
  );
}

/** The head that goes on, but for what is said to one instance alone. */
function leadOf({ service, method, pathOf }: ForwardOptions, visit: Visit): string {
  const { head, verdict, body, requestId, address } = visit;
  return (
    `${method} ${pathOf(visit)} HTTP/1.1\r\nhost: ${service}\r\n` +
    `${HEADER.traceparent}: ${traceparent(visit)}\r\n${HEADER.correlationId}: ${requestId}\r\n` +
    (verdict ? `${HEADER.subject}: ${verdict.header}\r\n` : "") +
    `x-forwarded-for: ${address}\r\nx-forwarded-proto: https\r\nx-forwarded-host: ${head!.host}\r\n` +
    `${head!.passed}${method === "GET" ? "" : `content-length: ${body?.length ?? 0}\r\n`}`
  );
}
