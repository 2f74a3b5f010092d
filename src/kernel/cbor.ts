/**
 * CBOR (RFC 8949) as our services speak it among themselves, and EdgeX's software for events with binary readings: the
 * values of JSON, and bytes, undefined, and every double. The codec is our own: those on the registry run what the sender
 * chose (records, references, tags), rename members, lose -0, replace what is not UTF-8, and keep no limit of depth.
 */
import { BIGNUM_BYTES_MAX, CborReader } from "./cbor-reader.ts";
import { fail, INPUT_TOO_LARGE, INTERNAL } from "./error.ts";

/** Bytes of one CBOR item unless the caller says otherwise; more is INPUT_TOO_LARGE. */
export const CBOR_BYTES_MAX = 16 * 1024 * 1024;
/** Levels of nesting unless the caller says otherwise; more is INPUT_TOO_DEEP. */
export const CBOR_DEPTH_MAX = 64;
/** No caller may allow more levels than this, so that reading by recursion can never run out of stack. */
export const CBOR_DEPTH_CEILING = 500;

export interface CborLimits {
  readonly bytesMax?: number;
  readonly depthMax?: number;
  /** A key may be a number: that of its name here. */
  readonly names?: readonly string[] | undefined;
}

/**
 * Reads one CBOR item that fills `bytes`: maps as plain objects (`__proto__` is an ordinary member), integers as number
 * where a double holds them and else as bigint, byte strings as Uint8Array of their own. Refuses keys that are no text or come
 * twice, tags other than bignums, and text that is not UTF-8. Fails INPUT_MALFORMED, INPUT_TOO_DEEP, INPUT_TOO_LARGE.
 */
export function decodeCbor(bytes: Uint8Array, limits: CborLimits = {}): unknown {
  const bytesMax = limits.bytesMax ?? CBOR_BYTES_MAX;
  if (bytes.byteLength > bytesMax)
    throw fail(INPUT_TOO_LARGE, `the CBOR has ${bytes.byteLength} bytes; at most ${bytesMax} are allowed`);
  return new CborReader(bytes, Math.min(limits.depthMax ?? CBOR_DEPTH_MAX, CBOR_DEPTH_CEILING), limits.names).read();
}

// One buffer serves all calls, as encoding is synchronous; one grown beyond SCRATCH_KEPT_MAX is given back.
const SCRATCH_BYTES = 64 * 1024;
const SCRATCH_KEPT_MAX = 4 * 1024 * 1024;
let scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
let view = new DataView(scratch.buffer);
let at = 0;
/** What the keys are called by number in the value that is being written. */
let ids: ReadonlyMap<string, number> | undefined;

/**
 * Writes a value as CBOR, in the shortest form of each head; bytes of its own. Dates become text as in JSON; a lone
 * surrogate becomes U+FFFD, since UTF-8 has none. A function, a symbol, a Map or a Set is an error of ours: KERNEL_INTERNAL.
 * `names`: keys of these are written as their numbers, for who knows them by.
 */
export function encodeCbor(value: unknown, names?: ReadonlyMap<string, number>): Uint8Array {
  at = 0;
  ids = names;
  write(value, 0);
  const made = new Uint8Array(scratch.subarray(0, at));
  if (scratch.length > SCRATCH_KEPT_MAX) resize(SCRATCH_BYTES, 0);
  return made;
}

function resize(sizeBytes: number, keep: number): void {
  const larger = Buffer.allocUnsafeSlow(sizeBytes);
  scratch.copy(larger, 0, 0, keep);
  scratch = larger;
  view = new DataView(larger.buffer);
}

/** Makes room for `length` bytes from `at` on. */
function room(length: number): void {
  if (at + length > scratch.length) resize(Math.max(scratch.length * 2, at + length), at);
}

function write(value: unknown, depth: number): void {
  switch (typeof value) {
    case "string":
      return writeText(value);
    case "number":
      return writeNumber(value);
    case "bigint":
      return writeBigint(value);
    case "boolean":
      return writeByte(value ? 0xf5 : 0xf4);
    case "undefined":
      return writeByte(0xf7);
    case "object":
      return value === null ? writeByte(0xf6) : writeObject(value, depth);
    default:
      throw fail(INTERNAL, `a ${typeof value} cannot be written as CBOR`);
  }
}

