/**
 * One column of values, encoded. Every value has a kind, and every kind a stream of its own; a column of one kind, which
 * nearly all are, says so in its first byte. What a value is decides, not what its resource was declared as: any value
 * comes back as it went in, wherever it stands.
 */
import { malformed, Reader, Writer } from "./bytes.ts";
import { chooseScale, digitsAfterPoint, fixedText, nudged, nudgeOf, POWER, SCALE_MAX } from "./decimal.ts";
import { readInt64s, writeInt64s } from "./int64.ts";
import { INTEGER_MAX, readIntegers, writeIntegers } from "./integers.ts";
import { readJsons, writeJsons } from "./jsons.ts";
import { readBlobs, readTexts, writeBlobs, writeTexts } from "./texts.ts";
import type { Value } from "../events/model.ts";

/** Values of one column, at most. */
export const COLUMN_VALUES_MAX = 65_536;

// The first four are numbers in the decimal stream, and how they are written when they are texts.
const NUMBER = 0;
const TEXT_SHORTEST = 1; // as String() prints the number
const TEXT_FIXED = 2; // with all digits of the column's scale: 12.50
const TEXT_POINTED = 3; // as String(), and .0 after a whole number, as Python does
const ABSENT = 4;
const NULL = 5;
const DOUBLE = 6; // NaN, infinities, -0 and what is no short decimal
const INT64 = 7;
const BIGINT = 8; // beyond an int64, as text
const TEXT = 9;
const FALSE = 10;
const TRUE = 11;
const BLOB = 12;
const JSON_VALUE = 13;
const KINDS = 14;
// In the place of a kind in the first byte: booleans of both sorts; several kinds, listed.
const BOOLEANS = 14;
const MIXED = 15;

// Scales to 14 fit beside the kind; else, or when there are nudges, a byte of its own follows.
const SCALE_BYTE = 15;
const NUDGES = 0x80;

/** What one column needs while it is encoded or decoded; all is synchronous, so that one set serves all, growing with use. */
class Scratch {
  kinds = new Uint8Array(0);
  numbers = new Float64Array(0);
  nudges = new Float64Array(0);
  counts = new Int32Array(KINDS);

  fit(count: number): void {
    this.counts.fill(0);
    if (count <= this.kinds.length) return;
    const size = Math.max(256, count);
    this.kinds = new Uint8Array(size);
    this.numbers = new Float64Array(size);
    this.nudges = new Float64Array(size);
  }
}
const scratch = new Scratch();

interface Decimals {
  scale: number;
  textKind: number;
  count: number;
  nudged: boolean;
}

/** Encodes a column by itself; `decodeColumn` wants the same count. */
export function encodeColumn(values: readonly Value[]): Uint8Array {
  const w = new Writer();
  writeColumn(w, values);
  return w.taken();
}

/** Decodes a column of `count` values. Fails EVENTS_MALFORMED, also when bytes are left over. */
export function decodeColumn(bytes: Uint8Array, count: number): Value[] {
  const r = new Reader(bytes);
  const values = readColumn(r, count);
  if (r.at !== r.end) throw malformed(`${r.end - r.at} bytes left over after a column`);
  return values;
}

/** Writes a column of at least one value. */
export function writeColumn(w: Writer, values: readonly Value[]): void {
  const count = values.length;
  scratch.fit(count);
  const { kinds, counts } = scratch;
  const decimals = sort(values);
  let first = kinds[0] as number;
  if (counts[first] !== count) first = (counts[TRUE] as number) + (counts[FALSE] as number) === count ? BOOLEANS : MIXED;
  const scaled = decimals.count > 0;
  const scaleInHead = scaled && !decimals.nudged && decimals.scale < SCALE_BYTE;
  w.byte(first | ((scaleInHead ? decimals.scale : scaled ? SCALE_BYTE : 0) << 4));
  if (scaled && !scaleInHead) w.byte(decimals.scale | (decimals.nudged ? NUDGES : 0));
  if (first === MIXED || first === BOOLEANS) {
    // The decimals wait in the scratch, so that the kinds take a copy.
    writeIntegers(w, new Float64Array(kinds.subarray(0, count)), count);
  }
  if (scaled) {
    writeIntegers(w, scratch.numbers, decimals.count);
    if (decimals.nudged) writeIntegers(w, scratch.nudges, decimals.count);
  }
  if ((counts[NUMBER] as number) < count) writeOthers(w, values);
}

