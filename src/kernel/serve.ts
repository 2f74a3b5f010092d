/** Serves a contract: routes, checks, callers, request ids, deadlines, one shape of errors, one log line a request. */
import type { Socket } from "node:net";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { Auditor } from "./audit.ts";
import type { Call } from "./call.ts";
import { checkInput } from "./check.ts";
import type { Clock } from "./clock.ts";
import { type Contract, DEFAULT_BODY_BYTES_MAX, type Operation, type Service } from "./contract.ts";
import { during } from "./during.ts";
import { asFailure, fail, ROUTE_UNKNOWN } from "./error.ts";
import type { TlsIdentity } from "./identity/tls.ts";
import type { Log } from "./log.ts";
import type { Calls } from "./metrics/calls.ts";
import { addCommonRoutes, answer, answerFailure, answerStream, fromFastify, send, wholeRead } from "./serve-answer.ts";
import { deviceOf, note } from "./serve-notes.ts";
import { admit, callOf, readInput } from "./serve-request.ts";
import { type Upgrades, upgrading } from "./serve-upgrade.ts";
import type { Tracer } from "./trace.ts";
import { errorBody } from "./wire.ts";

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
  /** Protocols that the gateway may switch a connection to. */
  readonly upgrades?: Upgrades | undefined;
  readonly log: Log;
  readonly clock: Clock;
  readonly tracer: Tracer;
  readonly audit?: Auditor;
  /** Where calls are counted. */
  readonly calls?: Calls | undefined;
  readonly version?: string;
}

export interface Served {
  readonly host: string;
  readonly port: number;
  /** Answers on, but each connection's next answer is its last; resolves when none is left, or after DRAIN_MS. Streams are ended. */
  drain(): Promise<void>;
  /** Stops accepting, lets running requests end, then closes; streams are ended. */
  close(): Promise<void>;
}

/** Callers hear within milliseconds that they are to go elsewhere; who did not is cut off where he is idle. */
const DRAIN_MS = 300;
const HEADERS_TIMEOUT_MS = 15_000;
const NAME_LENGTH_MAX = 2_048;

/** What the routes of a server share. */
interface Open {
  readonly streams: Set<AbortController>;
  draining: boolean;
}

/** Serves a contract at a socket. Rejects when the socket cannot be listened on. */
export async function serve<C extends Contract>(options: ServeOptions<C>): Promise<Served> {
  const { contract, identity, log } = options;
  const open: Open = { streams: new Set<AbortController>(), draining: false };
  const app = makeServer(options);
  for (const [name, op] of Object.entries(contract.operations)) addRoute(app, options, name, op, open);
  addCommonRoutes(app, options);
  // A client that speaks garbage gets Node's 400 or its reset; neither is an event for the log at more than debug.
  app.server.on("tlsClientError", (error: Error) =>
    log.debug({ err: error.message }, "a connection failed its handshake"),
  );
  const connections = countConnections(app.server);
  const switched = new Set<Socket>();
  if (identity && options.upgrades)
    app.server.on("upgrade", upgrading(options, options.upgrades, switched) as (...given: unknown[]) => void);
  const listen = "fd" in options.listen ? { fd: options.listen.fd } : options.listen;
  await app.ready();
  await new Promise<void>((resolve, reject) => app.server.once("error", reject).listen(listen, resolve));
  const at = app.server.address();
  return {
    host: typeof at === "object" && at ? at.address : "",
    port: typeof at === "object" && at ? at.port : 0,
    async drain() {
      open.draining = true;
      for (const stream of open.streams) stream.abort();
      await connections.none(DRAIN_MS);
    },
    async close() {
      for (const stream of open.streams) stream.abort();
      for (const socket of switched) socket.destroySoon();
      await app.close();
    },
  };
}

