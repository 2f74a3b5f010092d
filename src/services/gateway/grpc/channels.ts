/** Calls of gRPC over HTTP/2 (RFC 9113), on one connection to each instance. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_UPSTREAM_FAILED } from "../api.ts";
import type { Connections } from "../upstream/connections.ts";
import type { Endpoint } from "../upstream/endpoint.ts";
import { GrpcStatus, statusIn } from "./status.ts";

/** A larger message of an answer ends the call. */
const MESSAGE_BYTES_MAX = 4_194_304;
const PREFIX_BYTES = 5;
/** A connection without calls is kept so long. */
const IDLE_MS = 60_000;
const MEMORY_MB = 16;

export interface Asked {
  readonly path: string;
  readonly message: Uint8Array;
  /** Sent as `grpc-timeout`; undefined where the call may last. */
  readonly timeoutMs: number | undefined;
  /** Further headers: ids, whom it is for. */
  readonly headers: Readonly<Record<string, string>>;
}

/** One call: its messages as they come, and how it ended. */
export interface Call {
  /** Throws the GrpcStatus that is not OK, or GATEWAY_UPSTREAM_FAILED where it is no gRPC that comes. */
  readonly messages: AsyncGenerator<Buffer>;
  cancel(): void;
}

class Channels {
  readonly #connections: Connections;
  readonly #sessions = new Map<Endpoint, Promise<ClientHttp2Session>>();

  constructor(connections: Connections) {
    this.#connections = connections;
  }

  /** Connects to an instance, or takes the connection there is; UNAVAILABLE. */
  session(endpoint: Endpoint): Promise<ClientHttp2Session> {
    const known = this.#sessions.get(endpoint);
    if (known) return known;
    const made = this.#connect(endpoint);
    this.#sessions.set(endpoint, made);
    const forget = () => this.#sessions.get(endpoint) === made && this.#sessions.delete(endpoint);
    made.then((session) => session.once("close", forget).once("goaway", forget).once("error", forget), forget);
    return made;
  }

  async #connect(endpoint: Endpoint): Promise<ClientHttp2Session> {
    const socket = await this.#connections.dial(endpoint, { ALPNProtocols: ["h2"] });
    const scheme = endpoint.security === "plain" ? "http" : "https";
    const session = connect(`${scheme}://${endpoint.instance}`, {
      createConnection: () => socket,
      settings: { enablePush: false },
      maxSessionMemory: MEMORY_MB,
    });
    // Told to the calls that are under way, each by its stream.
    session.on("error", () => undefined);
    session.setTimeout(IDLE_MS, () => session.close());
    session.unref();
    return session;
  }
}

const channels = new WeakMap<Connections, Channels>();

/** The channels of a gateway: routes share them. */
export function channelsOver(connections: Connections): Channels {
  let known = channels.get(connections);
  if (!known) channels.set(connections, (known = new Channels(connections)));
  return known;
}

/** Begins a call. */
export function call(session: ClientHttp2Session, { path, message, timeoutMs, headers }: Asked): Call {
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
    "grpc-accept-encoding": "identity",
    ...(timeoutMs === undefined ? {} : { "grpc-timeout": `${Math.max(1, Math.floor(timeoutMs))}m` }),
    ...headers,
  });
  const prefixed = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  prefixed[0] = 0;
  prefixed.writeUInt32BE(message.length, 1);
  prefixed.set(message, PREFIX_BYTES);
  stream.end(prefixed);
  return {
    messages: messagesOf(stream),
    cancel: () => stream.close(constants.NGHTTP2_CANCEL),
  };
}

async function* messagesOf(stream: ClientHttp2Stream): AsyncGenerator<Buffer> {
  let head: Readonly<Record<string, unknown>> = {};
  let trailers: Readonly<Record<string, unknown>> | undefined;
  stream.once("response", (headers) => (head = headers));
  stream.once("trailers", (headers) => (trailers = headers));
  try {
    for await (const message of cut(stream)) {
      if (head[":status"] !== 200) break;
      yield message;
    }
  } catch (cause) {
    throw cause instanceof GrpcStatus ? cause : broken(cause);
  } finally {
    if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
  }
  const isGrpc = String(head["content-type"]).startsWith("application/grpc");
  if (head[":status"] !== 200 || !isGrpc)
    throw fail(GATEWAY_UPSTREAM_FAILED, `the service answered with status ${String(head[":status"])}, and not as gRPC`);
  const status = statusIn(trailers ?? head);
  if (!status.isOk) throw status;
}

const broken = (cause: unknown) => fail(GATEWAY_UPSTREAM_FAILED, "the service's answer broke off", { cause });

/** Cuts what comes into messages, each with five bytes before it: whether it is packed, and its length. */
async function* cut(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let size = 0;
  let need = PREFIX_BYTES;
  for await (const chunk of stream) {
    held.push(chunk);
    size += chunk.length;
    if (size < need) continue;
    let bytes = held.length === 1 ? held[0] : Buffer.concat(held, size);
    for (need = PREFIX_BYTES; bytes.length >= need; need = PREFIX_BYTES) {
      const length = bytes.readUInt32BE(1);
      if (bytes[0] !== 0) throw new Error("a message is packed, which was not asked for");
      if (length > MESSAGE_BYTES_MAX) throw new Error(`a message has more than ${MESSAGE_BYTES_MAX} bytes`);
      need += length;
      if (bytes.length < need) break;
      yield bytes.subarray(PREFIX_BYTES, need);
      bytes = bytes.subarray(need);
    }
    held = bytes.length > 0 ? [bytes] : [];
    size = bytes.length;
  }
  if (size > 0) throw new Error("it ends within a message");
}
