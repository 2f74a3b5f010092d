/** Alphabets: the few different numbers of a run, for runs of states, levels and cycles. */
import { malformed } from "./bytes.ts";
import type { Reader } from "./reader.ts";
import type { Writer } from "./writer.ts";
import { STREAM_MAX, SYMBOLS_MAX } from "./rans.ts";
import { bitLength } from "./residuals.ts";

/** The few different values of a run, its alphabet: `values` in order; which one stands where, and how often. */
export interface Alphabet {
  values: Float64Array;
  readonly indexes: Uint16Array;
  readonly counts: Int32Array;
  size: number;
  /** The same run when it is foretold (`foretell`). */
  readonly told: Uint16Array;
  readonly toldCounts: Int32Array;
}

/** Letters of an alphabet, at most. */
export const ALPHABET_MAX = 256;
const SLOTS = 1024;
const slotValue = new Float64Array(SLOTS);
const slotLetter = new Int16Array(SLOTS);
const slotRun = new Int32Array(SLOTS);
const letters = new Float64Array(ALPHABET_MAX);
const found = new Int32Array(ALPHABET_MAX);
const place = new Uint16Array(ALPHABET_MAX);
let run = 0;

const TWO_TO_MINUS_32 = 2 ** -32;

/** Finds the slot of a whole number: its own, or the free one that it is to have. */
function slotOf(value: number): number {
  // Both halves of the number, so that nobody finds numbers that all want one slot by counting.
  const mixed = Math.imul(value | 0, 0x9e3779b1) ^ Math.imul((value * TWO_TO_MINUS_32) | 0, 0x85ebca6b);
  let slot = mixed >>> 22;
  while (slotRun[slot] === run && slotValue[slot] !== value) slot = (slot + 1) & (SLOTS - 1);
  return slot;
}

/** Collects the alphabet of values[from..to) into `into`; false, soon, when it has more than `most` letters. */
export function alphabetOf(values: Float64Array, from: number, to: number, most: number, into: Alphabet): boolean {
  run = (run + 1) | 0;
  const { indexes, counts } = into;
  let size = 0;
  let last = NaN;
  let letter = 0;
  for (let i = from; i < to; i++) {
    const value = values[i];
    if (value !== last) {
      last = value;
      const slot = slotOf(value);
      if (slotRun[slot] !== run) {
        if (size === most) return false;
        slotRun[slot] = run;
        slotValue[slot] = value;
        slotLetter[slot] = size;
        found[size] = 0;
        letters[size++] = value;
      }
      letter = slotLetter[slot];
    }
    found[letter] = found[letter] + 1;
    indexes[i - from] = letter;
  }
  const sorted = letters.slice(0, size).sort();
  for (let i = 0; i < size; i++) {
    const old = slotLetter[slotOf(sorted[i])];
    place[old] = i;
    counts[i] = found[old];
  }
  const count = to - from;
  for (let i = 0; i < count; i++) indexes[i] = place[indexes[i]];
  into.values = sorted;
  into.size = size;
  return true;
}

const guesses = new Int16Array(SLOTS);

/** Turns the letters of a run into 0 where the last two letters foretold it (they were followed by it before), else letter + 1. */
export function foretell({ indexes, told, toldCounts, size }: Alphabet, count: number): void {
  guesses.fill(-1);
  toldCounts.fill(0, 0, size + 1);
  let context = 0;
  for (let i = 0; i < count; i++) {
    const letter = indexes[i];
    const symbol = letter === guesses[context] ? 0 : letter + 1;
    told[i] = symbol;
    toldCounts[symbol] = toldCounts[symbol] + 1;
    guesses[context] = letter;
    context = ((context << 5) ^ letter) & (SLOTS - 1);
  }
}

/** Turns back, in its place, what `foretell` made. */
export function untell(symbols: Uint16Array, count: number): void {
  guesses.fill(-1);
  let context = 0;
  for (let i = 0; i < count; i++) {
    const symbol = symbols[i];
    const letter = symbol === 0 ? Math.max(guesses[context], 0) : symbol - 1;
    symbols[i] = letter;
    guesses[context] = letter;
    context = ((context << 5) ^ letter) & (SLOTS - 1);
  }
}

export const newAlphabet = (): Alphabet => ({
  values: letters,
  indexes: new Uint16Array(STREAM_MAX),
  counts: new Int32Array(SYMBOLS_MAX),
  size: 0,
  told: new Uint16Array(STREAM_MAX),
  toldCounts: new Int32Array(SYMBOLS_MAX),
});

/** Writes letters, which are in order, as their differences: with the least width, or each in classes of its own length. */
export function writeAlphabet(w: Writer, of: Float64Array, size: number): void {
  w.signed(of[0]);
  for (let i = 1; i < size; i++) {
    const gap = of[i] - of[i - 1] - 1;
    const length = bitLength(gap);
    w.bits(length, 6);
    if (length > 1) w.bits(gap - 2 ** (length - 1), length - 1);
  }
  w.endBits();
}

/** Reads the letters of an alphabet. Fails EVENTS_MALFORMED. */
export function readAlphabet(r: Reader, size: number): Float64Array {
  const of = new Float64Array(size);
  let last = r.signed();
  for (let i = 0; i < size; i++) {
    if (i > 0) {
      const length = r.bits(6);
      if (length > 53) throw malformed("a letter beyond 2^53");
      last += 1 + (length > 1 ? 2 ** (length - 1) + r.bits(length - 1) : length);
    }
    of[i] = last;
  }
  r.endBits();
  return of;
}
