/** HTTP/1.1 at the door (RFC 9112), by our own reader and writer: connections, each with a request at a time. */
import type { Socket } from "node:net";
import type { Clock } from "../../../kernel/clock.ts";
import type { Failure } from "../../../kernel/error.ts";
import { tooSlow } from "../refusals.ts";
import { clientOf } from "../shape/limiter.ts";
import { AnswerWriter } from "./answer-writer.ts";
import type { Exchange, Switched } from "./exchange.ts";
import { Http1Exchange } from "./http1-exchange.ts";
import { type RequestHead, RequestParser } from "./request-parser.ts";

export interface Http1Limits {
  readonly headerBytesMax: number;
  readonly headersMs: number;
  readonly requestMs: number;
  readonly keepAliveMs: number;
  readonly stallMs: number;
}

export interface Http1Options {
  readonly clock: Clock;
  readonly limits: Http1Limits;
  /** Takes a request. */
  readonly pass: (exchange: Exchange) => void;
  /** Writes the answer to bytes that are no request, and notes them. */
  readonly refuse: (failure: Failure) => string;
}

/** How often what is slow or idle is looked for. */
const LOOK_MS = 1_000;
/** What still comes after the last answer is thrown away for so long, so that the client reads it before it meets a reset. */
const LINGER_MS = 500;
/** Of requests that come before the one under way is answered; more is left to wait in the network. */
const HELD_BYTES_MAX = 65_536;
const NOTHING = Buffer.alloc(0);

export class Http1Front {
  readonly writer: AnswerWriter;
  readonly options: Http1Options;
  readonly connections = new Set<Http1Connection>();
  /** Connections that are WebSockets now. */
  readonly #switched = new Set<Socket>();
  readonly #looking: NodeJS.Timeout;
  draining = false;

