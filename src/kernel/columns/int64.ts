/** Runs of 64-bit whole numbers: times in nanoseconds, and the counters and ids that a double cannot hold. */
import { malformed } from "./bytes.ts";
import type { Reader } from "./reader.ts";
import type { Writer } from "./writer.ts";
import { INTEGER_MAX, readIntegers, writeIntegers } from "./integers.ts";

const TWO_32 = 2 ** 32;
/** Word of an int64 in memory that holds its low half. */
const LOW = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 0 : 1;
const HIGH = 1 - LOW;

// The form byte: how the first number is written, then its zeros, then how the rest is.
const FIRST_RAW = 1;
const ZEROS_SHIFT = 1;
const WORDS = 8;
const FACTOR = 16;

// Stamps are often whole seconds, milliseconds or microseconds in nanoseconds.
const UNITS = [1n, 1_000n, 1_000_000n, 1_000_000_000n] as const;

function gcd(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}

/** Writes `numbers` (at least one), each an int64: the first, then differences without their common factor. */
export function writeInt64s(w: Writer, numbers: BigInt64Array): void {
  const count = numbers.length;
  const words = new Int32Array(numbers.buffer, numbers.byteOffset, count * 2);
  const deltas = new Float64Array(count - 1);
  let max = 0;
  for (let i = 2; i < words.length; i += 2) {
    const low = (words[i + LOW] >>> 0) - (words[i - 2 + LOW] >>> 0);
    const delta = (words[i + HIGH] - words[i - 2 + HIGH]) * TWO_32 + low;
    deltas[(i >> 1) - 1] = delta;
    const size = Math.abs(delta);
    if (size > max) max = size;
  }
  let form = 0;
  let factor = 1;
  if (max > INTEGER_MAX) {
    // Beyond 13 days of nanoseconds: a common factor may save it, if the difference is exact at all.
    factor = max >= 2 ** 53 ? 0 : deltas.reduce((known, delta) => gcd(Math.abs(delta), known), 0);
    if (factor > 0 && max / factor <= INTEGER_MAX) {
      form |= FACTOR;
      for (let i = 0; i < deltas.length; i++) deltas[i] = deltas[i] / factor;
    } else form |= WORDS;
  }
  writeFirst(w, numbers[0], form);
  if (form & FACTOR) w.varint(factor);
  if (!(form & WORDS)) writeIntegers(w, deltas, count - 1);
  else {
    for (const half of [HIGH, LOW]) {
      for (let i = 1; i < count; i++) deltas[i - 1] = half === HIGH ? words[2 * i + half] : words[2 * i + half] >>> 0;
      writeIntegers(w, deltas, count - 1);
    }
  }
}

function writeFirst(w: Writer, first: bigint, form: number): void {
  let zeros = UNITS.length - 1;
  while (first % (UNITS[zeros] as bigint) !== 0n) zeros--;
  const rest = Number(first / (UNITS[zeros] as bigint));
  if (Math.abs(rest) <= INTEGER_MAX) {
    w.byte(form | (zeros << ZEROS_SHIFT));
    w.signed(rest);
    return;
  }
  w.byte(form | FIRST_RAW);
  w.room(8);
  w.bytes.writeBigInt64LE(first, w.at);
  w.at += 8;
}

/** Reads `count` (at least one) int64. Fails EVENTS_MALFORMED. */
export function readInt64s(r: Reader, count: number): BigInt64Array {
  const form = r.byte();
  if (form >= FACTOR * 2) throw malformed(`an unknown form of 64-bit numbers ${form}`);
  const numbers = new BigInt64Array(count);
  const words = new Int32Array(numbers.buffer);
  numbers[0] =
    form & FIRST_RAW ? r.raw(8).readBigInt64LE(0) : BigInt(r.signed()) * (UNITS[(form >> ZEROS_SHIFT) & 3] as bigint);
  const factor = form & FACTOR ? r.varint() : 1;
  if (count === 1) return numbers;
  const deltas = new Float64Array(count - 1);
  readIntegers(r, deltas, count - 1);
  if (form & WORDS) {
    for (let i = 1; i < count; i++) words[2 * i + HIGH] = deltas[i - 1];
    readIntegers(r, deltas, count - 1);
    for (let i = 1; i < count; i++) words[2 * i + LOW] = deltas[i - 1];
    return numbers;
  }
  let low = words[LOW] >>> 0;
  let high = words[HIGH];
  for (let i = 1; i < count; i++) {
    low += deltas[i - 1] * factor;
    const carry = Math.floor(low / TWO_32);
    low -= carry * TWO_32;
    high += carry;
    words[2 * i + LOW] = low;
    words[2 * i + HIGH] = high;
  }
  return numbers;
}
