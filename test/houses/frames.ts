/** A client of HTTP/2 that sends whatever frames one likes, and tells in short what came back. */
import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";

export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
export const DATA = 0;
export const HEADERS = 1;
export const PRIORITY = 2;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PUSH_PROMISE = 5;
export const PING = 6;
export const GOAWAY = 7;
export const WINDOW_UPDATE = 8;
export const CONTINUATION = 9;
export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;
export const PADDED = 8;
export const PRIORITIZED = 32;

/** Writes a frame (RFC 9113 4.1). */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

type Field = readonly [name: string, value: string];

/** Writes fields as literals without indexing (RFC 7541 6.2.2). */
export const block = (fields: readonly Field[]): Buffer =>
  Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));

/** RFC 7541 5.1, 5.2: a length with a prefix of 7 bits, no Huffman code. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  const length = [Math.min(bytes.length, 127)];
  if (bytes.length >= 127) {
    let rest = bytes.length - 127;
    for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) + 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

/** The pseudo-headers of a request to a page that needs no token. */
export const request = (method = "GET", path = "/healthz"): Field[] => [
  [":method", method],
  [":scheme", "https"],
  [":path", path],
  [":authority", "localhost"],
];

export const headers = (stream: number, flags = END_STREAM | END_HEADERS, fields: readonly Field[] = request()) =>
  frame(HEADERS, flags, stream, block(fields));

export class FrameClient {
  readonly socket: TLSSocket;
  /** `H1`: headers on stream 1, `D1`, `RST(1,5)`, `GOAWAY(1)`, `PONG`, `CLOSED`. */
  readonly seen: string[] = [];
  /** How long the parts of bodies were, in order. */
  readonly dataBytes: number[] = [];
  /** The settings of ours that were acknowledged (RFC 9113 6.5.3). */
  acknowledged = 0;
  #held = Buffer.alloc(0);
  #wake: () => void = () => undefined;

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", () => undefined);
    socket.on("close", () => this.#note("CLOSED"));
  }

  static async open(house: { port: number; caPem: string }, hello = true): Promise<FrameClient> {
    const at = { host: "127.0.0.1", port: house.port, ca: house.caPem, servername: "localhost" };
    const socket = connect({ ...at, ALPNProtocols: ["h2"] });
    await once(socket, "secureConnect");
    const client = new FrameClient(socket);
    if (hello) client.send(PREFACE, frame(SETTINGS, 0, 0));
    return client;
  }

  send(...frames: Uint8Array[]): this {
    if (this.socket.writable) this.socket.write(Buffer.concat(frames));
    return this;
  }

  /** Waits until something that came makes it true, or for the end. */
  async when(true_: () => boolean): Promise<boolean> {
    while (!true_() && !this.seen.includes("CLOSED")) await new Promise<void>((resolve) => (this.#wake = resolve));
    return true_();
  }

  /** Waits for something of this form to have come, or for the end. */
  async until(form: RegExp): Promise<string[]> {
    while (!this.seen.some((s) => form.test(s)) && !this.seen.includes("CLOSED"))
      await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.seen;
  }

  /** Waits until all that was sent has been read (a ping after it is answered), or for the end. */
  async settled(): Promise<string[]> {
    this.send(frame(PING, 0, 0, Buffer.alloc(8)));
    return this.until(/^PONG$/);
  }

  #note(what: string): void {
    this.seen.push(what);
    this.#wake();
  }

  #take(chunk: Buffer): void {
    this.#held = Buffer.concat([this.#held, chunk]);
    while (this.#held.length >= 9) {
      const end = 9 + this.#held.readUIntBE(0, 3);
      if (this.#held.length < end) return;
      const [type, flags, stream] = [this.#held[3], this.#held[4], this.#held.readUInt32BE(5)];
      const payload = this.#held.subarray(9, end);
      this.#held = this.#held.subarray(end);
      if (type === HEADERS) this.#note(`H${stream}`);
      else if (type === DATA) {
        this.dataBytes.push(payload.length);
        this.#note(`D${stream}`);
      } else if (type === RST_STREAM) this.#note(`RST(${stream},${payload.readUInt32BE(0)})`);
      else if (type === GOAWAY) this.#note(`GOAWAY(${payload.readUInt32BE(4)})`);
      else if (type === PING && (flags & ACK) !== 0) this.#note("PONG");
      else if (type === SETTINGS && (flags & ACK) === 0) this.send(frame(SETTINGS, ACK, 0));
      else if (type === SETTINGS) {
        this.acknowledged++;
        this.#wake();
      }
    }
  }
}
