/**
 * What is left of a run of whole numbers after prediction, and what coding it would cost. A residual is coded as a
 * class (its magnitude, with some leading bits), which the entropy coder takes, and the bits below, which nobody can.
 */
import { ransCost, STREAM_MAX, SYMBOLS_MAX } from "./rans.ts";

const view = new Float64Array(1);
const words = new Int32Array(view.buffer);
/** Word of a double that has sign and exponent; the other is its low half. */
const HIGH = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 1 : 0;
const ZERO_EXPONENT = 1022;

/** Powers of two: `**` and `%` of doubles are calls, and cost more than all else here. */
export const TWO_TO = Float64Array.from({ length: 64 }, (_, n) => 2 ** n);

/** Counts the bits of a whole number from 0 to 2^53. */
export function bitLength(value: number): number {
  view[0] = value;
  const exponent = words[HIGH] >>> 20;
  return exponent > ZERO_EXPONENT ? exponent - ZERO_EXPONENT : 0;
}

/** Sums the bits of |values[i] - center|: a cheap stand-in for the entropy. */
export function spread(values: Float64Array, from: number, to: number, center: number): number {
  let sum = 0;
  for (let i = from; i < to; i++) {
    view[0] = values[i] - center;
    const exponent = (words[HIGH] >>> 20) & 0x7ff;
    if (exponent > ZERO_EXPONENT) sum += exponent - ZERO_EXPONENT + 1;
  }
  return sum;
}

const SAMPLE = 31;
const sample = new Float64Array(SAMPLE);

/** Finds about the middle of values[from..to): the median of a sample. Whole, as the values are. */
export function middle(values: Float64Array, from: number, to: number): number {
  const count = Math.min(SAMPLE, to - from);
  const step = (to - from) / count;
  for (let i = 0; i < count; i++) {
    const value = values[from + Math.floor(i * step)];
    let at = i;
    for (; at > 0 && sample[at - 1] > value; at--) sample[at] = sample[at - 1];
    sample[at] = value;
  }
  return sample[count >> 1];
}

/** Leading bits after the first that a class keeps, at most. */
export const CLASS_BITS_MAX = 2;
const FINEST = 1 << CLASS_BITS_MAX;

/** Finds the class of `value` (0 to 2^53) that keeps `keep` bits after the first. */
export function classOf(value: number, keep: number): number {
  if (value < 1 << keep) return value;
  const below = bitLength(value) - 1 - keep;
  return (below << keep) + (below < 31 && value < 0x80000000 ? value >>> below : Math.floor(value / TWO_TO[below]));
}

/** Bits of a value below what its class says. */
export const bitsBelow = (symbol: number, keep: number) => (symbol < 2 << keep ? 0 : (symbol >> keep) - 1);

/** The smallest value of a class. */
export const classStart = (symbol: number, keep: number) => {
  const below = bitsBelow(symbol, keep);
  return (symbol - (below << keep)) * TWO_TO[below];
};

/** More bits than any number has: of a class that no writer writes. */
export const NO_BITS = 255;

/** Per kept bits and class: the bits below (NO_BITS of a class beyond all numbers), and the smallest value. */
export const classTables = Array.from({ length: CLASS_BITS_MAX + 1 }, (_, keep) => ({
  below: Uint8Array.from({ length: SYMBOLS_MAX }, (_empty, s) =>
    bitsBelow(s, keep) > 53 ? NO_BITS : bitsBelow(s, keep),
  ),
  start: Float64Array.from({ length: SYMBOLS_MAX }, (_empty, s) => (bitsBelow(s, keep) > 53 ? 0 : classStart(s, keep))),
}));

// A coarser class of a finer: index [keep][class that keeps one more bit].
const coarser = [0, 1].map((keep) =>
  Uint8Array.from({ length: SYMBOLS_MAX }, (_, fine) =>
    bitsBelow(fine, keep + 1) > 52 ? 0 : classOf(classStart(fine, keep + 1), keep),
  ),
);

// The same from the finest, however many bits are kept.
const fromFinest = [0, 1, 2].map((keep) =>
  Uint8Array.from({ length: SYMBOLS_MAX }, (_, fine) =>
    bitsBelow(fine, CLASS_BITS_MAX) > 52 ? 0 : classOf(classStart(fine, CLASS_BITS_MAX), keep),
  ),
);
/** The finest classes of the residuals last weighed. */
const finestOf = new Uint16Array(STREAM_MAX);

/** Fills in the classes of the residuals last weighed, with `keep` bits kept. */
export function classesOf(symbols: Uint16Array, count: number, keep: number): void {
  const map = fromFinest[keep];
  for (let i = 0; i < count; i++) symbols[i] = map[finestOf[i]];
}

/** Counts of the symbols of the coding last weighed, per kept bits. */
export const classCounts = [
  new Int32Array(SYMBOLS_MAX),
  new Int32Array(SYMBOLS_MAX),
  new Int32Array(SYMBOLS_MAX),
] as const;

/** Tells the cheapest way to code residuals (0 to 2^53) as classes. `classCounts[keep]` and `symbols` stay for the writer. */
export function weighClasses(
  residuals: Float64Array,
  count: number,
): { keep: number; bits: number; symbols: number; width: number } {
  for (const counts of classCounts) counts.fill(0);
  const finest = classCounts[CLASS_BITS_MAX];
  let max = 0;
  for (let i = 0; i < count; i++) {
    const value = residuals[i];
    if (value > max) max = value;
    const symbol = value < FINEST ? value : classOf(value, CLASS_BITS_MAX);
    finestOf[i] = symbol;
    finest[symbol] = finest[symbol] + 1;
  }
  let best = { keep: 0, bits: Infinity, symbols: 0, width: bitLength(max) };
  for (let keep = CLASS_BITS_MAX; keep >= 0; keep--) {
    const counts = classCounts[keep] as Int32Array;
    const symbols = classOf(max, keep) + 1;
    if (keep < CLASS_BITS_MAX) {
      const finer = classCounts[keep + 1] as Int32Array;
      const map = coarser[keep] as Uint8Array;
      const finerSymbols = classOf(max, keep + 1) + 1;
      for (let s = 0; s < finerSymbols; s++) counts[map[s]] = counts[map[s]] + finer[s];
    }
    let bits = ransCost(counts, symbols, count);
    for (let s = 2 << keep; s < symbols; s++) bits += counts[s] * bitsBelow(s, keep);
    if (bits < best.bits) best = { keep, bits, symbols, width: best.width };
  }
  return best;
}