function writeByte(byte: number): void {
  room(1);
  scratch[at++] = byte;
}

/** Writes a head (RFC 8949 3) with an argument up to 2^53. */
function writeHead(major: number, argument: number): void {
  room(9);
  const top = major << 5;
  if (argument < 24) scratch[at++] = top | argument;
  else if (argument < 0x100) {
    scratch[at++] = top | 24;
    scratch[at++] = argument;
  } else if (argument < 0x1_0000) {
    scratch[at++] = top | 25;
    scratch[at++] = argument >> 8;
    scratch[at++] = argument & 0xff;
  } else if (argument < 0x1_0000_0000) {
    scratch[at++] = top | 26;
    view.setUint32(at, argument);
    at += 4;
  } else {
    scratch[at++] = top | 27;
    view.setUint32(at, Math.floor(argument / 0x1_0000_0000));
    view.setUint32(at + 4, argument >>> 0);
    at += 8;
  }
}

function writeNumber(value: number): void {
  // -0 is not an integer to CBOR, and is one to Number.isSafeInteger.
  if (Number.isSafeInteger(value) && (value !== 0 || 1 / value > 0)) {
    if (value >= 0) writeHead(0, value);
    else writeHead(1, -1 - value);
    return;
  }
  room(9);
  if (Math.fround(value) === value) {
    scratch[at] = 0xfa;
    view.setFloat32(at + 1, value);
    at += 5;
  } else {
    scratch[at] = 0xfb;
    view.setFloat64(at + 1, value);
    at += 9;
  }
}

function writeBigint(value: bigint): void {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return writeNumber(number);
  const argument = value < 0n ? -1n - value : value;
  if (BigInt.asUintN(64, argument) === argument) {
    room(9);
    scratch[at] = value < 0n ? 0x3b : 0x1b;
    view.setBigUint64(at + 1, argument);
    at += 9;
    return;
  }
  const hex = argument.toString(16);
  const bytes = Buffer.from(hex.length % 2 ? `0${hex}` : hex, "hex");
  if (bytes.length > BIGNUM_BYTES_MAX)
    throw fail(INTERNAL, `a bigint of ${bytes.length} bytes cannot be written as CBOR`);
  writeByte(value < 0n ? 0xc3 : 0xc2);
  writeBytes(bytes);
}

// Up to this length a loop is faster than the two calls into the engine that count and copy.
const LOOP_LENGTH_MAX = 48;

function writeText(text: string): void {
  const length = text.length;
  if (length <= LOOP_LENGTH_MAX) {
    const start = at;
    writeHead(3, length);
    room(length);
    let i = 0;
    for (let char = 0; i < length && (char = text.charCodeAt(i)) < 0x80; i++) scratch[at + i] = char;
    if (i === length) {
      at += length;
      return;
    }
    at = start; // not ASCII: its bytes are more than its units
  }
  const size = Buffer.byteLength(text);
  writeHead(3, size);
  room(size);
  at += scratch.write(text, at, size, "utf8");
}

function writeBytes(bytes: Uint8Array): void {
  writeHead(2, bytes.byteLength);
  room(bytes.byteLength);
  scratch.set(bytes, at);
  at += bytes.byteLength;
}

function writeObject(value: object, depth: number): void {
  if (depth > CBOR_DEPTH_CEILING) throw fail(INTERNAL, `a value nests deeper than ${CBOR_DEPTH_CEILING} levels`);
  if (Array.isArray(value)) return writeItems(value, depth);
  if (value instanceof Uint8Array) return writeBytes(value);
  if (ArrayBuffer.isView(value) && Symbol.iterator in value)
    return writeItems([...(value as Iterable<unknown>)], depth);
  if (value instanceof Date) return writeText(value.toISOString());
  if (value instanceof Map || value instanceof Set)
    throw fail(INTERNAL, `a ${value.constructor.name} cannot be written as CBOR`);
  const members = value as Record<string, unknown>;
  const keys = Object.keys(members);
  writeHead(5, keys.length);
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i];
    const id = ids?.get(key);
    if (id === undefined) writeText(key);
    else writeHead(0, id);
    write(members[key], depth + 1);
  }
}

function writeItems(items: readonly unknown[], depth: number): void {
  writeHead(4, items.length);
  for (let i = 0; i < items.length; i++) write(items[i], depth + 1);
}
