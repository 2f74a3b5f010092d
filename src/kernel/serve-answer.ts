/** How a service answers: values, streams with signs of life, failures in one shape, and EdgeX's routes of every service. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type Call, makeCall, readRequestId } from "./call.ts";
import type { Contract, Operation } from "./contract.ts";
import { asFailure, type Failure, fail, INPUT_MALFORMED, INPUT_TOO_LARGE } from "./error.ts";
import { isTerse, type Names, type Terms, termsOf } from "./names.ts";
import type { ServeOptions } from "./serve.ts";
import {
  CBOR_TYPE,
  encodeBody,
  encodeFailureFrame,
  encodeFrame,
  errorBody,
  FRAMES_TYPE,
  HEADER,
  JSON_TYPE,
} from "./wire.ts";

const STREAM_PING_MS = 1_000;
/** So long the rest of a refused body is read and thrown away. */
const LINGER_MS = 500;

export function answer(
  options: ServeOptions<Contract>,
  op: Operation,
  call: Call,
  request: FastifyRequest,
  reply: FastifyReply,
  output: unknown,
): void {
  const status = op.status ?? 200;
  const plain =
    !options.contract.edgex || op.bare || typeof output !== "object" || output === null || Array.isArray(output);
  const body = plain ? output : { apiVersion: "v3", statusCode: status, ...output };
  if (op.etag) {
    const tag = `"${op.etag(output)}"`;
    void reply.header("etag", tag);
    if (isKnown(request.headers["if-none-match"], tag)) return send(request, reply, call.requestId, 304, undefined);
  }
  const terms = termsAsked(options.contract, op, request);
  if (!terms || body === undefined) return send(request, reply, call.requestId, status, body);
  // Who asks so has made the request's id himself.
  void reply
    .code(status)
    .type(terms.type)
    .send(bodyOf(body, CBOR_TYPE, terms.answer));
}

/** The terms that a caller has in common with us; undefined where it asks by none, or by others. */
function termsAsked(contract: Contract, op: Operation, { headers: { accept } }: FastifyRequest): Terms | undefined {
  if (!isTerse(accept)) return undefined;
  const terms = termsOf(contract, op);
  return terms.type === accept ? terms : undefined;
}

