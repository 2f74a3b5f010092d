/**
 * Reads CBOR (RFC 8949) from anyone. Every length is checked against the bytes that are there before anything is made of
 * it, and what is made has no more items than the text has bytes, so a small header cannot ask for a large allocation.
 */
import { isUtf8 } from "node:buffer";
import { type Failure, fail, INPUT_MALFORMED, INPUT_TOO_DEEP } from "./error.ts";
import { put } from "./json-reader.ts";

const BREAK = Symbol("break");
const INDEFINITE = -1;
/** Bytes of a bignum (tags 2 and 3); as many digits as a JSON integer may have. More is INPUT_MALFORMED. */
export const BIGNUM_BYTES_MAX = 128;

/** Short texts repeat (names of members, devices, resources): this many are kept, those that hash alike replace each other. */
const TEXTS = 1024;
const TEXT_LENGTH_MAX = 32;
const texts: string[] = new Array<string>(TEXTS).fill("");

/** Reads one item that fills `bytes`. Fails INPUT_MALFORMED with the offset, INPUT_TOO_DEEP. */
export class CborReader {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #end: number;
  readonly #depthMax: number;
  readonly #names: readonly string[] | undefined;
  #at = 0;
  #depth = 0;
  /** Items that the bytes can still hold: each takes one byte at least, so honest lengths never add up to more. */
  #budget: number;

