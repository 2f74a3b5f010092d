/** The public socket: TLS 1.3, HTTP/1.1 and HTTP/2 at their strictest, and every limit that a stranger can run into. */
import { type IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { type Failure, fail } from "../../kernel/error.ts";
import type { TlsIdentity } from "../../kernel/identity/tls.ts";
import type { Log } from "../../kernel/log.ts";
import type { ListenAt } from "../../kernel/serve.ts";
import { GATEWAY_METHOD_REFUSED } from "./api.ts";
import type { Http2Front } from "./front/http2.ts";
import { Passage, type PassageOptions, statusOf } from "./passage.ts";
import { clientOf } from "./shape/limiter.ts";
import { failureOfParser, rawRefusal, tooSlow } from "./refusals.ts";

export interface DoorLimits {
  /** URL and headers together. */
  readonly headerBytesMax: number;
  readonly headersMs: number;
  /** The whole request. */
  readonly requestMs: number;
  readonly keepAliveMs: number;
  /** A client may take nothing of what it is given for so long. */
  readonly stallMs: number;
  readonly connectionsMax: number;
  readonly connectionsPerAddressMax: number;
}

export interface DoorOptions {
  readonly identity: TlsIdentity;
  readonly listen: ListenAt;
  readonly limits: DoorLimits;
  /** Authorities of client certificates (PEM); undefined: nobody is asked for one. */
  readonly clientAuthorities: readonly string[] | undefined;
  readonly passage: PassageOptions;
  readonly log: Log;
}

const HANDSHAKE_MS = 10_000;
/** How often Node looks for requests that are too slow. */
const LOOK_MS = 1_000;
const DRAIN_LOOK_MS = 50;

export class Door {
  readonly #options: DoorOptions;
  readonly #server: Server;
  /** Loaded for the first who speaks it: 25 ms and 6 MB that most nodes never need. */
  #http2: Promise<Http2Front> | undefined;
  readonly #passages = new WeakMap<Duplex, Passage>();
  /** Connections that are WebSockets now. */
  readonly #upgraded = new Set<Socket>();
  readonly #byAddress = new Map<string, number>();
  openConnections = 0;
  refusedConnections = 0;

  constructor(options: DoorOptions) {
    const { identity, limits, log, clientAuthorities } = options;
    this.#options = options;
    this.#server = createServer({
      ...identity.serverOptions(clientAuthorities),
      // A browser asks its user which, where it has one of these authorities: nobody is asked in vain. Who has none comes
      // with a token, and what is wrong with a certificate is said in words, not by an alert.
      requestCert: clientAuthorities !== undefined,
      rejectUnauthorized: false,
      handshakeTimeout: HANDSHAKE_MS,
      ALPNProtocols: ["h2", "http/1.1"],
      maxHeaderSize: limits.headerBytesMax,
      // Node refuses to start where the headers may take longer than the whole.
      headersTimeout: Math.min(limits.headersMs, limits.requestMs),
      requestTimeout: limits.requestMs,
      keepAliveTimeout: limits.keepAliveMs,
      connectionsCheckingInterval: LOOK_MS,
      // RFC 9110 7.8: what else a client would rather speak may be ignored.
      shouldUpgradeCallback: isWebSocket,
      // Checked by us, who answer in the one shape.
      requireHostHeader: false,
    });
    const server = this.#server;
    this.#chooseProtocol();
    identity.attach(server, clientAuthorities);
    server.maxConnections = limits.connectionsMax;
    server.on("drop", () => this.refusedConnections++);
    server.setTimeout(limits.stallMs, (socket) => this.#quiet(socket));
    // Node would leave out further ones without a word.
    server.maxHeadersCount = 0;
    server.prependListener("connection", (socket: Socket) => this.#admitConnection(socket));
    server.on("tlsClientError", (error) => log.debug({ err: error.message }, "a connection failed its handshake"));
    server.on("request", (request, response) => this.#pass(request, response, false));
    server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) =>
      this.#pass(request, response, true),
    );
    // RFC 9110 10.1.1: an expectation we do not know may be ignored; it does not go on.
    server.on("checkExpectation", (request: IncomingMessage, response: ServerResponse) =>
      this.#pass(request, response, false),
    );
    server.on("upgrade", (request, socket: Socket, head: Buffer) => this.#upgrade(request, socket, head));
    server.on("connect", (_request, socket: Duplex) =>
      this.#refuse(socket, fail(GATEWAY_METHOD_REFUSED, "CONNECT is not a method of this server")),
    );
    server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => this.#clientError(error, socket));
  }

  /** Listens; rejects where that cannot be. Tells the port. */
  async listen(): Promise<number> {
    const { listen } = this.#options;
    const at = "fd" in listen ? { fd: listen.fd } : listen;
    await new Promise<void>((resolve, reject) => this.#server.once("error", reject).listen(at, () => resolve()));
    const address = this.#server.address();
    return typeof address === "object" && address ? address.port : 0;
  }

  /** Takes no more connections, lets running requests end, no longer than `ms`; then cuts what is left. */
  async close(ms: number): Promise<void> {
    this.#options.passage.load.draining = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    // A connection whose last answer promised to stay open is idle a moment later.
    const idle = setInterval(() => this.#server.closeIdleConnections(), DRAIN_LOOK_MS);
    // A WebSocket has no end of its own to wait for: its client opens another one.
    for (const socket of this.#upgraded) socket.destroySoon();
    const http2 = await this.#http2;
    http2?.drain();
    const end = setTimeout(() => {
      this.#server.closeAllConnections();
      http2?.closeAll();
    }, ms);
    await closed;
    clearInterval(idle);
    clearTimeout(end);
  }

  /** RFC 9113 3.2: what was agreed on in the handshake; who agreed on nothing speaks HTTP/1.1. */
  #chooseProtocol(): void {
    const [http1] = this.#server.listeners("secureConnection") as ((socket: TLSSocket) => void)[];
    this.#server.off("secureConnection", http1);
    this.#server.on("secureConnection", (socket) => {
      if (socket.alpnProtocol === "h2") void this.#serveHttp2(socket);
      else http1.call(this.#server, socket);
    });
    this.serve = (socket) => http1.call(this.#server, socket as TLSSocket);
  }
  serve: (socket: Socket) => void = () => undefined;

  async #serveHttp2(socket: TLSSocket): Promise<void> {
    const { limits, passage } = this.#options;
    // It may break before anybody else minds it.
    socket.on("error", () => socket.destroy());
    this.#http2 ??= import("./front/http2.ts").then(
      ({ Http2Front: Front }) => new Front({ clock: passage.clock, limits, pass: this.#passHttp2 }),
    );
    const http2 = await this.#http2;
    if (socket.destroyed) return;
    http2.serve(socket);
    // Who came while the door closed is told to go.
    if (passage.load.draining) http2.drain();
  }

  #admitConnection(socket: Socket): void {
    const client = clientOf(socket.remoteAddress ?? "");
    const count = (this.#byAddress.get(client) ?? 0) + 1;
    if (count > this.#options.limits.connectionsPerAddressMax) {
      this.refusedConnections++;
      return void socket.destroy();
    }
    this.#byAddress.set(client, count);
    this.openConnections++;
    socket.once("close", () => {
      this.openConnections--;
      const left = this.#byAddress.get(client)! - 1;
      if (left === 0) this.#byAddress.delete(client);
      else this.#byAddress.set(client, left);
    });
  }

  /** Nothing came or went for a while: that is all right while a service is waited for, or where others mind it. */
  #quiet(socket: Socket): void {
    if (this.#upgraded.has(socket) || (socket as TLSSocket).alpnProtocol === "h2") return;
    if (socket.writableLength > 0 || !this.#passages.get(socket)?.running) socket.destroy();
  }

  #pass(request: IncomingMessage, response: ServerResponse, expects: boolean): void {
    const passage = new Passage(this.#options.passage, request, response, { expects });
    this.#passages.set(request.socket, passage);
    void passage.run();
  }

  /** From here on the connection is no longer the parser's: what is answered is its last answer. */
  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    this.#upgraded.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#upgraded.delete(socket));
    response.once("finish", () => {
      response.detachSocket(socket);
      socket.destroySoon();
      response.emit("close");
    });
    void new Passage(this.#options.passage, request, response, { upgrade: { socket, head } }).run();
  }

  readonly #passHttp2 = (request: IncomingMessage, response: ServerResponse, expects: boolean) => {
    const passage = new Passage(this.#options.passage, request, response, { expects });
    void passage.run();
    return { slow: () => passage.refuse(tooSlow(this.#options.limits)) };
  };

  /** What is not HTTP, or not in time. After it the connection is of no use: where the next request begins is unknown. */
  #clientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
    const failure = failureOfParser(error.code, this.#options.limits);
    const passage = this.#passages.get(socket);
    if (passage?.open && !passage.received) {
      passage.refuse(failure);
      return void passage.settle();
    }
    if (!passage?.running) return this.#refuse(socket, failure);
    // A request before it has its answer, or waits for it: ours would be taken for that.
    if (passage.settle()) (socket as Socket).destroySoon();
    else socket.destroy();
  }

  #refuse(socket: Duplex, failure: Failure): void {
    const status = statusOf(failure);
    const { requestId, text } = rawRefusal(failure, status);
    const { passage, log } = this.#options;
    passage.metrics.finished("gateway", "malformed", status, 0);
    log.info({ requestId, operation: "malformed", status, code: failure.code, reason: failure.message });
    socket.end(text, () => socket.destroy());
  }
}

const isWebSocket = ({ method, headers }: IncomingMessage): boolean =>
  method === "GET" && headers.upgrade?.toLowerCase() === "websocket";
