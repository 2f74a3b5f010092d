/** Keeps connections to the upstreams' instances, young ones first, and lends each to one request at a time. */
import { once } from "node:events";
import { connect as connectPlain, isIP, type OnReadOpts, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Clock } from "../../../kernel/clock.ts";
import { fail, UNAVAILABLE } from "../../../kernel/error.ts";
import { readInto, type Wire } from "../../../kernel/http/wire.ts";
import type { TlsIdentity } from "../../../kernel/identity/tls.ts";
import { GATEWAY_BUSY } from "../api.ts";
import { Connection } from "./connection.ts";
import type { Endpoint } from "./endpoint.ts";
import { Pipeline } from "./pipeline.ts";
import type { Ticket } from "../ticket.ts";

/** Connections to one instance; more requests at once wait for one of them to be free. */
const CONNECTIONS_MAX = 128;
const IDLE_MAX = 32;
/** Requests that wait for a connection to one instance; further ones are refused with GATEWAY_BUSY. */
const WAITING_MAX = 1_024;
/** Where the first has waited for so long there is a crowd: the last come first, and the first is refused. In turn all would be late. */
const CROWD_MS = 50;
/** Below what our services wait (65 s), so that it is we who close. */
const IDLE_MS_MAX = 50_000;
const SWEEP_MS = 5_000;
/** A handshake takes milliseconds; a process that is just starting takes connections before it answers them. */
const CONNECT_MS = 2_000;
const AGE_MS_MAX = 3_600_000;
/** The other side cuts a connection when the certificate ends that it began with: longer than any request lasts before. */
const MARGIN_MS = 65_000;

/** Sends a request and waits for the head of its answer. */
export type Sender = Pick<Connection, "send">;

/** How a connection is read, and the protocols that it is for (ALPN). */
interface Dialing {
  readonly onread?: OnReadOpts;
  readonly ALPNProtocols?: string[];
}

interface Waiter {
  readonly sinceMs: number;
  resolve(connection: Connection): void;
  reject(error: Error): void;
}

interface Pool {
  readonly endpoint: Endpoint;
  readonly idle: Connection[];
  readonly waiting: Waiter[];
  readonly connecting: Set<Socket>;
  count: number;
  gone: boolean;
  /** The connection that requests of one turn share. */
  shared: Pipeline | Promise<Pipeline> | undefined;
}

export class Connections {
  readonly #identity: Pick<TlsIdentity, "certificate" | "clientOptions" | "watch">;
  readonly #clock: Clock;
  readonly #pools = new Map<Endpoint, Pool>();
  readonly #sweeping: NodeJS.Timeout;

