/** Bytes, read from front to back: the other side of the Writer. */
import { isUtf8 } from "node:buffer";
import { DIGIT, INFLATED_BYTES_MAX, malformed, SPLIT, SPLIT_BITS } from "./bytes.ts";

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