/** Makes a server without routes: its limits, and what it answers where there is none. */
function makeServer(options: ServeOptions<Contract>): FastifyInstance {
  const { contract, identity } = options;
  const app = Fastify({
    ...(identity
      ? { https: { ...identity.serverOptions(), ...(takesAnonymous(contract) ? { rejectUnauthorized: false } : {}) } }
      : {}),
    bodyLimit: DEFAULT_BODY_BYTES_MAX,
    forceCloseConnections: "idle",
    keepAliveTimeout: 65_000,
    // Who asks while the last answers are given is answered, too.
    return503OnClosing: false,
    http: { headersTimeout: HEADERS_TIMEOUT_MS },
    routerOptions: { maxParamLength: NAME_LENGTH_MAX },
    // A path that is not percent-encoded UTF-8 meets no route and no handler of errors.
    frameworkErrors: (error: unknown, request: FastifyRequest, reply: FastifyReply) =>
      answerFailure(options, request, reply, fromFastify(error, request)),
    exposeHeadRoutes: false,
  } as Parameters<typeof Fastify>[0]) as unknown as FastifyInstance;
  if (identity) identity.attach(app.server as unknown as Parameters<TlsIdentity["attach"]>[0]);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.setErrorHandler(async (error, request, reply) => {
    await wholeRead(request.raw);
    answerFailure(options, request, reply, fromFastify(error, request));
    return reply;
  });
  app.setNotFoundHandler((request, reply) =>
    answerFailure(
      options,
      request,
      reply,
      fail(
        ROUTE_UNKNOWN,
        `${options.contract.name} has no ${request.method} ${request.url.split("?", 1)[0].slice(0, 200)}`,
      ),
    ),
  );
  return app;
}

/** Counts a server's connections; `none` resolves when there is none, or after `ms`. */
function countConnections(server: FastifyInstance["server"]): { none(ms: number): Promise<void> } {
  let count = 0;
  let emptied: (() => void) | undefined;
  server.on("connection", (socket: Socket) => {
    count++;
    socket.once("close", () => {
      if (--count === 0) emptied?.();
    });
  });
  return {
    async none(ms) {
      if (count === 0) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      emptied = resolve;
      const timer = setTimeout(resolve, ms);
      await promise;
      clearTimeout(timer);
    },
  };
}

/** Some operation is for callers that have no certificate yet (join, enroll): then the handshake lets them in and `admit` sorts them. */
const takesAnonymous = (contract: Contract): boolean =>
  Object.values(contract.operations).some((op) => op.callers?.includes(""));

function addRoute(
  app: FastifyInstance,
  options: ServeOptions<Contract>,
  name: string,
  op: Operation,
  open: Open,
): void {
  const handler = options.service[name] as unknown as (input: unknown, call: Call) => unknown;
  const device = deviceOf(op);
  app.route({
    method: op.method,
    url: op.path,
    bodyLimit: op.bodyBytesMax ?? DEFAULT_BODY_BYTES_MAX,
    handler: (request, reply) => {
      const call = callOf(options, op, request);
      return during(call, options.tracer, () => perform(request, reply, call));
    },
  });

  async function perform(request: FastifyRequest, reply: FastifyReply, call: RunningCall): Promise<FastifyReply> {
    if (options.calls) options.calls.running++;
    const startMs = options.clock.monotonicMs();
    request.raw.socket.once("close", onHangUp);
    function onHangUp() {
      call.end(true);
    }
    // RFC 9112 9.6: the next request goes to whoever comes after.
    if (open.draining) void reply.header("connection", "close");
    try {
      admit(options, op, call, request);
      const input = readInput(options.contract, op, request);
      checkInput(op, input);
      const done = handler.call(options.service, input, call);
      if (op.kind === "stream")
        await answerStream(options, op, done as AsyncIterable<unknown>, call, request, reply, open.streams);
      else answer(options, op, call, request, reply, await done);
      note(options, name, op, call, startMs, undefined, device?.(request));
    } catch (error) {
      const failure = asFailure(error);
      if (failure.status >= 500 && failure.kind !== "unavailable")
        options.log.error({ requestId: call.requestId, operation: name, err: error }, failure.message);
      if (!reply.sent && !reply.raw.headersSent)
        send(request, reply, call.requestId, failure.status, errorBody(failure, call.requestId), failure.retryAfterS);
      note(options, name, op, call, startMs, failure, device?.(request));
    } finally {
      request.raw.socket.off("close", onHangUp);
      call.end(false);
      if (options.calls) options.calls.running--;
    }
    return reply;
  }
}

type RunningCall = ReturnType<typeof callOf>;
