/**
 * A connection to a NATS server that publishes, gets answers and listens: the client protocol's few verbs, on a socket of
 * the caller's, so that the bytes of the wire are counted, the own address is chosen and TLS is what the config says.
 */
import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { fail, type Failure, UNAVAILABLE } from "../error.ts";
import { credentials } from "./credentials.ts";
import { Parser } from "./parser.ts";

/** A server that answers no PING for so long is gone; asked as often. */
const PING_EVERY_MS = 60_000;

/** What of the server's INFO is used. */
interface Info {
  readonly version?: string;
  readonly max_payload?: number;
  readonly headers?: boolean;
  readonly nonce?: string;
  readonly tls_required?: boolean;
  readonly tls_available?: boolean;
}

/** An answer: the status of its header, where it has one (503: nobody listens), and its body. */
export interface NatsAnswer {
  readonly status: number | undefined;
  readonly head: string;
  readonly body: string;
}

/** A message that was listened for; `head` is the text of its headers, `reply` where an answer goes. */
export interface NatsMessage {
  readonly subject: string;
  readonly reply: string | undefined;
  readonly head: string;
  readonly body: string;
}

export interface NatsOptions {
  /** How this client is called in the server's lists. */
  readonly name: string;
  readonly login: {
    readonly username?: string | undefined;
    readonly password?: string | undefined;
    readonly token?: string | undefined;
    /** Text of a .creds file. */
    readonly credentials?: string | undefined;
  };
  /** For connecting, and for each answer. */
  readonly timeoutMs: number;
  /** Opens the connection, in the open: the server speaks first. */
  dial(this: void): Socket;
  /** Puts TLS on it; without it there is none. */
  readonly secure?: ((this: void, tcp: Socket) => Socket) | undefined;
  /** Says what went wrong. */
  inWords(this: void, error: unknown): Failure;
}

interface Waiting {
  readonly resolve: (answer: NatsAnswer) => void;
  readonly reject: (error: unknown) => void;
}

export class NatsConnection {
  readonly #o: NatsOptions;
  readonly #socket: Socket;
  readonly #inbox = `_INBOX.${randomBytes(12).toString("base64url").replaceAll(/[-_]/g, "0")}`;
  readonly #waiting = new Map<string, Waiting>();
  #parser = new Parser((verb, rest, payload) => this.#take(verb, rest, payload));
  #info: Info;
  #failure: Failure | undefined;
  #pongs: (() => void)[] = [];
  /** By number; the inbox of answers is 1. */
  readonly #listening = new Map<string, (message: NatsMessage) => void>();
  readonly #onLost = new Set<(failure: Failure) => void>();
  #count = 1;
  #pinging: NodeJS.Timeout | undefined;

