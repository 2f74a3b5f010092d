/** Keep-alive connections, each made with the certificate of the moment and used for a limited time. */
import { Agent } from "node:https";
import type { OnReadOpts } from "node:net";
import type { Duplex } from "node:stream";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";
import type { Clock } from "../clock.ts";
import { Lines } from "../http/lines.ts";

/** Streams hold a connection each for as long as they last; requests share the rest. Beyond it they queue. */
const CONNECTIONS_MAX = 256;
const IDLE_CONNECTIONS_MAX = 16;
/** Below what our servers wait (65 s), so that the one who sends is the one who closes. */
const IDLE_MS_MAX = 50_000;
/** Addresses that are remembered as given up; at the limit all are forgotten, which costs a call a second try. */
const RETIRED_MAX = 256;

/** Gives node:https its connections (streams), and `lines` to whom whole answers do (all other calls). */
export class IdentityAgent extends Agent {
  readonly lines: Lines;
  readonly #settings: () => ConnectionOptions;
  readonly #onConnection: (socket: TLSSocket) => void;
  readonly #clock: Clock;
  readonly #ageMsMax: number;
  readonly #born = new WeakMap<Duplex, { readonly address: string; readonly ms: number }>();
  /** When connections to an address were last given up; those that are older are used for no further request. */
  readonly #retiredMs = new Map<string, number>();

  constructor(
    settings: () => ConnectionOptions,
    options: { clock: Clock; ageMsMax: number; onConnection: (socket: TLSSocket) => void },
  ) {
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
    this.#clock = options.clock;
    this.#ageMsMax = options.ageMsMax;
    this.#onConnection = options.onConnection;
    this.lines = new Lines({
      dial: (host, port, onread) => this.#dial({ host, port, onread, noDelay: true }),
      isKept: (socket) => this.#isKept(socket),
    });
  }

  override createConnection(options: ConnectionOptions): Duplex {
    return this.#dial(options);
  }

  #dial(options: ConnectionOptions & { noDelay?: boolean; onread?: OnReadOpts }): TLSSocket {
    // Asked anew each time, and kept out of the pool's key: a renewal does not empty the pool.
    const socket = connect({ ...options, ...this.#settings() });
    this.#onConnection(socket);
    const { host, port } = options;
    this.#born.set(socket, { address: `${host}:${port}`, ms: this.#clock.monotonicMs() });
    return socket;
  }

  override keepSocketAlive(socket: Duplex): boolean {
    return this.#isKept(socket) && Boolean(super.keepSocketAlive(socket));
  }

  #isKept(socket: Duplex): boolean {
    const { address, ms } = this.#born.get(socket) ?? { address: "", ms: 0 };
    return this.#clock.monotonicMs() - ms < this.#ageMsMax && ms > (this.#retiredMs.get(address) ?? -1);
  }

  /** Gives up the connections to an address: idle ones now, busy ones after their request. */
  retire(host: string, port: number): void {
    const address = `${host}:${port}`;
    if (this.#retiredMs.size >= RETIRED_MAX) this.#retiredMs.clear();
    this.#retiredMs.set(address, this.#clock.monotonicMs());
    for (const [name, sockets] of Object.entries(this.freeSockets))
      if (name.startsWith(`${address}:`)) for (const socket of sockets ?? []) socket.destroy();
    this.lines.retire(host, port);
  }

  override destroy(): void {
    super.destroy();
    this.lines.close();
  }
}
