/** One WebSocket that ends here: its messages, its pings, its closing handshake (RFC 6455 5, 7), and what waits for a slow reader. */
import type { Socket } from "node:net";
import { closePayload, FrameReader, OPCODE, WebSocketFault, writeFrame } from "./frames.ts";

/** Bytes that wait for the client; above it nothing more is read of it, and whoever sends to it waits. */
const WAITING_BYTES_MAX = 262_144;
/** The other side has so long to answer a close; then the connection is cut (RFC 6455 7.1.1). */
const CLOSE_MS = 2_000;

export interface SessionOptions {
  readonly socket: Socket;
  readonly messageBytesMax: number;
  /** One of which nothing is heard for so long is closed; it is asked for a sign of life before. */
  readonly idleMs: number;
  readonly message: (data: Buffer, isText: boolean) => void;
  /** Called once, when the connection is over, however it ended. */
  readonly over: () => void;
}

export class Session {
  readonly #o: SessionOptions;
  readonly #reader: FrameReader;
  readonly #idle: NodeJS.Timeout;
  #closing: NodeJS.Timeout | undefined;
  /** A close was sent: nothing follows it (RFC 6455 5.5.1). */
  #closed = false;
  #asked = false;
  #drained: PromiseWithResolvers<void> | undefined;
  #held = false;

  /** `head`: what has come behind the handshake. */
  constructor(options: SessionOptions, head: Buffer) {
    const { socket, idleMs } = (this.#o = options);
    this.#reader = new FrameReader({
      masked: true,
      messageBytesMax: options.messageBytesMax,
      handler: {
        message: (data, isText) => !this.#closed && options.message(data, isText),
        ping: (data) => this.#write(OPCODE.pong, data),
        pong: () => undefined,
        // RFC 6455 5.5.1: the answer says the same.
        close: (code) => this.#end(code === 1005 ? Buffer.alloc(0) : closePayload(code, "")),
      },
    });
    this.#idle = setInterval(() => this.#look(), idleMs / 2).unref();
    socket.setNoDelay(true);
    socket
      .on("data", (chunk: Buffer) => this.#feed(chunk))
      .on("drain", () => this.#drain())
      .on("end", () => socket.destroy())
      .on("error", () => socket.destroy())
      .once("close", () => this.#over());
    // Before anything else comes, and after whoever made the session has it.
    if (head.length > 0) queueMicrotask(() => this.#feed(head));
  }

  get open(): boolean {
    return !this.#closed && !this.#o.socket.destroyed;
  }

  /** Sends a message; false where its reader is slow: `drained` tells when there is room again. */
  send(data: Uint8Array, isText: boolean): boolean {
    this.#write(isText ? OPCODE.text : OPCODE.binary, data);
    return this.#o.socket.writableLength <= WAITING_BYTES_MAX;
  }

  /** Resolves when there is room, or the connection is over. */
  get drained(): Promise<void> {
    if (!this.open || this.#o.socket.writableLength <= WAITING_BYTES_MAX) return Promise.resolve();
    return (this.#drained ??= Promise.withResolvers<void>()).promise;
  }

  /** Reads no more of the client until `resume`. */
  pause(): void {
    this.#held = true;
    this.#o.socket.pause();
  }

  resume(): void {
    this.#held = false;
    if (this.#o.socket.writableLength <= WAITING_BYTES_MAX) this.#o.socket.resume();
  }

  /** Begins to close; the client's answer, or a moment, ends the connection. */
  close(code: number, reason: string): void {
    this.#write(OPCODE.close, closePayload(code, reason));
    this.#closed = true;
    this.#o.socket.resume();
    this.#closing ??= setTimeout(() => this.#o.socket.destroy(), CLOSE_MS);
  }

  #feed(chunk: Buffer): void {
    this.#asked = false;
    try {
      this.#reader.feed(chunk);
    } catch (error) {
      if (!(error instanceof WebSocketFault)) throw error;
      // RFC 6455 7.1.7
      this.#end(closePayload(error.code, error.message));
    }
  }

  #write(opcode: number, data: Uint8Array): void {
    const { socket } = this.#o;
    if (!this.open) return;
    socket.write(writeFrame(opcode, data));
    // A client that asks and asks and takes no answers is not asked on.
    if (socket.writableLength > WAITING_BYTES_MAX) socket.pause();
  }

  /** The last frame: after it the server ends the connection (RFC 6455 7.1.1). */
  #end(payload: Buffer): void {
    this.#write(OPCODE.close, payload);
    this.#closed = true;
    const { socket } = this.#o;
    socket.end();
    // What still comes is thrown away, so that it meets no reset before the close is read.
    socket.resume();
    this.#closing ??= setTimeout(() => socket.destroy(), CLOSE_MS);
  }

  #drain(): void {
    this.#drained?.resolve();
    this.#drained = undefined;
    if (!this.#held) this.#o.socket.resume();
  }

  #look(): void {
    if (this.#asked) return void this.#o.socket.destroy();
    this.#asked = true;
    this.#write(OPCODE.ping, Buffer.alloc(0));
  }

  #over(): void {
    clearInterval(this.#idle);
    clearTimeout(this.#closing);
    this.#closed = true;
    this.#drained?.resolve();
    this.#o.over();
  }
}
