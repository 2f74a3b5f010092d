/** Serves a contract: routes, checks, callers, request ids, deadlines, one shape of errors, one log line a request. */
import type { ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { type Call, makeCall, readRequestId, readTraceparent, type Subject } from "./call.ts";
import { checkInput, defaultOf, placed, readText } from "./check.ts";
import type { Clock } from "./clock.ts";
import { type Contract, DEFAULT_BODY_BYTES_MAX, DEFAULT_TIMEOUT_MS, type Operation, type Service } from "./contract.ts";
import { asFailure, CALLER_REFUSED, type Failure, fail, INPUT_MALFORMED, INPUT_TOO_LARGE, INSTANCE_MISDIRECTED, ROUTE_UNKNOWN } from "./error.ts";
import { peerName } from "./identity/peer.ts";
import type { TlsIdentity } from "./identity/tls.ts";
import type { Log } from "./log.ts";
import type { Tracer } from "./trace.ts";
import { CBOR_TYPE, decodeBody, encodeBody, encodeFailureFrame, encodeFrame, errorBody, FRAMES_TYPE, foldKeys, HEADER, JSON_TYPE } from "./wire.ts";

/** Where to listen: a socket the supervisor opened, a port (tests), or a Unix socket (the CLI's door). */
export type ListenAt = { fd: number } | { host: string; port: number } | { path: string };

export interface ServeOptions<C extends Contract> {
  readonly contract: C;
  readonly service: Service<C>;
  readonly listen: ListenAt;
  /** Mutual TLS; without it only `plainCaller` may be what the socket is for: the CLI's Unix socket, `--open-edgex`. */
  readonly identity?: TlsIdentity;
  /** Who everyone is on a socket without certificates. */
  readonly plainCaller?: "cli" | "open-edgex";
  readonly instance?: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly tracer: Tracer;
  readonly version?: string;
}

export interface Served {
  readonly host: string;
  readonly port: number;
  /** Stops accepting, lets running requests end, then closes; streams are ended. */
  close(): Promise<void>;
}

const STREAM_PING_MS = 1_000;
const HEADERS_TIMEOUT_MS = 15_000;
const NAME_LENGTH_MAX = 2_048;

/** Serves a contract at a socket. Rejects when the socket cannot be listened on. */
export async function serve<C extends Contract>(options: ServeOptions<C>): Promise<Served> {
  const { contract, identity, log } = options;
  const streams = new Set<AbortController>();
  const app = Fastify({
    ...(identity ? { https: { ...identity.serverOptions(), ...(takesAnonymous(contract) ? { rejectUnauthorized: false } : {}) } } : {}),
    bodyLimit: DEFAULT_BODY_BYTES_MAX,
    forceCloseConnections: "idle",
    keepAliveTimeout: 65_000,
    http: { headersTimeout: HEADERS_TIMEOUT_MS },
    routerOptions: { maxParamLength: NAME_LENGTH_MAX },
    // A path that is not percent-encoded UTF-8 meets no route and no handler of errors.
    frameworkErrors: (error: unknown, request: FastifyRequest, reply: FastifyReply) => answerFailure(options, request, reply, fromFastify(error, request)),
    exposeHeadRoutes: false,
  } as Parameters<typeof Fastify>[0]) as unknown as FastifyInstance;
  if (identity) identity.attach(app.server as unknown as Parameters<TlsIdentity["attach"]>[0]);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.setErrorHandler((error, request, reply) => answerFailure(options, request, reply, fromFastify(error, request)));
  app.setNotFoundHandler((request, reply) =>
    answerFailure(options, request, reply, fail(ROUTE_UNKNOWN, `${options.contract.name} has no ${request.method} ${request.url.split("?", 1)[0].slice(0, 200)}`)),
  );
  for (const [name, op] of Object.entries(contract.operations)) addRoute(app, options, name, op, streams);
  addCommonRoutes(app, options);
  // A client that speaks garbage gets Node's 400 or its reset; neither is an event for the log at more than debug.
  app.server.on("tlsClientError", (error) => log.debug({ err: error.message }, "a connection failed its handshake"));
  const listen = "fd" in options.listen ? { fd: options.listen.fd } : options.listen;
  await app.ready();
  await new Promise<void>((resolve, reject) => app.server.once("error", reject).listen(listen, resolve));
  const at = app.server.address();
  return {
    host: typeof at === "object" && at ? at.address : "",
    port: typeof at === "object" && at ? at.port : 0,
    async close() {
      for (const stream of streams) stream.abort();
      await app.close();
    },
  };
}

/** Some operation is for callers that have no certificate yet (join, enroll): then the handshake lets them in and `admit` sorts them. */
const takesAnonymous = (contract: Contract): boolean => Object.values(contract.operations).some((op) => op.callers?.includes(""));

function addRoute(app: FastifyInstance, options: ServeOptions<Contract>, name: string, op: Operation, streams: Set<AbortController>): void {
  const handler = options.service[name] as unknown as (input: unknown, call: Call) => unknown;
  app.route({
    method: op.method,
    url: op.path,
    bodyLimit: op.bodyBytesMax ?? DEFAULT_BODY_BYTES_MAX,
    handler: async (request, reply) => {
      const call = callOf(options, op, request);
      const startMs = options.clock.monotonicMs();
      request.raw.socket.once("close", onHangUp);
      function onHangUp() {
        call.end(true);
      }
      try {
        admit(options, op, call, request);
        const input = readInput(options.contract, op, request);
        checkInput(op, input);
        if (op.kind === "stream") await answerStream(handler(input, call) as AsyncIterable<unknown>, call, reply, streams);
        else answer(options, op, call, request, reply, await (handler.call(options.service, input, call)));
        note(options, name, op, call, startMs, undefined);
      } catch (error) {
        const failure = asFailure(error);
        if (failure.status >= 500 && failure.kind !== "unavailable") options.log.error({ requestId: call.requestId, operation: name, err: error }, failure.message);
        if (!reply.sent && !reply.raw.headersSent) send(request, reply, call.requestId, failure.status, errorBody(failure, call.requestId), failure.retryAfterS);
        note(options, name, op, call, startMs, failure);
      } finally {
        request.raw.socket.off("close", onHangUp);
        call.end(false);
      }
      return reply;
    },
  });
}

/** Ids, caller and deadline of a request. A peer's traceparent is believed: it holds our certificate, or the socket is the operator's. */
function callOf(options: ServeOptions<Contract>, op: Operation, request: FastifyRequest) {
  const h = request.headers as Record<string, string | undefined>;
  const trace = readTraceparent(h[HEADER.traceparent]);
  const requestId = trace?.requestId ?? readRequestId(h[HEADER.correlationId]) ?? readRequestId(h[HEADER.requestId]);
  const caller = options.identity ? (callerOf(request.raw.socket as TLSSocket) ?? "") : (options.plainCaller ?? "");
  const asked = Number(h[HEADER.timeout] ?? Number.NaN);
  const limitMs = op.kind === "stream" ? Number.POSITIVE_INFINITY : (op.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const subject = caller === "gateway" ? readSubject(h[HEADER.subject]) : undefined;
  return makeCall({
    caller,
    timeoutMs: asked > 0 ? Math.min(asked, Math.max(limitMs, 60_000)) : limitMs,
    ...(requestId ? { requestId } : {}),
    ...(trace ? { parentId: trace.parentId } : {}),
    ...(subject ? { subject } : {}),
  });
}

const callers = new WeakMap<object, string>();

/** The service key in the peer's certificate, read once per connection. */
function callerOf(socket: TLSSocket): string | undefined {
  const known = callers.get(socket);
  if (known !== undefined) return known;
  const name = peerName(socket)?.service;
  if (name !== undefined) callers.set(socket, name);
  return name;
}

function readSubject(text: string | undefined): Subject | undefined {
  if (!text) return undefined;
  return JSON.parse(Buffer.from(text, "base64url").toString()) as Subject;
}

/** Refuses a caller the contract does not name, and a request meant for another instance. */
function admit(options: ServeOptions<Contract>, op: Operation, call: Call, request: FastifyRequest): void {
  const meant = request.headers[HEADER.instance];
  if (meant !== undefined && options.instance !== undefined && meant !== options.instance) {
    throw fail(INSTANCE_MISDIRECTED, `this is instance ${options.instance} of ${options.contract.name}, not ${String(meant).slice(0, 100)}`);
  }
  const outside = call.caller === "gateway" || call.caller === "open-edgex";
  if ((outside && op.public) || mayCall(op, call.caller)) return;
  throw fail(CALLER_REFUSED, `'${call.caller}' may not call ${op.method} ${op.path} of ${options.contract.name}`);
}

/** `*` is every service with a certificate, `edge.*` every one whose name begins so, the empty name one without a certificate. */
function mayCall(op: Operation, caller: string): boolean {
  if (!op.callers) return false;
  if (op.callers.includes(caller)) return true;
  return caller !== "" && op.callers.some((c) => c.endsWith("*") && caller.startsWith(c.slice(0, -1)));
}

function readInput(contract: Contract, op: Operation, request: FastifyRequest): unknown {
  const body = request.body as Buffer | undefined;
  const type = request.headers["content-type"];
  if (op.kind === "stream") return body?.length ? decodeBody(body, type) : {};
  const input: Record<string, unknown> = {};
  const { params, query, body: takesBody } = placed(op);
  for (const name of params) input[name] = readText((request.params as Record<string, string>)[name], op.input[name]);
  for (const { field, wire } of query) {
    const text = (request.query as Record<string, string | string[]>)[wire];
    const schema = op.input[field];
    const found = text === undefined ? defaultOf(schema) : readText(String(text), schema);
    if (found !== undefined) input[field] = found;
  }
  if (takesBody) {
    if (!body?.length && !isOptional(op.input["body"])) throw fail(INPUT_MALFORMED, `${op.method} ${op.path} needs a body`);
    if (body?.length) {
      const decoded = decodeBody(body, type);
      input["body"] = contract.edgex ? foldKeys(decoded, op.input["body"]) : decoded;
    }
  }
  return input;
}

const isOptional = (schema: object): boolean => "~optional" in schema;

function answer(options: ServeOptions<Contract>, op: Operation, call: Call, request: FastifyRequest, reply: FastifyReply, output: unknown): void {
  const status = op.status ?? 200;
  const plain = !options.contract.edgex || op.bare || typeof output !== "object" || output === null || Array.isArray(output);
  const body = plain ? output : { apiVersion: "v3", statusCode: status, ...output };
  send(request, reply, call.requestId, status, body);
}

function send(request: FastifyRequest, reply: FastifyReply, requestId: string, status: number, body: unknown, retryAfterS?: number): void {
  const type = request.headers.accept?.startsWith(CBOR_TYPE) ? CBOR_TYPE : JSON_TYPE;
  reply.code(status).header(HEADER.correlationId, requestId).header(HEADER.requestId, requestId);
  if (retryAfterS !== undefined) reply.header("retry-after", String(retryAfterS));
  if (body === undefined || status === 204) void reply.send();
  else void reply.type(type).send(encodeBody(body, type));
}

/** Streams items with backpressure; a sign of life every second tells a cut cable from a quiet source. */
async function answerStream(items: AsyncIterable<unknown>, call: Call & { end(abort: boolean): void }, reply: FastifyReply, streams: Set<AbortController>): Promise<void> {
  reply.hijack();
  const raw: ServerResponse = reply.raw;
  const closing = new AbortController();
  streams.add(closing);
  closing.signal.addEventListener("abort", () => call.end(true), { once: true });
  raw.writeHead(200, { "content-type": FRAMES_TYPE, [HEADER.requestId]: call.requestId });
  raw.flushHeaders();
  const ping = setInterval(() => raw.writableLength === 0 && raw.write(Buffer.alloc(4)), STREAM_PING_MS).unref();
  try {
    for await (const item of items) {
      if (!raw.write(encodeFrame(item))) await drained(raw, call.signal);
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

/** One log line and one span a request. */
function note(options: ServeOptions<Contract>, operation: string, op: Operation, call: Call, startMs: number, failure: Failure | undefined): void {
  const ms = Math.round((options.clock.monotonicMs() - startMs) * 1000) / 1000;
  const status = failure?.status ?? 0;
  const quiet = op.quiet && !failure;
  options.log[quiet ? "debug" : "info"]({ requestId: call.requestId, operation, caller: call.caller, status: status || 200, ms, ...(failure ? { code: failure.code } : {}) });
  if (!quiet) options.tracer.step(call, operation, startMs, status, failure?.code);
}

function answerFailure(options: ServeOptions<Contract>, request: FastifyRequest, reply: FastifyReply, failure: Failure): void {
  const requestId = readRequestId(request.headers[HEADER.correlationId] as string | undefined) ?? makeCall({ caller: "", timeoutMs: 0 }).requestId;
  options.log.info({ requestId, operation: "unknown", status: failure.status, code: failure.code });
  send(request, reply, requestId, failure.status, errorBody(failure, requestId));
}

function fromFastify(error: unknown, request: FastifyRequest): Failure {
  const e = error as { code?: string; statusCode?: number; message?: string };
  if (e.code === "FST_ERR_CTP_BODY_TOO_LARGE") return fail(INPUT_TOO_LARGE, `the body is larger than the ${request.routeOptions.bodyLimit} bytes that this operation takes`);
  if (e.statusCode !== undefined && e.statusCode < 500) return fail(INPUT_MALFORMED, String(e.message ?? "the request is malformed").slice(0, 200));
  return asFailure(error);
}

/** EdgeX's routes of every service: /ping and /version. */
function addCommonRoutes(app: FastifyInstance, options: ServeOptions<Contract>): void {
  const serviceName = options.contract.name;
  const json = (reply: FastifyReply, body: object) => reply.type(JSON_TYPE).send(JSON.stringify({ apiVersion: "v3", ...body }));
  app.get("/api/v3/ping", (_request, reply) => json(reply, { timestamp: goUnixDate(new Date(options.clock.wallMs())), serviceName }));
  app.get("/api/v3/version", (_request, reply) => json(reply, { version: EDGEX_VERSION, serviceName, holdfast: options.version ?? "" }));
}

/** What EdgeX clients check for (FACTS: `/version`, "clients check the 4.1"). */
export const EDGEX_VERSION = "4.1.0";

/** Writes a date as Go's time.UnixDate: "Thu Mar  9 12:03:37 UTC 2023". */
export function goUnixDate(date: Date): string {
  const [day, , month] = date.toUTCString().split(/[ ,]+/);
  return `${day} ${month} ${String(date.getUTCDate()).padStart(2)} ${date.toISOString().slice(11, 19)} UTC ${date.getUTCFullYear()}`;
}