/** Whether `If-None-Match` names the tag; compared weakly (RFC 9110 13.1.2). */
const isKnown = (header: string | undefined, tag: string): boolean =>
  header?.split(",").some((one) => ["*", tag].includes(one.trim().replace(/^W\//, ""))) ?? false;

export function send(
  request: FastifyRequest,
  reply: FastifyReply,
  requestId: string,
  status: number,
  body: unknown,
  retryAfterS?: number,
): void {
  const type = request.headers.accept?.startsWith(CBOR_TYPE) ? CBOR_TYPE : JSON_TYPE;
  reply.code(status).header(HEADER.correlationId, requestId).header(HEADER.requestId, requestId);
  if (retryAfterS !== undefined) reply.header("retry-after", String(retryAfterS));
  if (body === undefined || status === 204) void reply.send();
  else void reply.type(type).send(bodyOf(body, type));
}

/** Streams items with backpressure; a sign of life every second tells a cut cable from a quiet source. */
export async function answerStream(
  { contract }: ServeOptions<Contract>,
  op: Operation,
  items: AsyncIterable<unknown>,
  call: Call & { end(abort: boolean): void },
  request: FastifyRequest,
  reply: FastifyReply,
  streams: Set<AbortController>,
): Promise<void> {
  const terms = termsAsked(contract, op, request);
  reply.hijack();
  const raw: ServerResponse = reply.raw;
  const closing = new AbortController();
  streams.add(closing);
  closing.signal.addEventListener("abort", () => call.end(true), { once: true });
  raw.writeHead(200, { "content-type": terms?.framesType ?? FRAMES_TYPE, [HEADER.requestId]: call.requestId });
  raw.flushHeaders();
  const ping = setInterval(() => raw.writableLength === 0 && raw.write(Buffer.alloc(4)), STREAM_PING_MS).unref();
  try {
    for await (const item of items) {
      if (!raw.write(frameOf(item, terms?.answer))) await drained(raw, call.signal);
      if (call.signal.aborted) break;
    }
  } catch (error) {
    if (!call.signal.aborted) {
      raw.write(encodeFailureFrame(asFailure(error), call.requestId));
      throw error;
    }
  } finally {
    clearInterval(ping);
    streams.delete(closing);
    raw.end();
  }
}

/** What was encoded of frozen values, which go to many: by type, for all of them that know the same names. */
const made = new WeakMap<object, Map<string, { readonly names: Names | undefined; readonly bytes: unknown }>>();

function encoded<T>(item: unknown, type: string, names: Names | undefined, encode: () => T): T {
  if (typeof item !== "object" || item === null || !Object.isFrozen(item)) return encode();
  const known = made.get(item) ?? new Map<string, { readonly names: Names | undefined; readonly bytes: unknown }>();
  made.set(item, known);
  const kept = known.get(type);
  if (kept && kept.names === names) return kept.bytes as T;
  const bytes = encode();
  known.set(type, { names, bytes });
  return bytes;
}

const frameOf = (item: unknown, names: Names | undefined): Buffer =>
  encoded(item, FRAMES_TYPE, names, () => encodeFrame(item, names));

const bodyOf = (body: unknown, type: typeof JSON_TYPE | typeof CBOR_TYPE, names?: Names): Uint8Array | string =>
  encoded(body, type, names, () => encodeBody(body, type, names));

function drained(raw: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      raw.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    raw.once("drain", done);
    signal.addEventListener("abort", done, { once: true });
  });
}

export function answerFailure(
  options: ServeOptions<Contract>,
  request: FastifyRequest,
  reply: FastifyReply,
  failure: Failure,
): void {
  const requestId =
    readRequestId(request.headers[HEADER.correlationId] as string | undefined) ??
    makeCall({ caller: "", timeoutMs: 0 }).requestId;
  options.log.info({ requestId, operation: "unknown", status: failure.status, code: failure.code });
  send(request, reply, requestId, failure.status, errorBody(failure, requestId));
}

/**
 * Reads what is left of a request that is refused, for LINGER_MS at most: who is hung up on while it still sends may lose the
 * answer that says why (RFC 9112 9.6).
 */
export function wholeRead(request: IncomingMessage): Promise<void> {
  if (request.complete || request.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(done, LINGER_MS);
    function done(): void {
      clearTimeout(timer);
      resolve();
    }
    request.once("end", done).once("close", done).once("error", done).resume();
  });
}

export function fromFastify(error: unknown, request: FastifyRequest): Failure {
  const e = error as { code?: string; statusCode?: number; message?: string };
  if (e.code === "FST_ERR_CTP_BODY_TOO_LARGE")
    return fail(
      INPUT_TOO_LARGE,
      `the body is larger than the ${request.routeOptions.bodyLimit} bytes that this operation takes`,
    );
  if (e.statusCode !== undefined && e.statusCode < 500)
    return fail(INPUT_MALFORMED, (e.message ?? "the request is malformed").slice(0, 200));
  return asFailure(error);
}

/** EdgeX's routes of every service: /ping and /version. */
export function addCommonRoutes(app: FastifyInstance, options: ServeOptions<Contract>): void {
  const serviceName = options.contract.name;
  const json = (reply: FastifyReply, body: object) =>
    reply.type(JSON_TYPE).send(JSON.stringify({ apiVersion: "v3", ...body }));
  app.get("/api/v3/ping", (_request, reply) =>
    json(reply, { timestamp: goUnixDate(new Date(options.clock.wallMs())), serviceName }),
  );
  app.get("/api/v3/version", (_request, reply) =>
    json(reply, { version: EDGEX_VERSION, serviceName, holdfast: options.version ?? "" }),
  );
}

/** What EdgeX clients check for (FACTS: `/version`, "clients check the 4.1"). */
export const EDGEX_VERSION = "4.1.0";

/** Writes a date as Go's time.UnixDate: "Thu Mar  9 12:03:37 UTC 2023". */
export function goUnixDate(date: Date): string {
  const [day, , month] = date.toUTCString().split(/[ ,]+/);
  return `${day} ${month} ${String(date.getUTCDate()).padStart(2)} ${date.toISOString().slice(11, 19)} UTC ${date.getUTCFullYear()}`;
}
