/** Writes MessagePack, each value in its shortest form. */
import { fail, INPUT_MALFORMED, INTERNAL } from "../../../kernel/error.ts";

const INITIAL_BYTES = 4_096;
/** Deeper than anything that was read; what is deeper is an error of ours. */
const DEPTH_MAX = 500;
const UINT64_MAX = 0xffff_ffff_ffff_ffffn;
const INT64_MIN = -0x8000_0000_0000_0000n;

/**
 * Writes a value: bytes as `bin`, undefined as nil, a bigint as a 64-bit integer; one that is larger is INPUT_MALFORMED, since
 * the format has none. A function, a symbol, or more than 500 levels is an error of ours: INTERNAL.
 */
export function encodeMsgpack(value: unknown): Uint8Array {
  const writer = new Writer();
  writer.write(value, 0);
  return writer.made();
}

/** First bytes: of a length up to `short` in the byte itself, then of 8, 16 and 32 bits; zero where there is none. */
interface Heads {
  readonly short: number;
  readonly shortMax: number;
  readonly wide: readonly [number, number, number];
}
const TEXT: Heads = { short: 0xa0, shortMax: 31, wide: [0xd9, 0xda, 0xdb] };
const BYTES: Heads = { short: 0, shortMax: -1, wide: [0xc4, 0xc5, 0xc6] };
const ARRAY: Heads = { short: 0x90, shortMax: 15, wide: [0, 0xdc, 0xdd] };
const MAP: Heads = { short: 0x80, shortMax: 15, wide: [0, 0xde, 0xdf] };

class Writer {
  #bytes = Buffer.allocUnsafe(INITIAL_BYTES);
  #at = 0;

  made(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  write(value: unknown, depth: number): void {
    switch (typeof value) {
      case "string":
        return this.#text(value);
      case "number":
        return this.#number(value);
      case "bigint":
        return this.#bigint(value);
      case "boolean":
        return this.#head(value ? 0xc3 : 0xc2, 0, 0);
      case "undefined":
        return this.#head(0xc0, 0, 0);
      case "object":
        return value === null ? this.#head(0xc0, 0, 0) : this.#object(value, depth);
      default:
        throw fail(INTERNAL, `a ${typeof value} cannot be written as MessagePack`);
    }
  }

  #object(value: object, depth: number): void {
    if (depth > DEPTH_MAX) throw fail(INTERNAL, `a value nests deeper than ${DEPTH_MAX} levels`);
    if (value instanceof Uint8Array) {
      this.#length(BYTES, value.length);
      this.#put(value);
    } else if (Array.isArray(value)) {
      this.#length(ARRAY, value.length);
      for (const item of value) this.write(item, depth + 1);
    } else {
      const members = Object.entries(value);
      this.#length(MAP, members.length);
      for (const [name, member] of members) {
        this.#text(name);
        this.write(member, depth + 1);
      }
    }
  }

  #text(text: string): void {
    const size = Buffer.byteLength(text);
    this.#length(TEXT, size);
    this.#room(size);
    this.#at += this.#bytes.write(text, this.#at);
  }

  #length({ short, shortMax, wide }: Heads, length: number): void {
    if (length <= shortMax) this.#head(short | length, 0, 0);
    else if (length < 0x100 && wide[0] !== 0) this.#head(wide[0], 1, length);
    else if (length < 0x1_0000) this.#head(wide[1], 2, length);
    else this.#head(wide[2], 4, length);
  }

  #number(value: number): void {
    // -0 is no integer, and is one to Number.isSafeInteger.
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) return this.#double(value);
    if (value >= 0) {
      if (value < 0x80) this.#head(value, 0, 0);
      else if (value < 0x100) this.#head(0xcc, 1, value);
      else if (value < 0x1_0000) this.#head(0xcd, 2, value);
      else if (value < 0x1_0000_0000) this.#head(0xce, 4, value);
      else this.#wide(0xcf, BigInt(value));
    } else if (value >= -0x20) this.#head(0x100 + value, 0, 0);
    else if (value >= -0x80) this.#head(0xd0, 1, value + 0x100);
    else if (value >= -0x8000) this.#head(0xd1, 2, value + 0x1_0000);
    else if (value >= -0x8000_0000) this.#head(0xd2, 4, value + 0x1_0000_0000);
    else this.#wide(0xd3, BigInt(value));
  }

  #double(value: number): void {
    this.#room(9);
    this.#bytes[this.#at] = 0xcb;
    this.#bytes.writeDoubleBE(value, this.#at + 1);
    this.#at += 9;
  }

  #bigint(value: bigint): void {
    if (value > UINT64_MAX || value < INT64_MIN)
      throw fail(INPUT_MALFORMED, "MessagePack has no integers of more than 64 bits");
    if (Number.isSafeInteger(Number(value))) return this.#number(Number(value));
    this.#wide(value < 0n ? 0xd3 : 0xcf, value);
  }

  #wide(first: number, value: bigint): void {
    this.#room(9);
    this.#bytes[this.#at] = first;
    this.#bytes.writeBigUInt64BE(BigInt.asUintN(64, value), this.#at + 1);
    this.#at += 9;
  }

  #head(first: number, size: number, argument: number): void {
    this.#room(5);
    this.#bytes[this.#at] = first;
    if (size > 0) this.#bytes.writeUIntBE(argument, this.#at + 1, size);
    this.#at += 1 + size;
  }

  #put(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #room(length: number): void {
    if (this.#at + length <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#at + length));
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
  }
}