/** Gives every value its kind, and fills the decimal stream. */
function sort(values: readonly Value[]): Decimals {
  const { kinds, numbers, nudges, counts } = scratch;
  const decimals = planDecimals(values);
  const power = POWER[decimals.scale] as number;
  let at = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    let kind = DOUBLE;
    if (typeof value === "number") {
      const whole = Math.round(value * power);
      if (whole <= INTEGER_MAX && whole >= -INTEGER_MAX && (whole !== 0 || Object.is(value, 0))) {
        let nudge = 0;
        if (whole / power !== value) {
          nudge = nudgeOf(value, whole / power);
          decimals.nudged ||= nudge === nudge;
        }
        if (nudge === nudge) {
          kind = NUMBER;
          nudges[at] = nudge;
          numbers[at++] = whole;
        }
      }
    } else if (typeof value === "string") {
      kind = decimals.textKind === TEXT ? TEXT : textKind(value, decimals, at);
      if (kind !== TEXT) at++;
    } else kind = otherKind(value);
    kinds[i] = kind;
    counts[kind] = (counts[kind] as number) + 1;
  }
  decimals.count = at;
  return decimals;
}

/** Chooses the scale of the decimals, and whether texts are worth being read as such. */
function planDecimals(values: readonly Value[]): Decimals {
  const decimals: Decimals = { scale: 0, textKind: TEXT, count: 0, nudged: false };
  const first = values[0];
  if (typeof first === "boolean" || (typeof first === "object" && first !== null)) return decimals;
  const texts: string[] = [];
  const step = Math.max(1, values.length / 32);
  for (let at = 0; at < values.length; at += step) {
    const value = values[Math.floor(at)];
    if (typeof value === "string") texts.push(value);
  }
  if (texts.length === 0) {
    decimals.scale = chooseScale(values);
    return decimals;
  }
  const digits = texts.map(digitsAfterPoint);
  const plain = digits.filter((n) => n >= 0).length;
  // Texts that are mostly words are words: only a column of numbers gains by being one.
  if (plain * 10 < texts.length * 9) return decimals;
  const scale = digits.find((n) => n >= 0) as number;
  const fixed = scale > 0 && scale < SCALE_MAX && digits.every((n) => n < 0 || n === scale);
  if (fixed && texts.some((text) => text.endsWith("0"))) return { ...decimals, scale, textKind: TEXT_FIXED };
  decimals.textKind = texts.some((text) => text.endsWith(".0")) ? TEXT_POINTED : TEXT_SHORTEST;
  decimals.scale = chooseScale(texts.map(Number));
  return decimals;
}

/** Tells how a text can be made of a number again, to the character, and puts that number into the stream at `at`. */
function textKind(text: string, decimals: Decimals, at: number): number {
  if (text.length > 24 || text.length === 0) return TEXT;
  const { scale } = decimals;
  const power = POWER[scale] as number;
  const value = Number(text);
  const whole = Math.round(value * power);
  if (!(whole <= INTEGER_MAX && whole >= -INTEGER_MAX) || (whole === 0 && !Object.is(value, 0))) return TEXT;
  if (decimals.textKind === TEXT_FIXED) {
    if (fixedText(whole, scale) !== text) return TEXT;
    scratch.numbers[at] = whole;
    scratch.nudges[at] = 0;
    return TEXT_FIXED;
  }
  const nudge = whole / power === value ? 0 : nudgeOf(value, whole / power);
  if (nudge !== nudge) return TEXT;
  const shortest = String(value);
  const kind = shortest === text ? (decimals.textKind === TEXT_POINTED && Number.isInteger(value) ? TEXT_SHORTEST : decimals.textKind) : TEXT_POINTED;
  if (kind === TEXT_POINTED && pointed(value) !== text) return TEXT;
  scratch.numbers[at] = whole;
  scratch.nudges[at] = nudge;
  decimals.nudged ||= nudge !== 0;
  return kind;
}

