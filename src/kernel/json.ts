/**
 * JSON as the house reads and writes it: as `JSON.parse` and `JSON.stringify` do, and exact and safe where they are not.
 *
 * Reading is the engine's own parser between two passes of ours. A scan of the text before it counts the members and
 * notes the numbers beyond 2^53 - 1; a walk over the value after it counts the members again and puts the exact numbers
 * in, in the same order. Fewer members in the value than in the text means that a name came twice. No text is edited.
 */
import { isAscii, isUtf8 } from "node:buffer";
import { fail, INPUT_MALFORMED, INPUT_TOO_LARGE, INTERNAL } from "./error.ts";
import { beyondDouble, JsonReader, placeOf, tooDeepAt } from "./json-reader.ts";

/** Bytes of one JSON text unless the caller says otherwise; more is INPUT_TOO_LARGE. */
export const JSON_BYTES_MAX = 16 * 1024 * 1024;
/** Levels of nesting unless the caller says otherwise; more is INPUT_TOO_DEEP. */
export const JSON_DEPTH_MAX = 64;
/** No caller may allow more levels than this, so that a walk by recursion can never run out of stack. */
export const JSON_DEPTH_CEILING = 1000;

export interface JsonLimits {
  readonly bytesMax?: number;
  readonly depthMax?: number;
}

const SAFE = Number.MAX_SAFE_INTEGER;

// What the scan found; reading is synchronous, so one set serves all. `large` is in order of the text.
let membersInText = 0;
let membersInValue = 0;
const NONE: (number | bigint)[] = [];
let large = NONE;
let largeUsed = 0;
let namesLikeIndexes = false;

/**
 * Reads one JSON text: integers beyond 2^53 - 1 as bigint, all else as `JSON.parse` would. A number beyond the range of a
 * double (1e400, or 309 digits) is refused, as are names that come twice, a byte order mark and bytes that are not UTF-8.
 * `__proto__` is an ordinary member. Fails INPUT_MALFORMED (with line and column), INPUT_TOO_DEEP, INPUT_TOO_LARGE.
 */
export function parseJson(input: string | Uint8Array, limits: JsonLimits = {}): unknown {
  const bytesMax = limits.bytesMax ?? JSON_BYTES_MAX;
  const depthMax = Math.min(limits.depthMax ?? JSON_DEPTH_MAX, JSON_DEPTH_CEILING);
  const text = typeof input === "string" ? checkedText(input, bytesMax) : decodeText(input, bytesMax);
  scan(text, depthMax);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The engine's message names no line and no expectation, and changes between versions: the reader refuses in ours.
    return new JsonReader(text, depthMax).read();
  }
  // Members named like array indexes come first in an object, whatever the text's order: the walk would miscount.
  if (large.length > 0 && namesLikeIndexes) return new JsonReader(text, depthMax).read();
  if (typeof value === "number" && large.length > 0) return large[0];
  membersInValue = 0;
  largeUsed = 0;
  if (typeof value === "object" && value !== null) walk(value);
  const sure = membersInValue === membersInText && largeUsed === large.length;
  large = NONE;
  return sure ? value : new JsonReader(text, depthMax).read();
}

function checkedText(text: string, bytesMax: number): string {
  // A UTF-16 unit is one to three bytes of UTF-8: count only where it can matter.
  if (text.length * 3 > bytesMax && Buffer.byteLength(text) > bytesMax)
    throw tooLarge(Buffer.byteLength(text), bytesMax);
  return text;
}

const tooLarge = (sizeBytes: number, bytesMax: number) =>
  fail(INPUT_TOO_LARGE, `the JSON has ${sizeBytes} bytes; at most ${bytesMax} are allowed`);

function decodeText(bytes: Uint8Array, bytesMax: number): string {
  if (bytes.byteLength > bytesMax) throw tooLarge(bytes.byteLength, bytesMax);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isAscii(buffer)) return buffer.toString("latin1");
  if (!isUtf8(buffer)) throw notUtf8(buffer);
  return buffer.toString("utf8");
}

function notUtf8(bytes: Buffer) {
  // The first replacement character that does not stand in the bytes as such is where decoding failed.
  const text = bytes.toString("utf8");
  let from = 0;
  let offset = 0;
  for (let at = text.indexOf("\ufffd"); at >= 0; at = text.indexOf("\ufffd", from)) {
    offset += Buffer.byteLength(text.slice(from, at));
    if (bytes.readUIntBE(offset, Math.min(3, bytes.length - offset)) !== 0xefbfbd) {
      return fail(INPUT_MALFORMED, `malformed JSON at ${placeOf(text, at)}: byte ${offset} is not UTF-8`);
    }
    from = at + 1;
    offset += 3;
  }
  return fail(INPUT_MALFORMED, "malformed JSON: the bytes are not UTF-8");
}

/** Counts members and notes large numbers. Right for well-formed text; for any other it only must end, as JSON.parse refuses it. */
function scan(text: string, depthMax: number): void {
  membersInText = 0;
  large = [];
  namesLikeIndexes = false;
  const end = text.length;
  let depth = 0;
  let stringFrom = 0;
  let at = 0;
  while (at < end) {
    const char = text.charCodeAt(at++);
    if (char === 0x22) {
      stringFrom = at;
      for (;;) {
        const inside = text.charCodeAt(at++);
        if (inside === 0x22 || at > end) break;
        if (inside === 0x5c) at++;
      }
    } else if (char === 0x3a) {
      membersInText++;
      const first = text.charCodeAt(stringFrom);
      // A backslash may spell a digit: \u0031.
      if ((first >= 0x30 && first <= 0x39) || first === 0x5c) namesLikeIndexes = true;
    } else if (char === 0x7b || char === 0x5b) {
      if (++depth > depthMax) throw tooDeepAt(text, at - 1, depthMax);
    } else if (char === 0x7d || char === 0x5d) depth--;
    else if ((char >= 0x30 && char <= 0x39) || char === 0x2d) at = scanNumber(text, at);
  }
}

