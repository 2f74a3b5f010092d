/** HTTP/2 at the door (RFC 9113): the same requests and answers, many at once on one connection. */
import {
  constants,
  Http2ServerRequest,
  Http2ServerResponse,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../../../kernel/clock.ts";
import { HEADERS_MAX } from "../api.ts";
import type { Exchange } from "./exchange.ts";
import { GuardedSocket } from "./guarded-socket.ts";
import { Http2Exchange } from "./http2-exchange.ts";

/** Requests under way on one connection; a further stream is refused with REFUSED_STREAM, and may be sent again. */
const STREAMS_MAX = 128;
/** Of what one connection may hold in the library's memory; in megabytes, as Node has it. */
const SESSION_MEMORY_MB = 4;
/** The pseudo-headers of a request (RFC 9113 8.3.1). */
const PSEUDO_HEADERS = 4;
/** How often connections without a request, and old ones, are looked for. */
const LOOK_MS = 1_000;
/** An older connection takes no further request: its certificate may have been renewed meanwhile. */
const AGE_MS_MAX = 3_600_000;

export interface FrontOptions {
  readonly clock: Clock;
  readonly limits: {
    readonly headerBytesMax: number;
    readonly requestMs: number;
    readonly keepAliveMs: number;
    readonly stallMs: number;
  };
  /** Takes a request; `slow` is called where its body did not come in time. */
  readonly pass: (exchange: Exchange) => { slow(): void };
}

/** Writes the headers of a stream as those of a request of HTTP/1.1. */
function asOne(given: readonly string[], ended: boolean): string[] {
  const raw: string[] = [];
  let authority: string | undefined;
  let cookies = "";
  let length = false;
  for (let i = 0; i < given.length; i += 2) {
    const name = given[i];
    const value = given[i + 1];
    if (name === ":authority") raw.push("host", (authority = value));
    // RFC 9113 8.3.1: the authority stands for Host. A Host that says something else makes two, which are refused.
    else if (name === "host" && value === authority) continue;
    // RFC 9113 8.2.3
    else if (name === "cookie") cookies += cookies === "" ? value : `; ${value}`;
    else if (name.charCodeAt(0) !== 58) {
      length ||= name === "content-length";
      raw.push(name, value);
    }
  }
  if (cookies !== "") raw.push("cookie", cookies);
  // What comes without a length ends where its stream does, as a chunked body ends where it says.
  if (!length && !ended) raw.push("transfer-encoding", "chunked");
  return raw;
}

/** RFC 9113 6.8: a first GOAWAY names the highest id there is, and the second one, a round trip later, the last that was taken. */
const LAST_STREAM_ID = 2 ** 31 - 1;
const PARTING_MS = 300;

interface Connection {
  readonly bornMs: number;
  running: number;
  /** Since when it has no request. */
  idleMs: number;
}

export class Http2Front {
  readonly #options: FrontOptions;
  readonly #connections = new Map<ServerHttp2Session, Connection>();
  readonly #looking: NodeJS.Timeout;

  constructor(options: FrontOptions) {
    this.#options = options;
    this.#looking = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Speaks HTTP/2 on a connection that has agreed on it. */
  serve(socket: TLSSocket): void {
    const { clock, limits } = this.#options;
    const session = performServerHandshake(new GuardedSocket(socket, clock), {
      settings: { maxConcurrentStreams: STREAMS_MAX, maxHeaderListSize: limits.headerBytesMax },
      maxHeaderListPairs: HEADERS_MAX + PSEUDO_HEADERS,
      maxSessionMemory: SESSION_MEMORY_MB,
    });
    const bornMs = clock.monotonicMs();
    const connection = { bornMs, running: 0, idleMs: bornMs };
    this.#connections.set(session, connection);
    session.on("stream", (stream, headers, _flags, raw) => {
      connection.running++;
      stream.once("close", () => {
        connection.running--;
        connection.idleMs = clock.monotonicMs();
      });
      this.#pass(stream, headers, raw, socket);
    });
    // The client was told by a code (RFC 9113 7); the connection's end is all that follows.
    session.on("error", () => undefined);
    session.once("close", () => this.#connections.delete(session));
  }

  /** Says that the connections end, takes what is on its way to them, then lets that end (RFC 9113 6.8). */
  drain(): void {
    clearInterval(this.#looking);
    for (const session of this.#connections.keys()) {
      session.goaway(constants.NGHTTP2_NO_ERROR, LAST_STREAM_ID);
      setTimeout(() => session.close(), PARTING_MS).unref();
    }
  }

  closeAll(): void {
    for (const session of this.#connections.keys()) session.destroy();
  }

  #look(): void {
    const { clock, limits } = this.#options;
    const nowMs = clock.monotonicMs();
    for (const [session, { bornMs, running, idleMs }] of this.#connections)
      if (nowMs - bornMs > AGE_MS_MAX || (running === 0 && nowMs - idleMs > limits.keepAliveMs)) session.close();
  }

  #pass(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, raw: readonly string[], socket: TLSSocket): void {
    const rawHeaders = asOne(raw, stream.endAfterHeaders);
    const request = new Http2ServerRequest(stream, headers, {}, rawHeaders);
    const response = new Http2ServerResponse(stream);
    // What the client breaks is told by the answer's close.
    stream.on("error", () => undefined);
    const { stallMs } = this.#options.limits;
    // Told again and again: it may be a service that is waited for.
    stream.setTimeout(stallMs);
    stream.on("timeout", () => stream.writableLength > 0 && stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM));
    const expects = headers.expect?.toLowerCase() === "100-continue";
    const exchange = new Http2Exchange({ request, response, rawHeaders, socket, expects });
    const passed = this.#options.pass(exchange);
    if (stream.endAfterHeaders) return;
    const timer = setTimeout(() => !exchange.received && passed.slow(), this.#options.limits.requestMs);
    stream.once("close", () => clearTimeout(timer));
    // RFC 9113 8.1: who has its whole answer is asked to send no more of its request.
    response.once("finish", () => !exchange.received && stream.close(constants.NGHTTP2_NO_ERROR));
  }
}