  constructor(bytes: Uint8Array, depthMax: number, names?: readonly string[]) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#end = bytes.byteLength;
    this.#budget = bytes.byteLength;
    this.#depthMax = depthMax;
    this.#names = names;
  }

  read(): unknown {
    const value = this.#item();
    if (value === BREAK) throw this.#malformed("a break outside of an item of indefinite length");
    if (this.#at < this.#end) throw this.#malformed(`${this.#end - this.#at} bytes follow the end of the item`);
    return value;
  }

  #item(): unknown {
    if (this.#at >= this.#end) throw this.#cutOff();
    const first = this.#bytes[this.#at++];
    const info = first & 0x1f;
    switch (first >> 5) {
      case 0:
        return info < 24 ? info : this.#integer(info, false);
      case 1:
        return info < 24 ? -1 - info : this.#integer(info, true);
      case 2:
        return this.#byteString(this.#length(info));
      case 3:
        return this.#text(this.#length(info));
      case 4:
        return this.#array(this.#length(info));
      case 5:
        return this.#map(this.#length(info));
      case 6:
        return this.#tagged(this.#length(info));
      default:
        return this.#simple(info);
    }
  }

  /** An integer is a number where a double holds it exactly, else a bigint: as JSON gives it. */
  #integer(info: number, negative: boolean): number | bigint {
    if (info < 27) {
      const value = this.#argument(info);
      return negative ? -1 - value : value;
    }
    if (info > 27) throw this.#malformed(`an integer with additional information ${info}`);
    const at = this.#take(8);
    const high = this.#view.getUint32(at);
    const low = this.#view.getUint32(at + 4);
    const value = high * 0x1_0000_0000 + low;
    if (high < 0x20_0000 && value < Number.MAX_SAFE_INTEGER) return negative ? -1 - value : value;
    const exact = this.#view.getBigUint64(at);
    if (!negative) return high < 0x20_0000 ? value : exact;
    return -1n - exact;
  }

  /** The argument behind a head byte, RFC 8949 3; up to 32 bits. */
  #argument(info: number): number {
    if (info < 24) return info;
    if (info === 24) return this.#bytes[this.#take(1)];
    return info === 25 ? this.#view.getUint16(this.#take(2)) : this.#view.getUint32(this.#take(4));
  }

  /** A length, a count or a tag; INDEFINITE where the items end with a break. */
  #length(info: number): number {
    if (info < 27) return this.#argument(info);
    if (info === 31) return INDEFINITE;
    if (info > 27) throw this.#malformed(`additional information ${info} is reserved`);
    const at = this.#take(8);
    const high = this.#view.getUint32(at);
    const low = this.#view.getUint32(at + 4);
    // Rounds above 2^53, where it is beyond any limit anyway.
    return high * 0x1_0000_0000 + low;
  }

  #byteString(length: number): Uint8Array {
    if (length === INDEFINITE) {
      const chunks = this.#chunks(2);
      return new Uint8Array(Buffer.concat(chunks as Uint8Array[]));
    }
    const from = this.#take(length);
    // A copy: a view would keep the whole body in memory for as long as somebody keeps the value.
    return new Uint8Array(this.#bytes.subarray(from, this.#at));
  }

  #text(length: number): string {
    if (length === INDEFINITE) return this.#chunks(3).join("");
    const from = this.#take(length);
    return length <= TEXT_LENGTH_MAX ? this.#shortText(from, length) : this.#utf8(from, this.#at);
  }

  #shortText(from: number, length: number): string {
    const bytes = this.#bytes;
    const end = from + length;
    let hash = length;
    let ascii = true;
    for (let i = from; i < end; i++) {
      const byte = bytes[i];
      if (byte > 0x7f) ascii = false;
      hash = (Math.imul(hash, 31) + byte) | 0;
    }
    if (!ascii) return this.#utf8(from, end);
    const slot = (hash ^ (hash >>> 15)) & (TEXTS - 1);
    const known = texts[slot];
    if (known.length === length) {
      let i = 0;
      while (i < length && known.charCodeAt(i) === bytes[from + i]) i++;
      if (i === length) return known;
    }
    return (texts[slot] = bytes.toString("latin1", from, end));
  }

  #utf8(from: number, end: number): string {
    const text = this.#bytes.toString("utf8", from, end);
    // Decoding puts U+FFFD where bytes are no UTF-8; only then it is worth asking whether it stood there as such.
    if (text.includes("\ufffd") && !isUtf8(this.#bytes.subarray(from, end)))
      throw this.#malformed("the text before it is not UTF-8");
    return text;
  }

  /** The chunks of a string of indefinite length: definite strings of the same type, RFC 8949 3.2.3. */
  #chunks(major: number): (string | Uint8Array)[] {
    const made: (string | Uint8Array)[] = [];
    for (;;) {
      const first = this.#bytes[this.#take(1)];
      if (first === 0xff) return made;
      this.#at--;
      if (first >> 5 !== major || (first & 0x1f) === 31)
        throw this.#malformed("a chunk of another type within a string");
      made.push(this.#item() as string | Uint8Array);
    }
  }

  #array(length: number): unknown[] {
    const made: unknown[] = [];
    this.#enter(length);
    if (length === INDEFINITE) {
      for (let item = this.#item(); item !== BREAK; item = this.#item()) made.push(item);
    } else {
      for (let i = 0; i < length; i++) made.push(this.#inner());
    }
    this.#depth--;
    return made;
  }

  #map(length: number): Record<string, unknown> {
    const made: Record<string, unknown> = {};
    this.#enter(length === INDEFINITE ? length : length * 2);
    const from = this.#at;
    let count = 0;
    for (; count !== length; count++) {
      const key = this.#key();
      if (key === BREAK && length === INDEFINITE) break;
      if (typeof key !== "string") throw this.#malformed("the key of a map is not a text");
      put(made, key, this.#inner());
    }
    this.#depth--;
    let kept = 0;
    for (const _ in made) kept++;
    // Fewer members than pairs: two had the same key, RFC 8949 5.6.
    if (kept !== count) this.#refuseTwice(from, count, made);
    return made;
  }

  /** A key is a text, or the number of a name that both sides know. */
  #key(): unknown {
    const isId = this.#names !== undefined && this.#at < this.#end && this.#bytes[this.#at] >> 5 === 0;
    const key = this.#item();
    if (!isId) return key;
    const name = this.#names[key as number];
    if (name === undefined) throw this.#malformed(`there is no name of the number ${String(key)}`);
    return name;
  }

  /** Reads the keys once more to name the one that came twice. */
  #refuseTwice(from: number, count: number, made: Record<string, unknown>): void {
    if (Object.keys(made).length === count) return; // something else put enumerable members on Object.prototype
    const seen = new Set<string>();
    this.#at = from;
    this.#budget = this.#end;
    for (let i = 0; i < count; i++) {
      const key = this.#key() as string;
      if (seen.has(key)) throw this.#malformed(`the key ${JSON.stringify(key.slice(0, 100))} appears twice in one map`);
      seen.add(key);
      this.#item();
    }
  }

  #enter(items: number): void {
    if (++this.#depth > this.#depthMax)
      throw fail(INPUT_TOO_DEEP, `the CBOR nests deeper than ${this.#depthMax} levels at byte ${this.#at}`);
    if (items === INDEFINITE) return;
    if (items > this.#end - this.#at || (this.#budget -= items) < 0) throw this.#cutOff();
  }

  #inner(): unknown {
    const item = this.#item();
    if (item === BREAK) throw this.#malformed("a break within an item of definite length");
    return item;
  }

  #tagged(tag: number): unknown {
    if (tag === 2 || tag === 3) return this.#bignum(tag === 3);
    // RFC 8949 3.4.6: self-described CBOR, which means nothing. All other tags mean something that we would lose.
    if (tag !== 55799)
      throw this.#malformed(tag === INDEFINITE ? "a tag of indefinite length" : `tag ${tag} is not supported`);
    this.#enter(1);
    const item = this.#inner();
    this.#depth--;
    return item;
  }

  #bignum(negative: boolean): number | bigint {
    // Looked at before it is read: a bignum of a bignum of a bignum would be nesting that nobody counts.
    if (this.#at < this.#end && this.#bytes[this.#at] >> 5 !== 2)
      throw this.#malformed("a bignum that is not a byte string");
    const bytes = this.#item() as Uint8Array;
    if (bytes.length > BIGNUM_BYTES_MAX)
      throw this.#malformed(`a bignum of ${bytes.length} bytes; at most ${BIGNUM_BYTES_MAX} are allowed`);
    const value = BigInt(bytes.length > 0 ? `0x${bytes.toHex()}` : 0);
    const signed = negative ? -1n - value : value;
    const number = Number(signed);
    return Number.isSafeInteger(number) ? number : signed;
  }

  #simple(info: number): unknown {
    switch (info) {
      case 20:
        return false;
      case 21:
        return true;
      case 22:
        return null;
      case 23:
        return undefined;
      case 25:
        return this.#view.getFloat16(this.#take(2));
      case 26:
        return this.#view.getFloat32(this.#take(4));
      case 27:
        return this.#view.getFloat64(this.#take(8));
      case 31:
        return BREAK;
      default:
        throw this.#malformed(`the simple value ${info} is not supported`);
    }
  }

  /** Steps over `length` bytes and tells where they begin. */
  #take(length: number): number {
    const at = this.#at;
    if (length > this.#end - at) throw this.#cutOff();
    this.#at = at + length;
    return at;
  }

  #cutOff(): Failure {
    return this.#malformed(`more is announced than the ${this.#end} bytes that are there`);
  }

  #malformed(what: string): Failure {
    return fail(INPUT_MALFORMED, `malformed CBOR at byte ${this.#at}: ${what}`);
  }
}
