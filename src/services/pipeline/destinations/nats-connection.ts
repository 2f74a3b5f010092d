/**
 * A connection to a NATS server that publishes and gets answers: the client protocol's few verbs, on a socket of ours, so
 * that the bytes of the wire are counted, the own address is chosen and TLS is what the config says.
 */
import { createPrivateKey, randomBytes, sign } from "node:crypto";
import type { Socket } from "node:net";
import { fail, type Failure, UNAVAILABLE } from "../../../kernel/error.ts";
import type { NatsConfig } from "./config.ts";
import { dial, encrypted, inWords, type Meter, PIPELINE_DESTINATION_INVALID, type Place } from "./wire.ts";

/** The longest line of the protocol that is taken, and the longest answer: acknowledgements are of some hundred bytes. */
const LINE_BYTES_MAX = 65_536;
const ANSWER_BYTES_MAX = 65_536;
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
  readonly body: string;
}

export interface NatsOptions {
  readonly config: Pick<NatsConfig, "username" | "passwordFile" | "tokenFile" | "credentialsFile" | "timeoutMs">;
  readonly name: string;
  readonly place: Place;
  readonly meter: Meter;
  readonly secrets: Readonly<Record<string, string>>;
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
  #count = 0;
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

  /** Connects. UNAVAILABLE, PIPELINE_PORT_FORBIDDEN. */
  static async open(options: NatsOptions): Promise<NatsConnection> {
    const { place, meter, config } = options;
    // The server speaks first and in the open; then both change to TLS.
    const tcp = dial({ ...place, tls: undefined }, meter);
    try {
      const info = await firstInfo(tcp, config.timeoutMs);
      if (place.tls && info.tls_required !== true && info.tls_available !== true)
        throw new Error("the server has no TLS, and the config asks for it");
      if (!place.tls && info.tls_required === true) throw new Error("the server wants TLS: use an address with tls://");
      const socket = place.tls ? await secured(tcp, place, config.timeoutMs) : tcp;
      const connection = new NatsConnection(options, socket, info);
      await connection.#greet();
      return connection;
    } catch (error) {
      tcp.destroy();
      throw inWords(error, place);
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
    const { timeoutMs } = this.#o.config;
    const timer = setTimeout(() => reject(fail(UNAVAILABLE, `no acknowledgement within ${timeoutMs} ms`)), timeoutMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(reply);
    }
  }

  end(): void {
    this.#failure ??= fail(UNAVAILABLE, "the connection was closed");
    this.#lose(this.#failure);
  }

  async #greet(): Promise<void> {
    const { config, name, secrets } = this.#o;
    if (this.#info.headers !== true) throw new Error("the server takes no headers (NATS before 2.2)");
    const text = (file: string | undefined) => (file === undefined ? undefined : (secrets[file] ?? "").trim());
    const connect = {
      verbose: false,
      pedantic: false,
      tls_required: this.#o.place.tls !== undefined,
      name,
      lang: "holdfast",
      version: "1",
      protocol: 1,
      headers: true,
      no_responders: true,
      user: config.username,
      pass: text(config.passwordFile),
      auth_token: text(config.tokenFile),
      ...(config.credentialsFile === undefined
        ? {}
        : credentials(text(config.credentialsFile) ?? "", this.#info.nonce ?? "")),
    };
    this.#socket.write(`CONNECT ${JSON.stringify(connect)}\r\nSUB ${this.#inbox}.* 1\r\n`);
    await this.#ping();
    this.#pinging = setInterval(() => void this.#ping().catch(() => undefined), PING_EVERY_MS).unref();
  }

  /** Resolves when the server has read all before it; breaks the connection where it does not in time. */
  async #ping(): Promise<void> {
    const { timeoutMs } = this.#o.config;
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
    const status = /^NATS\/1\.0 (\d{3})/.exec(payload.toString("latin1", 0, headBytes))?.[1];
    this.#waiting.get(words[0])?.resolve({
      status: status === undefined ? undefined : Number(status),
      body: payload.toString("utf8", headBytes),
    });
  }

  #lose(error: unknown): void {
    this.#failure ??= inWords(error, this.#o.place);
    clearInterval(this.#pinging);
    this.#socket.destroy();
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
    this.#pongs = [];
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

function secured(tcp: Socket, { tls }: Place, timeoutMs: number): Promise<Socket> {
  const socket = encrypted(tcp, tls ?? {});
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const timer = setTimeout(() => reject(new Error(`no TLS within ${timeoutMs} ms`)), timeoutMs);
  socket.once("secureConnect", () => resolve(socket)).once("error", reject);
  return promise.finally(() => {
    clearTimeout(timer);
    socket.off("error", reject);
  });
}

/** Cuts the stream into lines and, behind those that say so, payloads. Error at a line or payload beyond the limits. */
class Parser {
  readonly #take: (verb: string, rest: string, payload: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(take: (verb: string, rest: string, payload: Buffer) => void) {
    this.#take = take;
  }

  push(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const end = this.#rest.indexOf("\r\n");
      if (end > LINE_BYTES_MAX || (end < 0 && this.#rest.length > LINE_BYTES_MAX))
        throw new Error("it is no NATS server");
      if (end < 0) return;
      const line = this.#rest.toString("utf8", 0, end);
      const [verb] = line.split(" ", 1);
      const rest = line.slice(verb.length + 1).trim();
      const sizeBytes = verb === "MSG" || verb === "HMSG" ? Number(rest.split(" ").at(-1)) : undefined;
      if (sizeBytes !== undefined && !(sizeBytes <= ANSWER_BYTES_MAX)) throw new Error("the server answers too much");
      const behind = sizeBytes === undefined ? end + 2 : end + 2 + sizeBytes + 2;
      if (this.#rest.length < behind) return;
      const payload = this.#rest.subarray(end + 2, Math.max(end + 2, behind - 2));
      this.#rest = this.#rest.subarray(behind);
      this.#take(verb.toUpperCase(), rest, payload);
    }
  }
}

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/** Of an Ed25519 private key in PKCS #8 (RFC 8410 7), what stands before its 32 bytes. */
const PKCS8_HEAD = Buffer.from("302e020100300506032b657004220420", "hex");

/** Reads a .creds file and signs the server's nonce with its seed (an nkey: two bytes of kind, 32 of seed, two of checksum). */
function credentials(file: string, nonce: string): { jwt: string; sig: string } {
  const [jwt, seed] = [...file.matchAll(/-----BEGIN [A-Z ]+-----\s+([\w.-]+)\s+-+END/g)].map(([, text]) => text);
  const bytes = decodeBase32(seed ?? "");
  if (jwt === undefined || bytes.length !== 36)
    throw fail(PIPELINE_DESTINATION_INVALID, "the credentials file has no user JWT and seed");
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8_HEAD, bytes.subarray(2, 34)]),
    format: "der",
    type: "pkcs8",
  });
  return { jwt, sig: sign(null, Buffer.from(nonce), key).toString("base64url") };
}

function decodeBase32(text: string): Buffer {
  let [bits, value] = [0, 0];
  const bytes: number[] = [];
  for (const character of text) {
    value = (value << 5) | BASE32.indexOf(character);
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((value >>> bits) & 0xff);
  }
  return Buffer.from(bytes);
}