  constructor(options: { identity: Pick<TlsIdentity, "certificate" | "clientOptions" | "watch">; clock: Clock }) {
    this.#identity = options.identity;
    this.#clock = options.clock;
    this.#sweeping = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  /** Lends a connection: a kept one, a new one, or the next that is free. Rejects where none can be made; GATEWAY_BUSY. */
  take(endpoint: Endpoint, ticket: Ticket): Connection | Promise<Connection> {
    const pool = this.#poolOf(endpoint);
    const nowMs = this.#clock.monotonicMs();
    for (let kept = pool.idle.pop(); kept; kept = pool.idle.pop()) {
      if (kept.usable && nowMs < kept.endMs) return kept;
      kept.cut();
    }
    if (pool.waiting.length >= WAITING_MAX) {
      const busy = fail(GATEWAY_BUSY, `too many requests wait for ${endpoint.service}`, { retryAfterS: 1 });
      if (nowMs - pool.waiting[0].sinceMs <= CROWD_MS) throw busy;
      pool.waiting.shift()!.reject(busy);
    }
    const { promise, resolve, reject } = Promise.withResolvers<Connection>();
    const waiter = { resolve, reject, sinceMs: nowMs };
    pool.waiting.push(waiter);
    if (pool.count < CONNECTIONS_MAX) this.#connect(pool);
    return ticket.wait(promise).catch((error: unknown) => {
      const at = pool.waiting.indexOf(waiter);
      if (at >= 0) pool.waiting.splice(at, 1);
      // It came at the very moment that nobody waited any more.
      else
        promise.then(
          (connection) => this.#give(pool, connection),
          () => undefined,
        );
      throw error;
    });
  }

  /** Lends the connection that is shared, as long as it has room, else one of its own. */
  share(endpoint: Endpoint, ticket: Ticket): Sender | Promise<Sender> {
    const pool = this.#poolOf(endpoint);
    const { shared } = pool;
    if (shared instanceof Promise) return ticket.wait(shared);
    if (shared?.usable && this.#clock.monotonicMs() < shared.endMs)
      return shared.hasRoom ? shared : this.take(endpoint, ticket);
    shared?.retire();
    const opening = this.#openShared(pool);
    pool.shared = opening;
    return ticket.wait(opening);
  }

  async #openShared(pool: Pool): Promise<Pipeline> {
    const wire: Wire = { take: undefined };
    const endMs = this.#endOf(this.#clock.monotonicMs());
    try {
      const socket = await this.dial(pool.endpoint, { onread: readInto(wire) });
      const pipeline = new Pipeline({ socket, wire, endMs });
      if (pool.gone) pipeline.retire();
      return (pool.shared = pipeline);
    } catch (error) {
      pool.shared = undefined;
      throw error;
    }
  }

  /** Makes a connection that is nobody else's; UNAVAILABLE where none can be made. */
  async dial(endpoint: Endpoint, more: Dialing = {}): Promise<Socket> {
    const socket = this.#open(endpoint, more);
    const timer = setTimeout(() => socket.destroy(new Error(`no handshake within ${CONNECT_MS} ms`)), CONNECT_MS);
    try {
      await once(socket, endpoint.security === "plain" ? "connect" : "secureConnect");
    } catch (cause) {
      throw fail(UNAVAILABLE, `${endpoint.service} cannot be connected to`, { cause, retryAfterS: 1 });
    } finally {
      clearTimeout(timer);
    }
    return socket;
  }

  /** Closes what is kept for an instance: the other side has ended it, or is about to. */
  dropIdle(endpoint: Endpoint): void {
    const pool = this.#pools.get(endpoint);
    for (const connection of pool?.idle.splice(0) ?? []) connection.cut();
    if (pool?.shared instanceof Pipeline) pool.shared.retire();
  }

  /** Forgets an instance that is there no more: who waits for it is told, requests under way may end. */
  retire(endpoint: Endpoint): void {
    const pool = this.#pools.get(endpoint);
    if (!pool) return;
    this.#pools.delete(endpoint);
    pool.gone = true;
    for (const connection of pool.idle.splice(0)) connection.cut();
    if (pool.shared instanceof Pipeline) pool.shared.retire();
    for (const socket of pool.connecting) socket.destroy(new Error("the instance has gone"));
  }

  /** Counts connections, for the metrics. */
  counts(endpoint: Endpoint): { open: number; idle: number } {
    const pool = this.#pools.get(endpoint);
    return { open: pool?.count ?? 0, idle: pool?.idle.length ?? 0 };
  }

  close(): void {
    clearInterval(this.#sweeping);
    for (const endpoint of this.#pools.keys()) this.retire(endpoint);
  }

  #poolOf(endpoint: Endpoint): Pool {
    const known = this.#pools.get(endpoint);
    if (known) return known;
    const pool: Pool = {
      endpoint,
      idle: [],
      waiting: [],
      connecting: new Set(),
      count: 0,
      gone: false,
      shared: undefined,
    };
    this.#pools.set(endpoint, pool);
    return pool;
  }

  #connect(pool: Pool): void {
    pool.count++;
    const startMs = this.#clock.monotonicMs();
    const wire: Wire = { take: undefined };
    const socket = this.#open(pool.endpoint, { onread: readInto(wire) });
    pool.connecting.add(socket);
    const timer = setTimeout(() => socket.destroy(new Error(`no handshake within ${CONNECT_MS} ms`)), CONNECT_MS);
    const settled = () => {
      clearTimeout(timer);
      pool.connecting.delete(socket);
      socket.off("error", failed).off("close", closed);
    };
    const failed = (error: Error) => {
      settled();
      // An error may come again while the socket is torn down; it has been told.
      socket.on("error", () => undefined);
      pool.count--;
      pool.waiting.shift()?.reject(error);
      this.#serveWaiting(pool);
    };
    const closed = () => failed(new Error("the connection was closed in the handshake"));
    socket.on("error", failed).on("close", closed);
    socket.once(pool.endpoint.security === "plain" ? "connect" : "secureConnect", () => {
      settled();
      const connection = new Connection({
        socket,
        wire,
        endMs: this.#endOf(startMs),
        onFree: (free) => this.#give(pool, free),
        onClosed: (ended) => this.#closed(pool, ended),
      });
      this.#give(pool, connection);
    });
  }

  #open({ service, host, port, security }: Endpoint, more: Dialing): Socket {
    const to = { host, port, noDelay: true, ...more };
    if (security === "peer") {
      const socket = connectTls({ ...this.#identity.clientOptions(service), ...to });
      this.#identity.watch(socket);
      return socket;
    }
    if (security === "plain") return connectPlain(to);
    // RFC 6066 3: an address is no server name.
    return connectTls({ ...to, minVersion: "TLSv1.2", ...(isIP(host) ? {} : { servername: host }) });
  }

  #endOf(startMs: number): number {
    const validMs = (this.#identity.certificate?.notAfterMs ?? Number.POSITIVE_INFINITY) - this.#clock.wallMs();
    return startMs + Math.min(AGE_MS_MAX, validMs - Math.min(MARGIN_MS, validMs / 4));
  }

  #give(pool: Pool, connection: Connection): void {
    if (!connection.usable) return;
    const nowMs = this.#clock.monotonicMs();
    if (pool.gone || nowMs >= connection.endMs) return connection.cut();
    const [first] = pool.waiting;
    if (first) {
      const waiter = nowMs - first.sinceMs > CROWD_MS ? pool.waiting.pop() : pool.waiting.shift();
      return waiter!.resolve(connection);
    }
    if (pool.idle.length >= IDLE_MAX) return connection.cut();
    connection.idleSinceMs = nowMs;
    pool.idle.push(connection);
  }

  #closed(pool: Pool, connection: Connection): void {
    pool.count--;
    const at = pool.idle.indexOf(connection);
    if (at >= 0) pool.idle.splice(at, 1);
    this.#serveWaiting(pool);
  }

  /** A place is free: who waits beyond those that are being connected for gets a connection of their own. */
  #serveWaiting(pool: Pool): void {
    if (pool.gone) {
      for (const waiter of pool.waiting.splice(0)) waiter.reject(new Error("the instance has gone"));
      return;
    }
    if (pool.waiting.length > pool.connecting.size && pool.count < CONNECTIONS_MAX) this.#connect(pool);
  }

  #sweep(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const pool of this.#pools.values()) {
      for (const connection of pool.idle.slice()) {
        if (nowMs - connection.idleSinceMs > IDLE_MS_MAX || nowMs >= connection.endMs) connection.cut();
      }
    }
  }
}
