/**
 * One column of values, encoded. Every value has a kind, and every kind a stream of its own; a column of one kind, which
 * nearly all are, says so in its first byte. What a value is decides, not what its resource was declared as: any value
 * comes back as it went in, wherever it stands.
 */
import { malformed } from "./bytes.ts";
import { Reader } from "./reader.ts";
import { Writer } from "./writer.ts";
import { fixedText, nudged, POWER, SCALE_MAX } from "./decimal.ts";
import { readInt64s, writeInt64s } from "./int64.ts";
import { readIntegers, writeIntegers } from "./integers.ts";
import { readJsons, writeJsons } from "./jsons.ts";
import {
  ABSENT,
  BIGINT,
  BLOB,
  DOUBLE,
  FALSE,
  INT64,
  JSON_VALUE,
  KINDS,
  LARGE,
  NULL,
  NUMBER,
  pointed,
  scratch,
  sortValues,
  TEXT,
  TEXT_FIXED,
  TEXT_POINTED,
  TEXT_SHORTEST,
  TRUE,
} from "./kinds.ts";
import { readBlobs, readTexts, writeBlobs, writeTexts } from "./texts.ts";
import type { Value } from "../events/model.ts";

// In the place of a kind in the first byte: several kinds, which are listed.
const MIXED = 15;

// Scales to 14 fit beside the kind; else, or when there are nudges, a byte of its own follows.
const SCALE_BYTE = 15;
const NUDGES = 0x80;

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
  const decimals = sortValues(values);
  let first = kinds[0];
  if (counts[first] !== count) first = MIXED;
  const scaled = decimals.count > 0;
  const scaleInHead = scaled && !decimals.nudged && decimals.scale < SCALE_BYTE;
  w.byte(first | ((scaleInHead ? decimals.scale : scaled ? SCALE_BYTE : 0) << 4));
  if (scaled && !scaleInHead) w.byte(decimals.scale | (decimals.nudged ? NUDGES : 0));
  if (first === MIXED) {
    // The decimals wait in the scratch, so that the kinds take a copy.
    writeIntegers(w, new Float64Array(kinds.subarray(0, count)), count);
  }
  if (scaled) {
    writeIntegers(w, scratch.numbers, decimals.count);
    if (decimals.nudged) writeIntegers(w, scratch.nudges, decimals.count);
  }
  if (counts[NUMBER] < count) writeOthers(w, values);
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
  if (counts[LARGE]) writeInt64s(w, BigInt64Array.from(of(LARGE) as number[], BigInt));
}

/** Writes doubles as they are, by halves: of those that were floats, or few, one half costs next to nothing. */
function writeDoubles(w: Writer, doubles: readonly number[]): void {
  const halves = new Int32Array(new Float64Array(doubles).buffer);
  const half = new Float64Array(doubles.length);
  for (const offset of [HIGH, LOW]) {
    for (let i = 0; i < half.length; i++) half[i] = offset === HIGH ? halves[2 * i + HIGH] : halves[2 * i + LOW] >>> 0;
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
    for (let i = 0; i < count; i++) halves[2 * i + offset] = half[i];
  }
  return doubles;
}

/** Reads a column of `count` (at least one) values; the caller bounds it. Fails EVENTS_MALFORMED. */
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
  const power = POWER[scale];
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
    const kind = listed[i];
    if (!(kind >= 0 && kind < KINDS)) throw malformed(`an unknown kind of value ${kind}`);
    kinds[i] = kind;
    counts[kind] = counts[kind] + 1;
  }
}

const countDecimals = () => {
  let sum = 0;
  for (let kind = NUMBER; kind <= TEXT_POINTED; kind++) sum += scratch.counts[kind];
  return sum;
};

function readNudges(r: Reader, count: number): void {
  readIntegers(r, scratch.nudges, count);
  for (let i = 0; i < count; i++) if (Math.abs(scratch.nudges[i]) > 2 ** 31) throw malformed("a decimal moved too far");
}

function decimalsOnly(count: number, power: number, withNudges: boolean): Value[] {
  const { numbers, nudges } = scratch;
  const values = new Array<Value>(count);
  if (withNudges) {
    for (let i = 0; i < count; i++) {
      const decimal = numbers[i] / power;
      values[i] = nudges[i] === 0 ? decimal : nudged(decimal, nudges[i]);
    }
  } else if (power === 1) for (let i = 0; i < count; i++) values[i] = numbers[i];
  else for (let i = 0; i < count; i++) values[i] = numbers[i] / power;
  return values;
}

type Streams = readonly { readonly [index: number]: Value }[];

/** Reads the streams beside the decimals, in the order of their kinds. */
function readStreams(r: Reader): Streams {
  const { counts } = scratch;
  const streams: { readonly [index: number]: Value }[] = Array.from({ length: KINDS }, () => []);
  const of = (kind: number) => counts[kind];
  // The counts are of one scratch: nothing below reads a column.
  if (of(DOUBLE)) streams[DOUBLE] = readDoubles(r, of(DOUBLE));
  if (of(INT64)) streams[INT64] = readInt64s(r, of(INT64));
  if (of(BIGINT)) streams[BIGINT] = readTexts(r, of(BIGINT)).map(toBigInt);
  if (of(TEXT)) streams[TEXT] = readTexts(r, of(TEXT));
  if (of(BLOB)) streams[BLOB] = readBlobs(r, of(BLOB));
  if (of(JSON_VALUE)) streams[JSON_VALUE] = readJsons(r, of(JSON_VALUE));
  if (of(LARGE)) streams[LARGE] = Array.from(readInt64s(r, of(LARGE)), Number);
  return streams;
}

function toBigInt(text: string): bigint {
  if (!/^-?\d{1,4096}$/.test(text)) throw malformed("a whole number with other characters than digits");
  return BigInt(text);
}

function assemble(r: Reader, count: number, scale: number, nudges: boolean): Value[] {
  const { kinds, numbers } = scratch;
  const power = POWER[scale];
  const streams = readStreams(r);
  const next = new Int32Array(KINDS);
  const values = new Array<Value>(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const kind = kinds[i];
    if (kind <= TEXT_POINTED) {
      const whole = numbers[at];
      const nudge = nudges ? scratch.nudges[at] : 0;
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
      const index = next[kind];
      values[i] = streams[kind][index];
      next[kind] = index + 1;
    }
  }
  return values;
}
