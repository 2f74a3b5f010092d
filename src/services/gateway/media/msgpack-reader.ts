/**
 * Reads MessagePack from anyone. Every length is checked against the bytes that are there before anything is made of it: the
 * library on the registry makes an array of what a header announces, and knows no limit of depth.
 */
import { isUtf8 } from "node:buffer";
import { type Failure, fail, INPUT_MALFORMED, INPUT_TOO_DEEP } from "../../../kernel/error.ts";

/** Levels of nesting; more is INPUT_TOO_DEEP. */
const DEPTH_MAX = 64;

/**
 * Reads one value that fills `bytes`: integers as number where a double holds them and else as bigint, `bin` as Uint8Array.
 * Refuses extensions, keys that are no text or come twice, and text that is not UTF-8. Fails INPUT_MALFORMED, INPUT_TOO_DEEP.
 */
export function decodeMsgpack(bytes: Uint8Array): unknown {
  const reader = new Reader(bytes);
  const value = reader.value();
  reader.end();
  return value;
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  #depth = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) throw this.#malformed(`${left} bytes follow the end of the value`);
  }

  value(): unknown {
    const first = this.#uint(1);
    if (first < 0x80) return first;
    if (first < 0x90) return this.#map(first & 0x0f);
    if (first < 0xa0) return this.#array(first & 0x0f);
    if (first < 0xc0) return this.#text(first & 0x1f);
    if (first >= 0xe0) return first - 0x100;
    return this.#marked(first);
  }

  #marked(first: number): unknown {
    switch (first) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return first === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        // A copy: a view would keep the whole body in memory for as long as somebody keeps the value.
        return new Uint8Array(this.#take(this.#uint(2 ** (first - 0xc4))));
      case 0xca:
        return this.#bytes.readFloatBE(this.#step(4));
      case 0xcb:
        return this.#bytes.readDoubleBE(this.#step(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#uint(2 ** (first - 0xcc));
      case 0xcf:
        return exact(this.#bytes.readBigUInt64BE(this.#step(8)));
      case 0xd0:
      case 0xd1:
      case 0xd2: {
        const size = 2 ** (first - 0xd0);
        return this.#bytes.readIntBE(this.#step(size), size);
      }
      case 0xd3:
        return exact(this.#bytes.readBigInt64BE(this.#step(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#uint(2 ** (first - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#uint(2 * (first - 0xdb)));
      case 0xde:
      case 0xdf:
        return this.#map(this.#uint(2 * (first - 0xdd)));
      default:
        throw this.#malformed(first === 0xc1 ? "the byte 0xc1 is never used" : "extensions are not supported");
    }
  }

  #array(length: number): unknown[] {
    this.#enter(length);
    const made: unknown[] = [];
    for (let i = 0; i < length; i++) made.push(this.value());
    this.#depth--;
    return made;
  }

  #map(length: number): Record<string, unknown> {
    this.#enter(length * 2);
    const made: Record<string, unknown> = {};
    for (let i = 0; i < length; i++) {
      const key = this.value();
      if (typeof key !== "string") throw this.#malformed("the key of a map is not a text");
      if (Object.hasOwn(made, key)) throw this.#malformed(`the key '${key.slice(0, 100)}' appears twice in one map`);
      const value = this.value();
      // An ordinary member, whatever its name.
      if (key === "__proto__")
        Object.defineProperty(made, key, { value, enumerable: true, writable: true, configurable: true });
      else made[key] = value;
    }
    this.#depth--;
    return made;
  }

  /** Each item has one byte at least: what announces more than there are is refused before anything is made. */
  #enter(items: number): void {
    if (++this.#depth > DEPTH_MAX)
      throw fail(INPUT_TOO_DEEP, `the MessagePack nests deeper than ${DEPTH_MAX} levels at byte ${this.#at}`);
    if (items > this.#bytes.length - this.#at) throw this.#cutOff();
  }

  #text(length: number): string {
    const bytes = this.#take(length);
    if (!isUtf8(bytes)) throw this.#malformed("the text before it is not UTF-8");
    return bytes.toString();
  }

  #uint(size: number): number {
    return this.#bytes.readUIntBE(this.#step(size), size);
  }

  #take(length: number): Buffer {
    const from = this.#step(length);
    return this.#bytes.subarray(from, this.#at);
  }

  /** Steps over `length` bytes and tells where they begin. */
  #step(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) throw this.#cutOff();
    this.#at = at + length;
    return at;
  }

  #cutOff(): Failure {
    return this.#malformed(`more is announced than the ${this.#bytes.length} bytes that are there`);
  }

  #malformed(what: string): Failure {
    return fail(INPUT_MALFORMED, `malformed MessagePack at byte ${this.#at}: ${what}`);
  }
}

const exact = (value: bigint): number | bigint => {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
};