/** Steps over the number whose first character is before `at`; notes it if it is beyond the safe integers. */
function scanNumber(text: string, at: number): number {
  const from = at - 1;
  let integer = true;
  let exponent = false;
  for (; ; at++) {
    const char = text.charCodeAt(at);
    if (char >= 0x30 && char <= 0x39) continue;
    if (char === 0x65 || char === 0x45) exponent = true;
    else if (char !== 0x2e && char !== 0x2b && char !== 0x2d) break;
    integer = false;
  }
  // 2^53 has 16 digits: a shorter number without an exponent is safe.
  if (exponent || at - from >= 16) {
    const digits = text.slice(from, at);
    const value = Number(digits);
    if (value > SAFE || value < -SAFE) {
      if (value === Infinity || value === -Infinity) throw beyondDouble(text, from);
      large.push(integer ? BigInt(digits) : value);
    }
  }
  return at;
}

function walk(value: object): void {
  if (Array.isArray(value)) {
    const items: unknown[] = value;
    for (let i = 0; i < items.length; i++) {
      const item = items[i];
      if (typeof item === "object") {
        if (item !== null) walk(item);
      } else if (typeof item === "number" && (item > SAFE || item < -SAFE)) items[i] = large[largeUsed++];
    }
    return;
  }
  const members = value as Record<string, unknown>;
  for (const key in members) {
    membersInValue++;
    const item = members[key];
    if (typeof item === "object") {
      if (item !== null) walk(item);
    } else if (typeof item === "number" && (item > SAFE || item < -SAFE)) members[key] = large[largeUsed++];
  }
}

/**
 * Writes a value as JSON: bigint as a plain integer, Uint8Array as a base64 string, all else as `JSON.stringify`. A number
 * that JSON cannot hold (NaN, Infinity), a value that is nothing (undefined, a function) and nesting beyond
 * JSON_DEPTH_CEILING are errors of ours, not of a caller: KERNEL_INTERNAL.
 */
export function stringifyJson(value: unknown): string {
  // The engine is three times as fast as any writer of ours, and as anything that makes it call back for a bigint
  // (a replacer, a toJSON on the prototype, which would also change the world for everybody): it writes what it can.
  const text = isPlain(value, 0) ? (JSON.stringify(value) as string | undefined) : write(value, 0);
  if (text === undefined) throw fail(INTERNAL, `a value of type ${typeof value} cannot be written as JSON`);
  return text;
}

/** Tells whether `JSON.stringify` itself writes `value` as we want it. */
function isPlain(value: unknown, depth: number): boolean {
  if (typeof value === "string" || typeof value === "boolean" || value === null) return true;
  if (typeof value === "number") return value - value === 0;
  if (typeof value === "bigint") return false;
  if (typeof value !== "object") return true;
  if (depth > JSON_DEPTH_CEILING) throw fail(INTERNAL, `a value nests deeper than ${JSON_DEPTH_CEILING} levels`);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) if (!isPlain(value[i], depth + 1)) return false;
    return true;
  }
  if (value instanceof Uint8Array) return false;
  for (const key in value) if (!isPlain((value as Record<string, unknown>)[key], depth + 1)) return false;
  return true;
}

function write(value: unknown, depth: number): string | undefined {
  if (typeof value === "string") return quote(value);
  if (typeof value === "number") return writeNumber(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (depth > JSON_DEPTH_CEILING) throw fail(INTERNAL, `a value nests deeper than ${JSON_DEPTH_CEILING} levels`);
  if (value instanceof Uint8Array) return `"${value.toBase64()}"`;
  if ("toJSON" in value && typeof value.toJSON === "function")
    return write((value as { toJSON(): unknown }).toJSON(), depth + 1);
  if (Array.isArray(value)) {
    let text = "[";
    for (let i = 0; i < value.length; i++) text += (i > 0 ? "," : "") + (write(value[i], depth + 1) ?? "null");
    return `${text}]`;
  }
  let text = "{";
  for (const key of Object.keys(value)) {
    const member = write((value as Record<string, unknown>)[key], depth + 1);
    if (member !== undefined) text += (text.length > 1 ? "," : "") + quoteName(key) + member;
  }
  return `${text}}`;
}

function writeNumber(value: number): string {
  if (value - value !== 0) throw fail(INTERNAL, `the number ${value} cannot be written as JSON`);
  return String(value);
}

// Beyond this length the engine's quoting is faster than a loop of ours.
const LOOP_LENGTH_MAX = 64;

function quote(text: string): string {
  const length = text.length;
  if (length > LOOP_LENGTH_MAX) return JSON.stringify(text);
  for (let i = 0; i < length; i++) {
    const char = text.charCodeAt(i);
    // Lone surrogates are escaped, as JSON.stringify does; a pair comes out as it is there, too.
    if (char < 0x20 || char === 0x22 || char === 0x5c || (char >= 0xd800 && char < 0xe000)) return JSON.stringify(text);
  }
  return `"${text}"`;
}

/** Names repeat: this many are kept quoted; those that come later are quoted each time. */
const NAMES_MAX = 4096;
const NAME_LENGTH_MAX = 64;
const quotedNames = new Map<string, string>();

function quoteName(name: string): string {
  const known = quotedNames.get(name);
  if (known !== undefined) return known;
  const quoted = `${quote(name)}:`;
  if (quotedNames.size < NAMES_MAX && name.length <= NAME_LENGTH_MAX) quotedNames.set(name, quoted);
  return quoted;
}