  constructor(options: Http1Options) {
    this.options = options;
    this.writer = new AnswerWriter(options.clock);
    this.#looking = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Speaks HTTP/1.1 on a connection. */
  serve(socket: Socket): void {
    this.connections.add(new Http1Connection(this, socket));
  }

  /**
   * Each connection's next answer is its last; after `partingMs` what is still idle is closed: a request may be on its way.
   * A WebSocket has no end of its own to wait for: its client opens another one.
   */
  drain(partingMs: number): void {
    this.draining = true;
    clearInterval(this.#looking);
    setTimeout(() => {
      for (const connection of this.connections) connection.closeIdle();
    }, partingMs).unref();
    for (const socket of this.#switched) socket.destroySoon();
  }

  closeAll(): void {
    for (const connection of this.connections) connection.destroy();
    for (const socket of this.#switched) socket.destroy();
  }

  switched(socket: Socket): void {
    this.#switched.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => this.#switched.delete(socket));
  }

  #look(): void {
    const nowMs = this.options.clock.monotonicMs();
    for (const connection of this.connections) connection.look(nowMs);
  }
}

export class Http1Connection {
  readonly socket: Socket;
  readonly front: Http1Front;
  readonly address: string;
  readonly client: string;
  readonly #parser: RequestParser;
  #exchange: Http1Exchange | undefined;
  #held: Buffer | undefined;
  /** Since when a request comes, or none is there. */
  #sinceMs: number;
  #requests = 0;
  #feeding = false;
  /** The last answer is on its way, or given: what comes counts no more. */
  #over = false;

  constructor(front: Http1Front, socket: Socket) {
    this.front = front;
    this.socket = socket;
    this.address = socket.remoteAddress ?? "";
    this.client = clientOf(this.address);
    this.#sinceMs = front.options.clock.monotonicMs();
    this.#parser = new RequestParser(this, front.options.limits.headerBytesMax);
    socket.on("data", this.#onData).on("end", this.#onEnd).on("drain", this.#onDrain);
    socket.on("error", this.#onError).on("close", this.#onClose);
    socket.setTimeout(front.options.limits.stallMs).on("timeout", this.#onQuiet);
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#over) return;
    if (this.#exchange?.received) this.#hold(chunk);
    else this.#feed(chunk);
  };

  readonly #onEnd = (): void => this.destroy();

  readonly #onDrain = (): void => this.#exchange?.drained();

  /** Nothing came or went for a while: all right as long as nothing waits to go; `look` minds what is to come. */
  readonly #onQuiet = (): void => {
    if (this.#over || this.socket.writableLength > 0) this.destroy();
  };

  readonly #onError = (): void => this.destroy();

  readonly #onClose = (): void => {
    this.front.connections.delete(this);
    this.#over = true;
    this.#exchange?.lost();
    this.#exchange = undefined;
  };

  /** The parser has read a head. */
  head(request: RequestHead): void {
    this.#requests++;
    const exchange = new Http1Exchange(this, request);
    this.#exchange = exchange;
    this.front.options.pass(exchange);
  }

  /** A part of the body has come. */
  data(chunk: Buffer): void {
    this.#exchange?.data(chunk);
  }

  /** The body is all there. */
  end(): void {
    this.#exchange?.ended();
  }

  /** The answer is given. Where it is the last, or the client still sends what nobody wants, the connection ends. */
  answered(exchange: Http1Exchange): void {
    this.#exchange = undefined;
    if (exchange.last || this.front.draining) return this.#finish(exchange.clean);
    this.#parser.begin();
    this.#sinceMs = this.front.options.clock.monotonicMs();
    if (this.#feeding || !this.#held) return;
    const held = this.#held;
    this.#held = undefined;
    this.#feed(held);
    this.socket.resume();
  }

  /** Gives the connection away. */
  leave(): Switched {
    const { socket, front } = this;
    socket.off("data", this.#onData).off("end", this.#onEnd).off("drain", this.#onDrain);
    socket.off("error", this.#onError).off("close", this.#onClose);
    socket.setTimeout(0).off("timeout", this.#onQuiet);
    front.connections.delete(this);
    front.switched(socket);
    // It may have been held up; what comes is read by whoever has it by then.
    socket.resume();
    this.#over = true;
    return { socket, rest: this.#held ?? NOTHING };
  }

  destroy(): void {
    this.socket.destroy();
  }

  closeIdle(): void {
    if (!this.#exchange && !this.#over && !this.#parser.partial) this.#finish(true);
  }

  /** Looks whether what is to come does so in time. */
  look(nowMs: number): void {
    if (this.#over) return;
    const { headersMs, requestMs, keepAliveMs } = this.front.options.limits;
    const ms = nowMs - this.#sinceMs;
    if (this.#exchange) {
      if (!this.#exchange.received && ms > requestMs) this.#fault(tooSlow({ requestMs }));
    } else if (this.#parser.partial) {
      if (ms > Math.min(headersMs, requestMs)) this.#fault(tooSlow({ requestMs: Math.min(headersMs, requestMs) }));
    } else if (ms > (this.#requests === 0 ? headersMs : keepAliveMs)) this.#finish(true);
  }

  #hold(chunk: Buffer): void {
    this.#held = this.#held ? Buffer.concat([this.#held, chunk]) : chunk;
    if (this.#held.length >= HELD_BYTES_MAX) this.socket.pause();
  }

  #feed(chunk: Buffer): void {
    this.#feeding = true;
    let rest: Buffer | undefined = chunk;
    try {
      while (rest && !this.#over) {
        if (this.#exchange?.received) {
          this.#hold(rest);
          break;
        }
        if (!this.#exchange && !this.#parser.partial) this.#sinceMs = this.front.options.clock.monotonicMs();
        rest = this.#parser.feed(rest);
      }
    } catch (error) {
      this.#fault(error as Failure);
    } finally {
      this.#feeding = false;
    }
  }

  /** Where the next request begins is unknown from here on. */
  #fault(failure: Failure): void {
    if (this.#over) return;
    const exchange = this.#exchange;
    if (exchange && !exchange.received) return exchange.fault(failure);
    this.socket.write(this.front.options.refuse(failure), "latin1");
    this.#finish(false);
  }

  /** Ends the connection; `clean`: nothing more is on its way from the client. */
  #finish(clean: boolean): void {
    this.#over = true;
    const { socket } = this;
    if (clean && !this.#held) return socket.destroySoon();
    socket.end();
    socket.resume();
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  }
}
