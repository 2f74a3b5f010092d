/** A TLS socket as HTTP/2 is given it: each frame that comes has passed the guard. */
import { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../../../kernel/clock.ts";
import { blameClient, FrameGuard, goAway, resetOf } from "./frame-guard.ts";

/** What was written last still goes for so long, and what comes is thrown away: a reset would overtake the reason. */
const LINGER_MS = 500;

export class GuardedSocket extends Duplex {
  readonly socket: TLSSocket;
  readonly #guard: FrameGuard;
  #refused = false;

  constructor(socket: TLSSocket, clock: Clock) {
    super({ allowHalfOpen: false });
    this.socket = socket;
    this.#guard = new FrameGuard({ clock, reset: (stream, code) => void socket.write(resetOf(stream, code)) });
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("end", () => this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
  }

  #take(chunk: Buffer): void {
    if (this.#refused || this.destroyed) return;
    const taken = this.#guard.take(chunk);
    if (typeof taken === "number") return this.#refuse(taken);
    // Nothing would be the end.
    if (taken.length > 0 && !this.push(taken)) this.socket.pause();
  }

  #refuse(code: number): void {
    this.#refused = true;
    this.socket.write(goAway(this.#guard.highest, code));
    this.destroy();
  }

  override _read(): void {
    this.socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#give(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#give(Buffer.concat(chunks.map((c) => c.chunk)), done);
  }

  #give(chunk: Buffer, done: (error?: Error | null) => void): void {
    if (this.#refused) return done();
    blameClient(chunk);
    this.#guard.sent += chunk.length;
    this.socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.socket.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const { socket } = this;
    const cut = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once("close", () => clearTimeout(cut));
    if (socket.destroyed) clearTimeout(cut);
    else socket.end().resume();
    done(error);
  }
}
