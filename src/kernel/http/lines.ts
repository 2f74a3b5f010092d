/**
 * Kept connections to services, for requests whose answer is taken whole: one at a time on each, by our own HTTP/1.1 codec
 * on the socket, for a third of what node:https spends on a request.
 */
import type { OnReadOpts } from "node:net";
import type { TLSSocket } from "node:tls";
import { fail, UNAVAILABLE } from "../error.ts";
import { type Asked, Line, type Whole } from "./line.ts";
import { readInto, type Wire } from "./wire.ts";

export type { Asked, Whole } from "./line.ts";

/** Connections to one address; more requests at once wait for one of them to be free. */
const LINES_MAX = 128;
const IDLE_MAX = 16;
/** Requests that wait for a connection to one address; further ones fail with UNAVAILABLE. */
const WAITING_MAX = 1_024;

export interface LinesOptions {
  /** Begins a connection, which has checked whom it leads to when it says "secureConnect". */
  dial(host: string, port: number, onread: OnReadOpts): TLSSocket;
  /** Whether a connection may carry another request. */
  isKept(socket: TLSSocket): boolean;
}

/** A request on its way. */
export interface Asking {
  readonly answer: Promise<Whole>;
  /** Gives it up: `answer` rejects with the error, and the connection that carries it ends. */
  readonly cut: (error: Error) => void;
}

interface Pending extends Asked {
  resolve(answer: Whole): void;
  reject(error: Error): void;
  line: Line | undefined;
}

interface Pool {
  readonly host: string;
  readonly port: number;
  readonly idle: Line[];
  readonly all: Set<Line>;
  readonly waiting: Pending[];
}

export class Lines {
  readonly #options: LinesOptions;
  readonly #pools = new Map<string, Pool>();

  constructor(options: LinesOptions) {
    this.#options = options;
  }

  /**
   * Sends a request. Rejects with what broke the connection (with a `code`, as node:http does), and with the certificate's
   * refusal; UNAVAILABLE where too many wait.
   */
  ask(host: string, port: number, asked: Asked): Asking {
    const pool = this.#poolOf(host, port);
    const { promise, resolve, reject } = Promise.withResolvers<Whole>();
    const pending: Pending = { ...asked, resolve, reject, line: undefined };
    const kept = this.#kept(pool);
    if (kept) this.#give(pending, kept);
    else if (pool.all.size < LINES_MAX) this.#begin(pool, pending);
    else if (pool.waiting.length < WAITING_MAX) pool.waiting.push(pending);
    else reject(fail(UNAVAILABLE, `${WAITING_MAX} calls wait for ${host}:${port} already`, { retryAfterS: 1 }));
    return {
      answer: promise,
      cut: (error) => {
        const at = pending.line ? -1 : pool.waiting.indexOf(pending);
        if (at >= 0) pool.waiting.splice(at, 1);
        pending.line?.cut(error);
        reject(error);
      },
    };
  }

  /** Ends the idle connections to an address; busy ones end by `isKept`. */
  retire(host: string, port: number): void {
    for (const line of this.#pools.get(`${host}:${port}`)?.idle.splice(0) ?? []) line.cut();
  }

  /** Ends all connections; what is on its way rejects. */
  close(): void {
    for (const { all, waiting } of this.#pools.values()) {
      for (const pending of waiting.splice(0)) pending.reject(fail(UNAVAILABLE, "the connections were closed"));
      for (const line of all) line.cut();
    }
  }

  #poolOf(host: string, port: number): Pool {
    const address = `${host}:${port}`;
    let pool = this.#pools.get(address);
    if (!pool) this.#pools.set(address, (pool = { host, port, idle: [], all: new Set(), waiting: [] }));
    return pool;
  }

  /** The one that was used last: what a quiet hour leaves idle ends by its age. */
  #kept({ idle }: Pool): Line | undefined {
    for (let line = idle.pop(); line; line = idle.pop()) {
      if (this.#options.isKept(line.socket)) return line;
      line.cut();
    }
    return undefined;
  }

  #give(pending: Pending, line: Line): void {
    pending.line = line;
    line.ask(pending, {
      resolve: (answer) => {
        // Who gives up from now on cuts nobody else's.
        pending.line = undefined;
        pending.resolve(answer);
      },
      reject: (error) => pending.reject(error),
    });
  }

  #begin(pool: Pool, pending: Pending): void {
    try {
      this.#give(pending, this.#open(pool));
    } catch (error) {
      // No certificate yet.
      pending.reject(error as Error);
    }
  }

  #open(pool: Pool): Line {
    const wire: Wire = { take: undefined };
    const line = new Line(this.#options.dial(pool.host, pool.port, readInto(wire)), wire, {
      onFree: () => this.#free(pool, line),
      onClosed: () => this.#closed(pool, line),
    });
    pool.all.add(line);
    return line;
  }

  #free(pool: Pool, line: Line): void {
    if (!this.#options.isKept(line.socket)) return line.cut();
    const next = pool.waiting.shift();
    if (next) this.#give(next, line);
    else if (pool.idle.length >= IDLE_MAX) line.cut();
    else {
      line.rest();
      pool.idle.push(line);
    }
  }

  #closed(pool: Pool, line: Line): void {
    pool.all.delete(line);
    const at = pool.idle.indexOf(line);
    if (at >= 0) pool.idle.splice(at, 1);
    const next = pool.waiting.shift();
    if (next) this.#begin(pool, next);
    // Ports come and go with every restart of a service.
    else if (pool.all.size === 0) this.#pools.delete(`${pool.host}:${pool.port}`);
  }
}
