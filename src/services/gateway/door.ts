/** The public socket: TLS 1.3, HTTP/1.1 and HTTP/2 at their strictest, and every limit that a stranger can run into. */
import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { Failure } from "../../kernel/error.ts";
import type { TlsIdentity } from "../../kernel/identity/tls.ts";
import type { Log } from "../../kernel/log.ts";
import type { ListenAt } from "../../kernel/serve.ts";
import type { Exchange } from "./front/exchange.ts";
import { Http1Front } from "./front/http1.ts";
import type { Http2Front } from "./front/http2.ts";
import { Passage, type PassageOptions, statusOf } from "./passage.ts";
import type { Admission } from "./shape/admission.ts";
import { clientOf } from "./shape/limiter.ts";
import { rawRefusal, tooSlow } from "./refusals.ts";

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
  readonly admission: Admission;
  readonly identity: TlsIdentity;
  readonly listen: ListenAt;
  readonly limits: DoorLimits;
  /** Authorities of client certificates (PEM); undefined: nobody is asked for one. */
  readonly clientAuthorities: readonly string[] | undefined;
  readonly passage: PassageOptions;
  readonly log: Log;
}

const HANDSHAKE_MS = 10_000;
/** So long a client may still send a request on a connection that is about to be closed. */
const PARTING_MS = 300;
/** What came at the last moment has so long to be answered before all is cut. */
const HTTP1_LAST_MS = 500;

export class Door {
  readonly #options: DoorOptions;
  readonly #server: Server;
  readonly #http1: Http1Front;
  /** Loaded for the first who speaks it: 25 ms and 6 MB that most nodes never need. */
  #http2: Promise<Http2Front> | undefined;
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
      noDelay: true,
    });
    const server = this.#server;
    identity.attach(server, clientAuthorities);
    server.maxConnections = limits.connectionsMax;
    server.on("drop", () => this.refusedConnections++);
    server.prependListener("connection", (socket: Socket) => this.#admitConnection(socket));
    server.on("tlsClientError", (error) => log.debug({ err: error.message }, "a connection failed its handshake"));
    const refuse = (failure: Failure) => this.#refuse(failure);
    const pass = (exchange: Exchange) => options.admission.enter(new Passage(options.passage, exchange));
    this.#http1 = new Http1Front({ clock: options.passage.clock, limits, pass, refuse });
    // RFC 9113 3.2: what was agreed on in the handshake; who agreed on nothing speaks HTTP/1.1.
    server.on("secureConnection", (socket) => {
      if (socket.alpnProtocol === "h2") void this.#serveHttp2(socket);
      else this.serve(socket);
    });
  }

  /** Listens; rejects where that cannot be. Tells the port. */
  async listen(): Promise<number> {
    const { listen } = this.#options;
    const at = "fd" in listen ? { fd: listen.fd } : listen;
    await new Promise<void>((resolve, reject) => this.#server.once("error", reject).listen(at, () => resolve()));
    const address = this.#server.address();
    return typeof address === "object" && address ? address.port : 0;
  }

  /**
   * Takes no more connections, lets running requests end, no longer than `ms`; then cuts what is left. Idle connections are closed
   * soon; where a successor answers new ones, only when their client has had all that time to leave them.
   */
  async close(ms: number, handedOver = false): Promise<void> {
    this.#options.passage.load.draining = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#http1.drain(handedOver ? Math.max(0, ms - HTTP1_LAST_MS) : PARTING_MS);
    const http2 = await this.#http2;
    http2?.drain();
    const end = setTimeout(() => {
      this.#http1.closeAll();
      http2?.closeAll();
    }, ms);
    await closed;
    clearTimeout(end);
  }

  /** Speaks HTTP/1.1 on a connection. */
  serve(socket: Socket): void {
    this.#http1.serve(socket);
  }

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

  readonly #passHttp2 = (exchange: Exchange) => {
    const passage = new Passage(this.#options.passage, exchange);
    this.#options.admission.enter(passage);
    return { slow: () => passage.refuse(tooSlow(this.#options.limits)) };
  };

  /** Answers what is no request, and notes it. */
  #refuse(failure: Failure): string {
    const status = statusOf(failure);
    const { requestId, text } = rawRefusal(failure, status);
    const { passage, log } = this.#options;
    passage.metrics.finished("gateway", "malformed", status, 0);
    log.info({ requestId, operation: "malformed", status, code: failure.code, reason: failure.message });
    return text;
  }
}