const pointed = (value: number) => (Number.isInteger(value) ? `${value}.0` : String(value));

function otherKind(value: Value): number {
  if (value === undefined) return ABSENT;
  if (value === null) return NULL;
  if (typeof value === "boolean") return value ? TRUE : FALSE;
  if (typeof value === "bigint") return BigInt.asIntN(64, value) === value ? INT64 : BIGINT;
  return value instanceof Uint8Array ? BLOB : JSON_VALUE;
}

function writeOthers(w: Writer, values: readonly Value[]): void {
  const { kinds, counts } = scratch;
  const of = (kind: number): Value[] => {
    if (counts[kind] === values.length) return values as Value[];
    const found: Value[] = [];
    for (let i = 0; i < values.length; i++) if (kinds[i] === kind) found.push(values[i]);
    return found;
  };
  if (counts[DOUBLE]) writeDoubles(w, of(DOUBLE) as number[]);
  if (counts[INT64]) writeInt64s(w, new BigInt64Array(of(INT64) as bigint[]));
  if (counts[BIGINT]) writeTexts(w, (of(BIGINT) as bigint[]).map(String));
  if (counts[TEXT]) writeTexts(w, of(TEXT) as string[]);
  if (counts[BLOB]) writeBlobs(w, of(BLOB) as Uint8Array[]);
  if (counts[JSON_VALUE]) writeJsons(w, of(JSON_VALUE));
}

/** Writes doubles as they are, by halves: of those that were floats, or few, one half costs next to nothing. */
function writeDoubles(w: Writer, doubles: readonly number[]): void {
  const halves = new Int32Array(new Float64Array(doubles).buffer);
  const half = new Float64Array(doubles.length);
  for (const offset of [HIGH, LOW]) {
    for (let i = 0; i < half.length; i++) half[i] = offset === HIGH ? (halves[2 * i + HIGH] as number) : (halves[2 * i + LOW] as number) >>> 0;
    writeIntegers(w, half, half.length);
  }
}

const LOW = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 0 : 1;
const HIGH = 1 - LOW;

function readDoubles(r: Reader, count: number): Float64Array {
  const doubles = new Float64Array(count);
  const halves = new Int32Array(doubles.buffer);
  const half = new Float64Array(count);
  for (const offset of [HIGH, LOW]) {
    readIntegers(r, half, count);
    for (let i = 0; i < count; i++) halves[2 * i + offset] = half[i] as number;
  }
  return doubles;
}

/** Reads a column of `count` (1 to COLUMN_VALUES_MAX) values. Fails EVENTS_MALFORMED. */
export function readColumn(r: Reader, count: number): Value[] {
  scratch.fit(count);
  const head = r.byte();
  const first = head & 15;
  const scaled = first <= TEXT_POINTED || (first === MIXED && head >> 4 > 0);
  let scale = head >> 4;
  let nudges = false;
  if (scaled && scale === SCALE_BYTE) {
    const own = r.byte();
    scale = own & (NUDGES - 1);
    nudges = own >= NUDGES;
    if (scale > SCALE_MAX) throw malformed(`${scale} digits after a point; at most ${SCALE_MAX} are possible`);
  }
  readKinds(r, first, count);
  const decimals = countDecimals();
  if (decimals > 0) {
    readIntegers(r, scratch.numbers, decimals);
    if (nudges) readNudges(r, decimals);
  }
  const power = POWER[scale] as number;
  return first === NUMBER ? decimalsOnly(count, power, nudges) : assemble(r, count, scale, nudges);
}

