/** Bytes, written and read from front to back: whole numbers as varints, bits, texts. What the columns are made of. */
import { isUtf8 } from "node:buffer";
import { code, fail } from "../error.ts";

export const EVENTS_MALFORMED = code(
  "EVENTS_MALFORMED",
  "invalid",
  "Send events in the form of src/kernel/events; these bytes are damaged or of another program.",
);
export const EVENTS_TOO_LARGE = code(
  "EVENTS_TOO_LARGE",
  "too-large",
  "Send fewer or smaller events at once; the message names the limit.",
);

/** Bytes of one encoded message of events; more is EVENTS_TOO_LARGE when written and EVENTS_MALFORMED when read. */
export const EVENTS_BYTES_MAX = 4 * 1024 * 1024;

/** Bytes that the compressed parts of one message may grow to; a writer leaves uncompressed what would exceed it. */
export const INFLATED_BYTES_MAX = 32 * 1024 * 1024;

/** Makes the failure of bytes that no writer of ours wrote. */
export const malformed = (what: string) => fail(EVENTS_MALFORMED, `malformed events: ${what}`);

/** A writer that is used again keeps at most so much between two messages. */
const KEPT_BYTES_MAX = 256 * 1024;

const DIGIT = 128;
const SPLIT_BITS = 24;
const SPLIT = 2 ** SPLIT_BITS;

/** A buffer that grows, to EVENTS_BYTES_MAX. */
export class Writer {
  bytes: Buffer;
  at = 0;
  /** Bytes that may still be compressed: the reader's budget, kept by the writer. */
  inflatable = INFLATED_BYTES_MAX;
  #pending = 0;
  #pendingBits = 0;

  constructor(size = 1024) {
    this.bytes = Buffer.allocUnsafeSlow(size);
  }

  /** Makes room for `count` more bytes. Fails EVENTS_TOO_LARGE. */
  room(count: number): void {
    const needed = this.at + count;
    if (needed <= this.bytes.length) return;
    if (needed > EVENTS_BYTES_MAX) throw fail(EVENTS_TOO_LARGE, `the events take more than ${EVENTS_BYTES_MAX} bytes`);
    const grown = Buffer.allocUnsafeSlow(Math.min(Math.max(needed, this.bytes.length * 2), EVENTS_BYTES_MAX));
    this.bytes.copy(grown, 0, 0, this.at);
    this.bytes = grown;
  }

  byte(value: number): void {
    this.room(1);
    this.bytes[this.at++] = value;
  }

  /** Writes a whole number from 0 to 2^53, seven bits a byte. */
  varint(value: number): void {
    this.room(8);
    let rest = value;
    while (rest >= DIGIT) {
      const high = Math.floor(rest / DIGIT);
      this.bytes[this.at++] = (rest - high * DIGIT) | DIGIT;
      rest = high;
    }
    this.bytes[this.at++] = rest;
  }

  /** Writes a whole number within 2^52 of 0, small ones of either sign short. */
  signed(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value);
  }

  raw(bytes: Uint8Array): void {
    this.room(bytes.length);
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** Appends the low `width` (to 53) bits of a whole number; `endBits` closes a run of them. */
  bits(value: number, width: number): void {
    let rest = value;
    let left = width;
    while (left > SPLIT_BITS) {
      const high = Math.floor(rest / SPLIT);
      this.#bits(rest - high * SPLIT, SPLIT_BITS);
      rest = high;
      left -= SPLIT_BITS;
    }
    this.#bits(rest, left);
  }

  #bits(value: number, width: number): void {
    let pending = this.#pending | (value << this.#pendingBits);
    let bits = this.#pendingBits + width;
    if (bits >= 8) {
      this.room(4);
      do {
        this.bytes[this.at++] = pending;
        pending >>>= 8;
        bits -= 8;
      } while (bits >= 8);
    }
    this.#pending = pending;
    this.#pendingBits = bits;
  }

  /** Fills the last byte of a run of bits. */
  endBits(): void {
    if (this.#pendingBits > 0) this.byte(this.#pending);
    this.#pending = 0;
    this.#pendingBits = 0;
  }

  /** Forgets all that was written; also after a failure in the middle. A buffer that one large message needed is let go. */
  reset(): void {
    if (this.bytes.length > KEPT_BYTES_MAX) this.bytes = Buffer.allocUnsafeSlow(KEPT_BYTES_MAX);
    this.at = 0;
    this.inflatable = INFLATED_BYTES_MAX;
    this.#pending = 0;
    this.#pendingBits = 0;
  }

  /** Copies out what was written since `from`. */
  taken(from = 0): Uint8Array {
    return new Uint8Array(this.bytes.subarray(from, this.at));
  }
}

