/** Answers that say no: those of the parser, which come before there is a request, and those of services, which may pass. */
import { STATUS_CODES } from "node:http";
import { decodeBody, errorBody, JSON_TYPE } from "../../kernel/wire.ts";
import { type Failure, fail } from "../../kernel/error.ts";
import { newRequestId } from "../../kernel/call.ts";
import { GATEWAY_REQUEST_SLOW } from "./api.ts";
import { SECURITY_HEADERS } from "./headers.ts";

/** An error has a message and a code; what is larger is something else. */
export const ERROR_BYTES_MAX = 65_536;

/** Tells whether a body is an error in the house's one shape, as services answer it. */
export function isOurs(body: Buffer, headers: readonly string[]): boolean {
  const at = headers.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === "content-type");
  if (at < 0) return false;
  try {
    const error = decodeBody(body, headers[at + 1]) as {
      message?: unknown;
      code?: unknown;
      statusCode?: unknown;
    } | null;
    return typeof error?.message === "string" && typeof error.code === "string" && typeof error.statusCode === "number";
  } catch {
    // Neither JSON nor CBOR: an error page of some machinery.
    return false;
  }
}

/** Says that a request did not come in time. */
export const tooSlow = ({ requestMs }: { requestMs: number }): Failure =>
  fail(GATEWAY_REQUEST_SLOW, `the request did not come within ${requestMs} ms`);

/** Writes a whole answer, for a connection that has no request to answer. */
export function rawRefusal(failure: Failure, status: number): { requestId: string; text: string } {
  const requestId = newRequestId();
  const body = JSON.stringify({ ...errorBody(failure, requestId), statusCode: status });
  const headers = [
    "X-Request-ID",
    requestId,
    "X-Correlation-ID",
    requestId,
    ...SECURITY_HEADERS,
    "Content-Type",
    JSON_TYPE,
    "Content-Length",
    String(Buffer.byteLength(body)),
    "Connection",
    "close",
  ];
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;
  for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return { requestId, text: `${text}\r\n${body}` };
}