  private constructor(options: NatsOptions, socket: Socket, info: Info) {
    this.#o = options;
    this.#socket = socket;
    this.#info = info;
    socket.on("data", (chunk: Buffer) => {
      try {
        this.#parser.push(chunk);
      } catch (error) {
        this.#lose(error);
      }
    });
    socket.on("error", (error) => this.#lose(error));
    socket.on("close", () => this.#lose(new Error("the server closed the connection")));
    socket.resume();
  }

  /** Connects. Fails with what `inWords` says. */
  static async open(options: NatsOptions): Promise<NatsConnection> {
    const { dial, secure, timeoutMs, inWords } = options;
    // The server speaks first and in the open; then both change to TLS.
    const tcp = dial();
    try {
      const info = await firstInfo(tcp, timeoutMs);
      if (secure && info.tls_required !== true && info.tls_available !== true)
        throw new Error("the server has no TLS, and the config asks for it");
      if (!secure && info.tls_required === true) throw new Error("the server wants TLS: use an address with tls://");
      const socket = secure ? await secured(secure(tcp), timeoutMs) : tcp;
      const connection = new NatsConnection(options, socket, info);
      await connection.#greet();
      return connection;
    } catch (error) {
      tcp.destroy();
      throw inWords(error);
    }
  }

  get isOpen(): boolean {
    return this.#failure === undefined;
  }

  /** Bytes of a message, headers included, that the server takes. */
  get payloadBytesMax(): number {
    return this.#info.max_payload ?? 1_048_576;
  }

  /** Publishes with headers and waits for the answer. UNAVAILABLE where there is none in time. */
  async request(subject: string, headers: Readonly<Record<string, string>>, body: Uint8Array): Promise<NatsAnswer> {
    if (this.#failure) throw this.#failure;
    const reply = `${this.#inbox}.${++this.#count}`;
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const head = Buffer.from(`NATS/1.0\r\n${lines.join("")}\r\n`);
    const { promise, resolve, reject } = Promise.withResolvers<NatsAnswer>();
    this.#waiting.set(reply, { resolve, reject });
    this.#socket.cork();
    this.#socket.write(`HPUB ${subject} ${reply} ${head.length} ${head.length + body.length}\r\n`);
    this.#socket.write(head);
    this.#socket.write(body);
    this.#socket.write("\r\n");
    this.#socket.uncork();
    const { timeoutMs } = this.#o;
    const timer = setTimeout(() => reject(fail(UNAVAILABLE, `no acknowledgement within ${timeoutMs} ms`)), timeoutMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(reply);
    }
  }

  /** Publishes, and waits for nothing. */
  publish(subject: string): void {
    if (!this.#failure) this.#socket.write(`PUB ${subject} 0\r\n\r\n`);
  }

  /** The server's version; empty where it says none. */
  get version(): string {
    return this.#info.version ?? "";
  }

  /** A subject that nobody else listens to. */
  newInbox(): string {
    return `${this.#inbox}X${++this.#count}`;
  }

  /** Calls back for each message to a subject, and once when the connection is lost. Returns how to stop that. */
  listen(subject: string, take: (message: NatsMessage) => void, lost: (failure: Failure) => void): () => void {
    if (this.#failure) throw this.#failure;
    const sid = String(++this.#count);
    this.#listening.set(sid, take);
    this.#onLost.add(lost);
    this.#socket.write(`SUB ${subject} ${sid}\r\n`);
    return () => {
      this.#listening.delete(sid);
      this.#onLost.delete(lost);
      if (!this.#failure) this.#socket.write(`UNSUB ${sid}\r\n`);
    };
  }

  end(): void {
    this.#failure ??= fail(UNAVAILABLE, "the connection was closed");
    this.#lose(this.#failure);
  }

  async #greet(): Promise<void> {
    const { login, name, secure } = this.#o;
    if (this.#info.headers !== true) throw new Error("the server takes no headers (NATS before 2.2)");
    const connect = {
      verbose: false,
      pedantic: false,
      tls_required: secure !== undefined,
      name,
      lang: "holdfast",
      version: "1",
      protocol: 1,
      headers: true,
      no_responders: true,
      user: login.username,
      pass: login.password,
      auth_token: login.token,
      ...(login.credentials === undefined ? {} : credentials(login.credentials, this.#info.nonce ?? "")),
    };
    this.#socket.write(`CONNECT ${JSON.stringify(connect)}\r\nSUB ${this.#inbox}.* 1\r\n`);
    await this.#ping();
    this.#pinging = setInterval(() => void this.#ping().catch(() => undefined), PING_EVERY_MS).unref();
  }

  /** Resolves when the server has read all before it; breaks the connection where it does not in time. */
  async #ping(): Promise<void> {
    const { timeoutMs } = this.#o;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => this.#lose(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    this.#pongs.push(resolve);
    this.#waiting.set("PING", { resolve: () => undefined, reject });
    this.#socket.write("PING\r\n");
    await promise.finally(() => clearTimeout(timer));
  }

  #take(verb: string, rest: string, payload: Buffer): void {
    if (verb === "PING") this.#socket.write("PONG\r\n");
    else if (verb === "PONG") this.#pongs.shift()?.();
    else if (verb === "INFO") this.#info = { ...this.#info, ...(JSON.parse(rest) as Info) };
    else if (verb === "-ERR") this.#lose(new Error(`the server says ${rest}`));
    else if (verb === "MSG" || verb === "HMSG") this.#answer(verb, rest.split(" "), payload);
  }

  #answer(verb: string, words: readonly string[], payload: Buffer): void {
    // HMSG subject sid [reply] header-bytes total-bytes.
    const headBytes = verb === "HMSG" ? Number(words.at(-2)) : 0;
    const take = this.#listening.get(words[1]);
    if (take) {
      const reply = words.length === (verb === "HMSG" ? 5 : 4) ? words[2] : undefined;
      const head = payload.toString("latin1", 0, headBytes);
      return take({ subject: words[0], reply, head, body: payload.toString("utf8", headBytes) });
    }
    const status = /^NATS\/1\.0 (\d{3})/.exec(payload.toString("latin1", 0, headBytes))?.[1];
    this.#waiting.get(words[0])?.resolve({
      status: status === undefined ? undefined : Number(status),
      head: payload.toString("latin1", 0, headBytes),
      body: payload.toString("utf8", headBytes),
    });
  }

  #lose(error: unknown): void {
    this.#failure ??= this.#o.inWords(error);
    clearInterval(this.#pinging);
    this.#socket.destroy();
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
    this.#pongs = [];
    for (const lost of this.#onLost) lost(this.#failure);
    this.#onLost.clear();
    this.#listening.clear();
  }
}

/** Waits for the server's first line; it must say INFO. */
function firstInfo(tcp: Socket, timeoutMs: number): Promise<Info> {
  const { promise, resolve, reject } = Promise.withResolvers<Info>();
  const timer = setTimeout(() => reject(new Error(`no word within ${timeoutMs} ms`)), timeoutMs);
  const late = () => reject(new Error("the server closed the connection"));
  const parser = new Parser((verb, rest) => {
    if (verb === "INFO") resolve(JSON.parse(rest) as Info);
    else reject(new Error("it is no NATS server"));
  });
  const read = (chunk: Buffer) => {
    try {
      parser.push(chunk);
    } catch (error) {
      reject(error);
    }
  };
  tcp.on("data", read).once("error", reject).once("close", late);
  return promise.finally(() => {
    clearTimeout(timer);
    tcp.off("data", read).off("error", reject).off("close", late).pause();
  });
}

function secured(socket: Socket, timeoutMs: number): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const timer = setTimeout(() => reject(new Error(`no TLS within ${timeoutMs} ms`)), timeoutMs);
  socket.once("secureConnect", () => resolve(socket)).once("error", reject);
  return promise.finally(() => {
    clearTimeout(timer);
    socket.off("error", reject);
  });
}