/** Reads what a Writer wrote. Whatever the bytes are, it ends, within them: all else is EVENTS_MALFORMED. */
export class Reader {
  readonly bytes: Buffer;
  at: number;
  readonly end: number;
  /** Bytes that may still be inflated or otherwise made of few: one budget for the whole message. */
  inflatable: number;
  #pending = 0;
  #pendingBits = 0;

  constructor(bytes: Uint8Array, at = 0, end = bytes.length, inflatable = INFLATED_BYTES_MAX) {
    this.bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
    this.end = end;
    this.inflatable = inflatable;
  }

  byte(): number {
    if (this.at >= this.end) throw malformed("they end too early");
    return this.bytes[this.at++];
  }

  varint(): number {
    let value = this.byte();
    if (value < DIGIT) return value;
    value -= DIGIT;
    let scale = DIGIT;
    for (;;) {
      const digit = this.byte();
      value += (digit & 127) * scale;
      if (value > Number.MAX_SAFE_INTEGER + 1) throw malformed(`the number at byte ${this.at} is beyond 2^53`);
      if (digit < DIGIT) return value;
      scale *= DIGIT;
    }
  }

  /** Reads a varint that may be at most `max`; `what` names it in the failure. */
  count(max: number, what: string): number {
    const value = this.varint();
    if (value > max) throw malformed(`${value} ${what}; at most ${max} are allowed here`);
    return value;
  }

  signed(): number {
    const value = this.varint();
    return value % 2 === 1 ? -(value + 1) / 2 : value / 2;
  }

  raw(count: number): Buffer {
    if (count > this.end - this.at) throw malformed("they end too early");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  /** Reads `count` bytes of UTF-8. */
  text(count: number): string {
    const from = this.at;
    if (count > this.end - from) throw malformed("they end too early");
    this.at += count;
    if (count < 24) {
      // A call into the engine costs more than this loop, for the short ASCII that names are.
      let text = "";
      let i = from;
      for (; i < this.at; i++) {
        const char = this.bytes[i];
        if (char >= DIGIT) break;
        text += String.fromCharCode(char);
      }
      if (i === this.at) return text;
    }
    if (!isUtf8(this.bytes.subarray(from, this.at))) throw malformed(`the text at byte ${from} is not UTF-8`);
    return this.bytes.toString("utf8", from, this.at);
  }

  bits(width: number): number {
    if (width <= SPLIT_BITS) return this.#bits(width);
    let value = 0;
    let scale = 1;
    let left = width;
    while (left > SPLIT_BITS) {
      value += this.#bits(SPLIT_BITS) * scale;
      scale *= SPLIT;
      left -= SPLIT_BITS;
    }
    return value + this.#bits(left) * scale;
  }

  #bits(width: number): number {
    let pending = this.#pending;
    let bits = this.#pendingBits;
    while (bits < width) {
      if (this.at >= this.end) throw malformed("they end too early");
      pending |= this.bytes[this.at++] << bits;
      bits += 8;
    }
    this.#pending = pending >>> width;
    this.#pendingBits = bits - width;
    return pending & ((1 << width) - 1);
  }

  /** Reads a run of numbers of `widths[i]` bits each (at most 53) into `into`, from its place `from` on. */
  bitsInto(into: Float64Array, from: number, widths: Uint8Array, count: number): void {
    const { bytes, end } = this;
    let at = this.at;
    let pending = this.#pending;
    let bits = this.#pendingBits;
    for (let i = 0; i < count; i++) {
      const width = widths[i];
      if (width > SPLIT_BITS) {
        this.at = at;
        this.#pending = pending;
        this.#pendingBits = bits;
        into[from + i] = this.bits(width);
        at = this.at;
        pending = this.#pending;
        bits = this.#pendingBits;
        continue;
      }
      while (bits < width) {
        if (at >= end) throw malformed("they end too early");
        pending |= bytes[at++] << bits;
        bits += 8;
      }
      into[from + i] = pending & ((1 << width) - 1);
      pending >>>= width;
      bits -= width;
    }
    this.at = at;
    this.#pending = pending;
    this.#pendingBits = bits;
  }

  /** Leaves the rest of the last byte of a run of bits. */
  endBits(): void {
    this.#pending = 0;
    this.#pendingBits = 0;
  }

  /** Takes `count` bytes of the message's budget for what grows while it is decoded. */
  inflate(count: number): void {
    if (count > this.inflatable) throw malformed("they would grow beyond the limit");
    this.inflatable -= count;
  }
}
