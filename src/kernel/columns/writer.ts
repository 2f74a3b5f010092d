/** Bytes, written from front to back: whole numbers as varints, bits. What the columns are made of. */
import { fail } from "../error.ts";
import { DIGIT, EVENTS_BYTES_MAX, EVENTS_TOO_LARGE, INFLATED_BYTES_MAX, SPLIT, SPLIT_BITS } from "./bytes.ts";

/** A writer that is used again keeps at most so much between two messages. */
const KEPT_BYTES_MAX = 256 * 1024;

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

  /** Appends a run of numbers: the low `widths[i]` (to 53) bits of each. */
  bitsFrom(values: Float64Array, widths: Uint8Array, count: number): void {
    let all = this.#pendingBits;
    for (let i = 0; i < count; i++) all += widths[i];
    this.room((all >> 3) + 1);
    const { bytes } = this;
    let at = this.at;
    let pending = this.#pending;
    let bits = this.#pendingBits;
    for (let i = 0; i < count; i++) {
      let value = values[i];
      let width = widths[i];
      while (width > SPLIT_BITS) {
        const high = Math.floor(value / SPLIT);
        pending |= (value - high * SPLIT) << bits;
        for (bits += SPLIT_BITS; bits >= 8; bits -= 8) {
          bytes[at++] = pending;
          pending >>>= 8;
        }
        value = high;
        width -= SPLIT_BITS;
      }
      pending |= value << bits;
      for (bits += width; bits >= 8; bits -= 8) {
        bytes[at++] = pending;
        pending >>>= 8;
      }
    }
    this.at = at;
    this.#pending = pending;
    this.#pendingBits = bits;
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
