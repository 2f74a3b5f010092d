/** Alphabets: the few different numbers of a run, for runs of states, levels and cycles. */
import { malformed, type Reader, type Writer } from "./bytes.ts";
import { STREAM_MAX } from "./rans.ts";
import { bitLength } from "./residuals.ts";

const view = new Float64Array(1);
const words = new Int32Array(view.buffer);

/** The few different values of a run, its alphabet: `values` in order, `indexes` per position. */
export interface Alphabet {
  values: Float64Array;
  indexes: Uint16Array;
  size: number;
}

/** Letters of an alphabet, at most. */
export const ALPHABET_MAX = 256;
const SLOTS = 1024;
const slotValue = new Float64Array(SLOTS);
const slotLetter = new Int16Array(SLOTS);
const slotRun = new Int32Array(SLOTS);
const letters = new Float64Array(ALPHABET_MAX);
const place = new Uint16Array(ALPHABET_MAX);
let run = 0;

function slotOf(value: number): number {
  view[0] = value;
  let slot = (Math.imul(words[0], 0x9e3779b1) ^ Math.imul(words[1], 0x85ebca6b)) >>> 22;
  while (slotRun[slot] === run && slotValue[slot] !== value) slot = (slot + 1) & (SLOTS - 1);
  return slot;
}

/** Collects the alphabet of values[from..to) into `into`; false, soon, when it has more than `most` letters. */
export function alphabetOf(values: Float64Array, from: number, to: number, most: number, into: Alphabet): boolean {
  run = (run + 1) | 0;
  let size = 0;
  for (let i = from; i < to; i++) {
    const value = values[i];
    const slot = slotOf(value);
    if (slotRun[slot] !== run) {
      if (size === most) return false;
      slotRun[slot] = run;
      slotValue[slot] = value;
      slotLetter[slot] = size;
      letters[size++] = value;
    }
    into.indexes[i - from] = slotLetter[slot];
  }
  const sorted = letters.slice(0, size).sort();
  for (let i = 0; i < size; i++) place[slotLetter[slotOf(sorted[i])]] = i;
  for (let i = 0; i < to - from; i++) into.indexes[i] = place[into.indexes[i]];
  into.values = sorted;
  into.size = size;
  return true;
}

const guesses = new Int16Array(SLOTS);

/** Turns letters into 0 where the last two letters foretold it (they were followed by it before), else letter + 1; or back. */
export function foretell(read: Uint16Array, count: number, into: Uint16Array, back: boolean): void {
  guesses.fill(-1);
  let context = 0;
  for (let i = 0; i < count; i++) {
    const guess = guesses[context];
    let letter = read[i];
    if (!back) into[i] = letter === guess ? 0 : letter + 1;
    else into[i] = letter = letter === 0 ? Math.max(guess, 0) : letter - 1;
    guesses[context] = letter;
    context = ((context << 5) ^ letter) & (SLOTS - 1);
  }
}

export const newAlphabet = (): Alphabet => ({ values: letters, indexes: new Uint16Array(STREAM_MAX), size: 0 });

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
