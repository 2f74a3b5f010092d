/** A keep-alive agent whose every connection is made with the certificate of the moment, and used for a limited time. */
import { Agent } from "node:https";
import type { Duplex } from "node:stream";
import { connect, type ConnectionOptions } from "node:tls";
import type { Clock } from "../clock.ts";

/** Streams hold a connection each for as long as they last; requests share the rest. Beyond it they queue. */
const CONNECTIONS_MAX = 256;
const IDLE_CONNECTIONS_MAX = 16;
/** Below what our servers wait (65 s), so that the one who sends is the one who closes. */
const IDLE_MS_MAX = 50_000;

export class IdentityAgent extends Agent {
  readonly #settings: () => ConnectionOptions;
  readonly #clock: Clock;
  readonly #ageMsMax: number;
  readonly #bornMs = new WeakMap<Duplex, number>();

  constructor(settings: () => ConnectionOptions, clock: Clock, ageMsMax: number) {
    super({
      keepAlive: true,
      maxSockets: CONNECTIONS_MAX,
      maxFreeSockets: IDLE_CONNECTIONS_MAX,
      maxCachedSessions: 0,
      scheduling: "lifo",
      timeout: IDLE_MS_MAX,
      servername: "",
    });
    this.#settings = settings;
    this.#clock = clock;
    this.#ageMsMax = ageMsMax;
  }

  override createConnection(options: ConnectionOptions): Duplex {
    // Asked anew each time, and kept out of the pool's key: a renewal does not empty the pool.
    const socket = connect({ ...options, ...this.#settings() });
    this.#bornMs.set(socket, this.#clock.monotonicMs());
    return socket;
  }

  override keepSocketAlive(socket: Duplex): boolean {
    const ageMs = this.#clock.monotonicMs() - (this.#bornMs.get(socket) ?? 0);
    return ageMs < this.#ageMsMax && Boolean(super.keepSocketAlive(socket));
  }
}
