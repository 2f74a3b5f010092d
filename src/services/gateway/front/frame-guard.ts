/**
 * Looks at the frames that a client of HTTP/2 sends, before Node's library does: refuses what that one lets pass against
 * RFC 9113, spares it what it takes worse than the standard does, and refuses who sends frames that cost us more than him.
 */
import type { Clock } from "../../../kernel/clock.ts";

/** RFC 9113 7. */
export const H2 = {
  protocol: 0x1,
  internal: 0x2,
  flow: 0x3,
  closed: 0x5,
  frameSize: 0x6,
  cancel: 0x8,
  calm: 0xb,
} as const;

const PREFACE_BYTES = 24;
const HEAD_BYTES = 9;
const DATA = 0x0;
const HEADERS = 0x1;
const PRIORITY = 0x2;
const RST_STREAM = 0x3;
const SETTINGS = 0x4;
const PING = 0x6;
const GOAWAY = 0x7;
const WINDOW_UPDATE = 0x8;
const CONTINUATION = 0x9;
const END_STREAM = 0x1;
const ACK = 0x1;
const END_HEADERS = 0x4;
/** No frame has this type: it is passed over (RFC 9113 5.5). */
const UNKNOWN = 0xff;
/** RFC 9113 6.9.1. */
const WINDOW_MAX = 2 ** 31 - 1;

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
const PING_BYTES = 8;
const SETTING_BYTES = 6;
/** More settings at once are a flood (CVE-2020-11080). */
const SETTINGS_BYTES_MAX = 32 * SETTING_BYTES;
/** How much of what some kinds say is looked at, too. */
const LOOKED_INTO: ReadonlyMap<number | undefined, number> = new Map([
  [PRIORITY, 4],
  [WINDOW_UPDATE, 4],
  [SETTINGS, SETTINGS_BYTES_MAX],
]);
/** RFC 9113 6.5.2, 6.9.2. */
const INITIAL_WINDOW_SIZE = 0x4;
const INITIAL_WINDOW = 65_535;

export interface FrameGuardOptions {
  readonly clock: Clock;
  /** Ends a stream (RFC 9113 5.4.2). */
  readonly reset: (stream: number, code: number) => void;
}

export class FrameGuard {
  readonly #clock: Clock;
  readonly #reset: FrameGuardOptions["reset"];
  #skip = PREFACE_BYTES;
  /** The beginning of a frame that is not all there. */
  #held: Buffer | undefined;
  /** Streams on which the client may still send, each with what it has added to its window. */
  readonly #open = new Map<number, number>();
  readonly #ended = new Set<number>();
  #highest = 0;
  #continuations = 0;
  #endsStream = false;
  #idleMs = 0;
  #initialWindow = INITIAL_WINDOW;
  /** Bytes that went out: no stream has sent more. */
  sent = 0;

  constructor({ clock, reset }: FrameGuardOptions) {
    this.#clock = clock;
    this.#reset = reset;
  }

  /** The last stream that the client has begun. */
  get highest(): number {
    return this.#highest;
  }

  /** Reads what came; gives what of it goes on, or the error code (RFC 9113 7) of the first frame that ends the connection. */
  take(chunk: Buffer): Buffer | number {
    const bytes = this.#held ? Buffer.concat([this.#held, chunk]) : chunk;
    this.#held = undefined;
    let at = 0;
    for (;;) {
      const step = Math.min(this.#skip, bytes.length - at);
      this.#skip -= step;
      at += step;
      if (at === bytes.length) return bytes;
      const length = bytes.length - at < HEAD_BYTES ? 0 : bytes.readUIntBE(at, 3);
      const wanted = HEAD_BYTES + Math.min(length, LOOKED_INTO.get(bytes[at + 3]) ?? 0);
      if (bytes.length - at < wanted) {
        this.#held = bytes.subarray(at);
        return bytes.subarray(0, at);
      }
      const code = this.#frame(bytes.subarray(at, at + wanted), length);
      if (code !== undefined) return code;
      this.#skip = HEAD_BYTES + length;
    }
  }

  #frame(head: Buffer, length: number): number | undefined {
    const type = head[3];
    const flags = head[4];
    const stream = head.readUInt32BE(5) & 0x7fffffff;
    // Shorter than its kind is: the library would say so, with this very code.
    if ((type === PRIORITY || type === WINDOW_UPDATE) && length < 4) return H2.frameSize;
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
        const parent = head.readUInt32BE(HEAD_BYTES) & 0x7fffffff;
        return stream === 0 || parent === stream ? H2.protocol : this.#idle();
      }
      case WINDOW_UPDATE:
        return this.#window(head, stream, length);
      case PING:
        if ((flags & ACK) === 0) return this.#idle();
        // RFC 9113 6.7: it is not answered. We send none, and the library takes it for a breach.
        if (stream === 0 && length === PING_BYTES) head[3] = UNKNOWN;
        return this.#idle();
      case SETTINGS:
        return (flags & ACK) === 0 ? this.#settings(head, length) : undefined;
      default:
        return undefined;
    }
  }

  /** RFC 9113 6.9, 6.9.1: nothing, or too much, ends that stream alone; the library would end the connection. */
  #window(head: Buffer, stream: number, length: number): number | undefined {
    const added = this.#open.get(stream);
    if (added === undefined || length !== 4) return undefined;
    const more = head.readUInt32BE(HEAD_BYTES) & 0x7fffffff;
    if (more > 0 && this.#initialWindow + added + more - this.sent <= WINDOW_MAX) {
      this.#open.set(stream, added + more);
      return undefined;
    }
    this.#reset(stream, more === 0 ? H2.protocol : H2.flow);
    // The library is told that the client has ended it: in place, since both frames are as long.
    head[3] = RST_STREAM;
    head.writeUInt32BE(H2.cancel, HEAD_BYTES);
    this.#end(stream);
    return this.#idle();
  }

  #settings(head: Buffer, length: number): number | undefined {
    if (length > SETTINGS_BYTES_MAX) return H2.calm;
    for (let at = HEAD_BYTES; at + SETTING_BYTES <= head.length; at += SETTING_BYTES)
      if (head.readUInt16BE(at) === INITIAL_WINDOW_SIZE) this.#initialWindow = head.readUInt32BE(at + 2);
    return this.#idle();
  }

  #headers(stream: number, flags: number): number | undefined {
    this.#continuations = 0;
    this.#endsStream = (flags & END_STREAM) !== 0;
    if (stream > this.#highest) {
      this.#highest = stream;
      if (this.#open.size >= OPEN_MAX) this.#open.delete(this.#open.keys().next().value!);
      this.#open.set(stream, 0);
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
  const frame = frameOf(GOAWAY, 0, 8);
  frame.writeUInt32BE(highest, HEAD_BYTES);
  frame.writeUInt32BE(code, HEAD_BYTES + 4);
  return frame;
}

/** Writes the frame that ends a stream (RFC 9113 6.4). */
export function resetOf(stream: number, code: number): Buffer {
  const frame = frameOf(RST_STREAM, stream, 4);
  frame.writeUInt32BE(code, HEAD_BYTES);
  return frame;
}

function frameOf(type: number, stream: number, length: number): Buffer {
  const frame = Buffer.alloc(HEAD_BYTES + length);
  frame.writeUIntBE(length, 0, 3);
  frame[3] = type;
  frame.writeUInt32BE(stream, 5);
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
