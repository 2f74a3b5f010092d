/**
 * Looks at the frames that a client of HTTP/2 sends, before Node's library does: refuses what that one lets pass against
 * RFC 9113, and who sends frames that cost us more than him.
 */
import type { Clock } from "../../../kernel/clock.ts";

/** RFC 9113 7. */
export const H2 = { protocol: 0x1, internal: 0x2, closed: 0x5, frameSize: 0x6, calm: 0xb } as const;

const PREFACE_BYTES = 24;
const HEAD_BYTES = 9;
const DATA = 0x0;
const HEADERS = 0x1;
const PRIORITY = 0x2;
const RST_STREAM = 0x3;
const SETTINGS = 0x4;
const PING = 0x6;
const GOAWAY = 0x7;
const CONTINUATION = 0x9;
const END_STREAM = 0x1;
const ACK = 0x1;
const END_HEADERS = 0x4;

/** Pieces that one block of headers may come in: more is a flood (CVE-2024-27316). */
const CONTINUATIONS_MAX = 8;
/** Frames that ask for work and bring nothing (pings, settings, resets, priorities, empty data): so many at once, */
const IDLE_FRAMES_BURST = 400;
/** and then so many a second. Rapid reset (CVE-2023-44487) is one of these floods. */
const IDLE_FRAMES_PER_S = 40;
/** Streams remembered as ended by the client, to tell a frame that is late from one that never had a stream. */
const ENDED_MAX = 128;
/** Streams remembered as open on the client's side; those that we ended and he did not are among them. */
const OPEN_MAX = 1_024;
const BLAMED_BYTES_MAX = 1_024;

export class FrameGuard {
  readonly #clock: Clock;
  readonly #head = Buffer.alloc(HEAD_BYTES + 4);
  #skip = PREFACE_BYTES;
  #have = 0;
  /** Streams on which the client may still send. */
  readonly #open = new Set<number>();
  readonly #ended = new Set<number>();
  #highest = 0;
  #continuations = 0;
  #endsStream = false;
  #idleMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The last stream that the client has begun. */
  get highest(): number {
    return this.#highest;
  }

  /** Reads what came; tells the error code (RFC 9113 7) of the first frame that ends the connection. */
  take(chunk: Buffer): number | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, chunk.length - at);
        this.#skip -= step;
        at += step;
        continue;
      }
      // A priority's first four bytes belong to what is looked at.
      const wanted = this.#have > 3 && this.#head[3] === PRIORITY ? HEAD_BYTES + 4 : HEAD_BYTES;
      const step = Math.min(wanted - this.#have, chunk.length - at);
      chunk.copy(this.#head, this.#have, at, at + step);
      this.#have += step;
      at += step;
      if (this.#have < HEAD_BYTES || (this.#head[3] === PRIORITY && this.#have < HEAD_BYTES + 4)) continue;
      const code = this.#frame();
      if (code !== undefined) return code;
    }
    return undefined;
  }

  #frame(): number | undefined {
    const length = this.#head.readUIntBE(0, 3);
    const type = this.#head[3];
    const flags = this.#head[4];
    const stream = this.#head.readUInt32BE(5) & 0x7fffffff;
    this.#skip = length - (this.#have - HEAD_BYTES);
    this.#have = 0;
    // Shorter than its kind is: the library says so, with this very code.
    if (this.#skip < 0) return H2.frameSize;
    switch (type) {
      case HEADERS:
        return this.#headers(stream, flags);
      case CONTINUATION:
        if (++this.#continuations > CONTINUATIONS_MAX) return H2.calm;
        if ((flags & END_HEADERS) !== 0 && this.#endsStream) this.#end(stream);
        return undefined;
      case DATA:
        return this.#data(stream, flags, length);
      case RST_STREAM:
        this.#end(stream);
        return this.#idle();
      case PRIORITY: {
        // RFC 9113 6.3, RFC 7540 5.3.1: of a stream, and never of itself.
        const parent = this.#head.readUInt32BE(HEAD_BYTES) & 0x7fffffff;
        return stream === 0 || parent === stream ? H2.protocol : this.#idle();
      }
      case PING:
      case SETTINGS:
        return (flags & ACK) === 0 ? this.#idle() : undefined;
      default:
        return undefined;
    }
  }

  #headers(stream: number, flags: number): number | undefined {
    this.#continuations = 0;
    this.#endsStream = (flags & END_STREAM) !== 0;
    if (stream > this.#highest) {
      this.#highest = stream;
      if (this.#open.size >= OPEN_MAX) this.#open.delete(this.#open.values().next().value!);
      this.#open.add(stream);
    } else if (stream !== 0 && !this.#open.has(stream)) {
      // RFC 9113 5.1: after END_STREAM or RST_STREAM; 5.1.1: ids only grow.
      return this.#ended.has(stream) ? H2.closed : H2.protocol;
    }
    if (this.#endsStream && (flags & END_HEADERS) !== 0) this.#end(stream);
    return undefined;
  }

  #data(stream: number, flags: number, length: number): number | undefined {
    // RFC 9113 5.1: half-closed (remote) and closed. A stream never begun is told by the library.
    if (stream !== 0 && stream <= this.#highest && !this.#open.has(stream)) return H2.closed;
    if ((flags & END_STREAM) !== 0) this.#end(stream);
    // CVE-2019-9518
    else if (length === 0) return this.#idle();
    return undefined;
  }

  #end(stream: number): void {
    if (!this.#open.delete(stream)) return;
    if (this.#ended.size >= ENDED_MAX) this.#ended.delete(this.#ended.values().next().value!);
    this.#ended.add(stream);
  }

  /** GCRA, as the limits of requests are. */
  #idle(): number | undefined {
    const nowMs = this.#clock.monotonicMs();
    const gapMs = 1000 / IDLE_FRAMES_PER_S;
    const nextMs = Math.max(this.#idleMs, nowMs) + gapMs;
    if (nextMs - nowMs > gapMs * IDLE_FRAMES_BURST) return H2.calm;
    this.#idleMs = nextMs;
    return undefined;
  }
}

/** Writes the frame that ends a connection (RFC 9113 6.8). */
export function goAway(highest: number, code: number): Buffer {
  const frame = Buffer.alloc(HEAD_BYTES + 8);
  frame.writeUIntBE(8, 0, 3);
  frame[3] = GOAWAY;
  frame.writeUInt32BE(highest, HEAD_BYTES);
  frame.writeUInt32BE(code, HEAD_BYTES + 4);
  return frame;
}

/** Where a GOAWAY of the library says "internal error", calls it what it is, in place: the client broke the protocol (5.4.1). */
export function blameClient(frames: Buffer): void {
  // What ends a connection is short; an answer's body is not walked through.
  if (frames.length > BLAMED_BYTES_MAX) return;
  for (let at = 0; at + HEAD_BYTES + 8 <= frames.length; at += HEAD_BYTES + frames.readUIntBE(at, 3)) {
    if (frames[at + 3] !== GOAWAY) continue;
    const code = at + HEAD_BYTES + 4;
    if (frames.readUInt32BE(code) === H2.internal) frames.writeUInt32BE(H2.protocol, code);
  }
}
