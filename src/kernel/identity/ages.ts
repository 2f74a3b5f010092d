/** Keeps connections from outliving their certificates: an open one is never verified again. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Server, TLSSocket } from "node:tls";
import type { Clock } from "../clock.ts";
import { peerName } from "./peer.ts";

/** No connection lives longer than a day, whatever its certificate says; those without one have nothing else that ends. */
const LIFE_MS_MAX = 86_400_000;

interface Age {
  readonly bornMs: number;
  /** When it is cut, whatever it is doing: the end of the peer's certificate, told by the monotonic clock from its start on. */
  readonly endMs: number;
}

/**
 * Watches the connections of a server. One older than `ageMsMax` is closed after its present answer; one whose peer's
 * certificate has ended is cut: a stream that lasts is opened anew by its client, with a new certificate.
 */
export class ConnectionAges {
  readonly #server: Server;
  readonly #clock: Clock;
  readonly #ageMsMax: number;
  readonly #isRevoked: (socket: TLSSocket) => boolean;
  readonly #ages = new Map<TLSSocket, Age>();
  /** One timer for the connection that ends first: nothing wakes an idle machine for the others. */
  #timer: NodeJS.Timeout | undefined;
  #dueMs = Number.POSITIVE_INFINITY;

  constructor(server: Server, clock: Clock, ageMsMax: number, isRevoked: (socket: TLSSocket) => boolean) {
    this.#server = server;
    this.#clock = clock;
    this.#ageMsMax = ageMsMax;
    this.#isRevoked = isRevoked;
    server.on("secureConnection", this.#onConnection);
    // First in line, so that the head of the very answer can say that it is the last (a server of plain TLS has no requests).
    (server as NodeJS.EventEmitter).prependListener("request", this.#onRequest);
  }

  /** Cuts the connections of peers whose certificates have been revoked meanwhile. */
  cutRevoked(): void {
    for (const socket of this.#ages.keys()) if (this.#isRevoked(socket)) socket.destroy();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#server.off("secureConnection", this.#onConnection);
    (this.#server as NodeJS.EventEmitter).off("request", this.#onRequest);
    this.#ages.clear();
  }

  readonly #onConnection = (socket: TLSSocket): void => {
    if (this.#isRevoked(socket)) return void socket.destroy();
    const bornMs = this.#clock.monotonicMs();
    const restMs = (peerName(socket)?.notAfterMs ?? Number.POSITIVE_INFINITY) - this.#clock.wallMs();
    const age = { bornMs, endMs: bornMs + Math.min(LIFE_MS_MAX, Math.max(0, restMs)) };
    this.#ages.set(socket, age);
    socket.once("close", () => this.#ages.delete(socket));
    if (age.endMs < this.#dueMs) this.#wakeAt(age.endMs);
  };

  readonly #onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const age = this.#ages.get(request.socket as TLSSocket);
    if (age && this.#clock.monotonicMs() - age.bornMs >= this.#ageMsMax) response.shouldKeepAlive = false;
  };

  #wakeAt(dueMs: number): void {
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    if (dueMs !== Number.POSITIVE_INFINITY)
      this.#timer = setTimeout(this.#cut, Math.max(1, Math.ceil(dueMs - this.#clock.monotonicMs()))).unref();
  }

  readonly #cut = (): void => {
    const nowMs = this.#clock.monotonicMs();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [socket, age] of this.#ages) {
      if (nowMs >= age.endMs) socket.destroy();
      else nextMs = Math.min(nextMs, age.endMs);
    }
    this.#wakeAt(nextMs);
  };
}