function readKinds(r: Reader, first: number, count: number): void {
  const { kinds, counts } = scratch;
  if (first < KINDS) {
    kinds.fill(first, 0, count);
    counts[first] = count;
    return;
  }
  const listed = scratch.numbers.subarray(0, count);
  readIntegers(r, listed, count);
  for (let i = 0; i < count; i++) {
    const kind = listed[i] as number;
    if (!(kind >= 0 && kind < KINDS)) throw malformed(`an unknown kind of value ${kind}`);
    kinds[i] = kind;
    counts[kind] = (counts[kind] as number) + 1;
  }
}

const countDecimals = () => {
  let sum = 0;
  for (let kind = NUMBER; kind <= TEXT_POINTED; kind++) sum += scratch.counts[kind] as number;
  return sum;
};

function readNudges(r: Reader, count: number): void {
  readIntegers(r, scratch.nudges, count);
  for (let i = 0; i < count; i++) if (Math.abs(scratch.nudges[i] as number) > 2 ** 31) throw malformed("a decimal moved too far");
}

function decimalsOnly(count: number, power: number, withNudges: boolean): Value[] {
  const { numbers, nudges } = scratch;
  const values = new Array<Value>(count);
  if (withNudges) {
    for (let i = 0; i < count; i++) {
      const decimal = (numbers[i] as number) / power;
      values[i] = nudges[i] === 0 ? decimal : nudged(decimal, nudges[i] as number);
    }
  } else if (power === 1) for (let i = 0; i < count; i++) values[i] = numbers[i] as number;
  else for (let i = 0; i < count; i++) values[i] = (numbers[i] as number) / power;
  return values;
}

type Streams = readonly { readonly [index: number]: Value }[];

/** Reads the streams beside the decimals, in the order of their kinds. */
function readStreams(r: Reader): Streams {
  const { counts } = scratch;
  const streams: { readonly [index: number]: Value }[] = new Array(KINDS).fill([]);
  const of = (kind: number) => counts[kind] as number;
  // The counts are of one scratch: nothing below reads a column.
  if (of(DOUBLE)) streams[DOUBLE] = readDoubles(r, of(DOUBLE));
  if (of(INT64)) streams[INT64] = readInt64s(r, of(INT64));
  if (of(BIGINT)) streams[BIGINT] = readTexts(r, of(BIGINT)).map(toBigInt);
  if (of(TEXT)) streams[TEXT] = readTexts(r, of(TEXT));
  if (of(BLOB)) streams[BLOB] = readBlobs(r, of(BLOB));
  if (of(JSON_VALUE)) streams[JSON_VALUE] = readJsons(r, of(JSON_VALUE));
  return streams;
}

function toBigInt(text: string): bigint {
  if (!/^-?\d{1,4096}$/.test(text)) throw malformed("a whole number with other characters than digits");
  return BigInt(text);
}

function assemble(r: Reader, count: number, scale: number, nudges: boolean): Value[] {
  const { kinds, numbers } = scratch;
  const power = POWER[scale] as number;
  const streams = readStreams(r);
  const next = new Int32Array(KINDS);
  const values = new Array<Value>(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const kind = kinds[i] as number;
    if (kind <= TEXT_POINTED) {
      const whole = numbers[at] as number;
      const nudge = nudges ? (scratch.nudges[at] as number) : 0;
      at++;
      const number = nudge === 0 ? whole / power : nudged(whole / power, nudge);
      if (kind === NUMBER) values[i] = number;
      else if (kind === TEXT_SHORTEST) values[i] = String(number);
      else values[i] = kind === TEXT_FIXED ? fixedText(whole, scale) : pointed(number);
    } else if (kind === TRUE || kind === FALSE) values[i] = kind === TRUE;
    else if (kind === NULL) values[i] = null;
    // Written, not left out: an array with holes is another thing.
    else if (kind === ABSENT) values[i] = undefined;
    else {
      const index = next[kind] as number;
      values[i] = (streams[kind] as { [index: number]: Value })[index];
      next[kind] = index + 1;
    }
  }
  return values;
}
