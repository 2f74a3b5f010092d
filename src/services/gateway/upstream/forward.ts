/** The last step of most routes: sends the request to an upstream and gives its answer back. */
import { traceparent } from "../../../kernel/call.ts";
import { fail } from "../../../kernel/error.ts";
import { HEADER } from "../../../kernel/wire.ts";
import { GATEWAY_UPSTREAM_FAILED } from "../api.ts";
import { brokenOff, giveInterim } from "../delivery.ts";
import type { Metrics } from "../metrics.ts";
import { ERROR_BYTES_MAX, isOurs } from "../refusals.ts";
import type { Handler, Reply, Visit } from "../visit.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Tries } from "./tries.ts";
import type { Sent, Upstream } from "./upstream.ts";

export interface ForwardOptions {
  /** The upstream. */
  readonly service: string;
  readonly operation: string;
  /** May be done again where it is not known whether it was done; undefined: where the method says so. */
  readonly safe: boolean | undefined;
  readonly tries: Tries;
  readonly upstream: Upstream;
  readonly metrics: Metrics;
  /** Of this node: HEAD is asked for as GET, and the person is told, which no server of others learns. */
  readonly inside: boolean;
  /** Errors pass as they are. */
  readonly passErrors: boolean;
  /** The client's Authorization is the upstream's affair. */
  readonly passAuthorization: boolean;
  /** Writes the path and the query that the upstream is asked for. */
  readonly pathOf: (visit: Visit) => string;
  /** What an instance is chosen by; undefined where not by a key. */
  readonly keyOf?: ((visit: Visit) => string) | undefined;
}

/** RFC 9110 9.2.1. */
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** Makes the handler; UNAVAILABLE, GATEWAY_BUSY, GATEWAY_UPSTREAM_FAILED, or what ended the visit's ticket. */
export const forward =
  (options: ForwardOptions): Handler =>
  async (visit) => {
    const { service, operation, inside, tries, keyOf } = options;
    const method = inside && visit.method === "HEAD" ? "GET" : visit.method;
    const lead = leadOf(options, method, visit);
    const sent = await options.upstream.send({
      service,
      operation,
      safe: options.safe ?? SAFE.has(method),
      body: visit.body,
      bodyless: method === "HEAD",
      ticket: visit.ticket!,
      key: keyOf ? keyOf(visit) : "",
      tries,
      interim: (status, headers) => giveInterim(visit, status, headers),
      head: inside
        ? (endpoint, leftMs) => insideHead(lead, endpoint, leftMs)
        : (endpoint) => outsideHead(lead, endpoint),
    });
    const { answer, done } = sent;
    if (answer.status >= 400 && !options.passErrors) return passError(options, sent);
    const { status, headers, said } = answer;
    return { status, headers, said, body: answer.whole ?? answer, done };
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
function leadOf({ inside, passAuthorization, pathOf }: ForwardOptions, method: string, visit: Visit): string {
  const { head, host, verdict, body, requestId, address } = visit;
  const own = passAuthorization && head?.authorization !== undefined;
  const passed = own ? `${visit.passed}authorization: ${head.authorization}\r\n` : visit.passed;
  const subject = inside && verdict ? `${HEADER.subject}: ${verdict.header}\r\n` : "";
  const length = body !== undefined || !SAFE.has(method) ? `content-length: ${body?.length ?? 0}\r\n` : "";
  return (
    `${method} ${pathOf(visit)} HTTP/1.1\r\n` +
    `${HEADER.traceparent}: ${traceparent(visit)}\r\n${HEADER.correlationId}: ${requestId}\r\n${subject}` +
    `x-forwarded-for: ${address}\r\nx-forwarded-proto: https\r\nx-forwarded-host: ${host}\r\n${passed}${length}`
  );
}

const insideHead = (lead: string, { service, instance }: Endpoint, leftMs: number): string =>
  `${lead}host: ${service}\r\n${HEADER.timeout}: ${Math.max(1, Math.ceil(leftMs))}\r\n${HEADER.instance}: ${instance}\r\n\r\n`;

/** The name of an instance of others is its address. */
const outsideHead = (lead: string, { instance }: Endpoint): string => `${lead}host: ${instance}\r\n\r\n`;
