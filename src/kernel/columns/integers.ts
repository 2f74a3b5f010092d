/**
 * Runs of whole numbers within 2^50 of 0, packed: the common factor is taken out, then each segment is predicted (by its
 * middle, by the number before, by the line through the two before) and what is left is coded in the way that
 * measures smallest: as bits of one width, as classes, or as letters of a small alphabet, foretold or not.
 */
import { malformed } from "./bytes.ts";
import type { Reader } from "./reader.ts";
import type { Writer } from "./writer.ts";
import { ALPHABET_MAX, alphabetOf, foretell, newAlphabet, readAlphabet, untell, writeAlphabet } from "./letters.ts";
import { readRans, ransCost, STREAM_MAX, writeRans } from "./rans.ts";
import { bitLength, classCounts, classesOf, classTables, middle, NO_BITS, spread, weighClasses } from "./residuals.ts";

/** Largest magnitude of a number to pack: what is derived from it stays exact in a double. */
export const INTEGER_MAX = 2 ** 50;

/** Numbers predicted and coded together; a signal that changes its nature is met anew by each segment. */
const SEGMENT = STREAM_MAX;
/** Below this many numbers a table costs more than it saves. */
const ENTROPY_MIN = 16;
/** An alphabet is looked for when at most one letter in so many numbers is new. */
const NUMBERS_PER_LETTER = 3;

const PLAIN = 0;
const DELTA = 1;
const LINE = 2;
// What follows the header's two bits of prediction.
const CONSTANT = 0;
const PACKED = 1;
const CLASSES = 2; // to 4: keeping 0 to 2 bits
const LETTERS = 5;
const FORETOLD = 6;
const FACTOR = 1 << 5;

const values = new Float64Array(SEGMENT);
const deltas = new Float64Array(SEGMENT);
const residuals = new Float64Array(SEGMENT);
const symbols = new Uint16Array(SEGMENT);
const widths = new Uint8Array(SEGMENT);
const plainAlphabet = newAlphabet();
const deltaAlphabet = newAlphabet();

/** Packs `count` whole numbers, each within INTEGER_MAX of 0. */
export function writeIntegers(w: Writer, numbers: Float64Array, count: number): void {
  if (count === 1) w.signed(numbers[0]);
  else
    for (let from = 0; from < count; from += SEGMENT) writeSegment(w, numbers, from, Math.min(SEGMENT, count - from));
}

function gcd(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}

function writeSegment(w: Writer, numbers: Float64Array, from: number, count: number): void {
  const base = numbers[from];
  let factor = 0;
  for (let i = 0; i < count; i++) {
    const value = numbers[from + i] - base;
    values[i] = value;
    if (factor === 1 || value === 0) continue;
    const quotient = value / factor;
    if (factor === 0 || Math.floor(quotient) !== quotient) factor = gcd(Math.abs(value), factor);
  }
  if (factor === 0) {
    w.byte(CONSTANT);
    w.signed(base);
    return;
  }
  if (factor > 1) for (let i = 0; i < count; i++) values[i] = values[i] / factor;
  deltas[0] = 0;
  for (let i = 1; i < count; i++) deltas[i] = values[i] - values[i - 1];
  const flags = factor > 1 ? FACTOR : 0;
  const head = (prediction: number, coding: number) => {
    w.byte(prediction | (coding << 2) | flags);
    w.signed(base);
    if (factor > 1) w.varint(factor);
  };
  if (count < ENTROPY_MIN || !writeDense(w, count, head)) writePacked(w, count, head);
}

type Head = (prediction: number, coding: number) => void;

const least = (of: Float64Array, from: number, to: number) => {
  let min = of[from];
  for (let i = from + 1; i < to; i++) if (of[i] < min) min = of[i];
  return min;
};
const most = (of: Float64Array, from: number, to: number) => {
  let max = of[from];
  for (let i = from + 1; i < to; i++) if (of[i] > max) max = of[i];
  return max;
};

/** Writes bits of one width above the least: the numbers themselves, or their differences where those are narrower. */
function writePacked(w: Writer, count: number, head: Head): void {
  const min = least(values, 0, count);
  const minDelta = least(deltas, 1, count);
  const width = bitLength(most(values, 0, count) - min);
  const deltaWidth = bitLength(most(deltas, 1, count) - minDelta);
  const byDelta = deltaWidth < width;
  head(byDelta ? DELTA : PLAIN, PACKED);
  w.signed(byDelta ? minDelta : min);
  w.byte(byDelta ? deltaWidth : width);
  if (byDelta) for (let i = 1; i < count; i++) residuals[i - 1] = deltas[i] - minDelta;
  else for (let i = 0; i < count; i++) residuals[i] = values[i] - min;
  widths.fill(byDelta ? deltaWidth : width, 0, count);
  w.bitsFrom(residuals, widths, byDelta ? count - 1 : count);
  w.endBits();
}

/** Writes the segment with the entropy coder, if that is smaller than bits of one width; else writes nothing: false. */
function writeDense(w: Writer, count: number, head: Head): boolean {
  const center = middle(values, 0, count);
  const deltaCenter = middle(deltas, 1, count);
  const plainSpread = spread(values, 0, count, center);
  const deltaSpread = spread(deltas, 1, count, deltaCenter);
  let lineSpread = 0;
  residuals[0] = residuals[1] = 0;
  for (let i = 2; i < count; i++) residuals[i] = deltas[i] - deltas[i - 1];
  lineSpread = spread(residuals, 2, count, 0);
  const smallest = Math.min(plainSpread, deltaSpread, lineSpread);
  const prediction = plainSpread === smallest ? PLAIN : deltaSpread === smallest ? DELTA : LINE;
  fillResiduals(count, prediction, prediction === PLAIN ? center : deltaCenter);
  const classes = weighClasses(residuals, count - prediction);
  const packed = (count - prediction) * classes.width + 24;
  const letters = weighLetters(count);
  if (Math.min(classes.bits, letters.bits) >= packed) return false;
  if (letters.bits < classes.bits) {
    head(letters.prediction, letters.coding);
    writeLetters(w, count, letters);
    return true;
  }
  head(prediction, CLASSES + classes.keep);
  w.signed(prediction === PLAIN ? center : prediction === DELTA ? deltaCenter : deltas[1]);
  writeClasses(w, count - prediction, classes.keep, classes.symbols);
  return true;
}

/** Fills `residuals`, from 0, with what the prediction leaves, small numbers of either sign made small. */
function fillResiduals(count: number, prediction: number, center: number): void {
  for (let i = prediction; i < count; i++) {
    const left = prediction === LINE ? residuals[i] : (prediction === PLAIN ? values : deltas)[i] - center;
    residuals[i - prediction] = left < 0 ? -2 * left - 1 : 2 * left;
  }
}

function writeClasses(w: Writer, count: number, keep: number, alphabet: number): void {
  const { below, start } = classTables[keep];
  classesOf(symbols, count, keep);
  writeRans(w, symbols, count, classCounts[keep], alphabet);
  for (let i = 0; i < count; i++) {
    const symbol = symbols[i];
    widths[i] = below[symbol];
    residuals[i] = residuals[i] - start[symbol];
  }
  w.bitsFrom(residuals, widths, count);
  w.endBits();
}

interface LettersPlan {
  readonly bits: number;
  readonly prediction: number;
  readonly coding: number;
}
const NO_LETTERS: LettersPlan = { bits: Infinity, prediction: PLAIN, coding: LETTERS };

/** Weighs coding the numbers, or their differences, as letters of their alphabet. */
function weighLetters(count: number): LettersPlan {
  const limit = Math.min(ALPHABET_MAX, Math.floor(count / NUMBERS_PER_LETTER));
  let plan = NO_LETTERS;
  for (const prediction of [PLAIN, DELTA]) {
    const alphabet = prediction === PLAIN ? plainAlphabet : deltaAlphabet;
    if (!alphabetOf(prediction === PLAIN ? values : deltas, prediction, count, limit, alphabet)) continue;
    const n = count - prediction;
    const { size } = alphabet;
    const range = alphabet.values[size - 1] - alphabet.values[0];
    const table = 40 + size * (bitLength(Math.round(range / size)) + 6);
    const bits = table + ransCost(alphabet.counts, size, n);
    if (bits < plan.bits) plan = { bits, prediction, coding: LETTERS };
    foretell(alphabet, n);
    const foretoldBits = table + ransCost(alphabet.toldCounts, size + 1, n);
    if (foretoldBits < plan.bits) plan = { bits: foretoldBits, prediction, coding: FORETOLD };
  }
  return plan;
}

function writeLetters(w: Writer, count: number, { prediction, coding }: LettersPlan): void {
  const {
    values: letters,
    size,
    indexes,
    counts,
    told,
    toldCounts,
  } = prediction === PLAIN ? plainAlphabet : deltaAlphabet;
  w.varint(size);
  writeAlphabet(w, letters, size);
  if (coding === FORETOLD) writeRans(w, told, count - prediction, toldCounts, size + 1);
  else writeRans(w, indexes, count - prediction, counts, size);
}

/** Unpacks `count` whole numbers into `into`. Fails EVENTS_MALFORMED. */
export function readIntegers(r: Reader, into: Float64Array, count: number): void {
  if (count === 1) into[0] = r.signed();
  else
    for (let from = 0; from < count; from += SEGMENT)
      readSegment(r, into.subarray(from, Math.min(from + SEGMENT, count)));
}

function readSegment(r: Reader, into: Float64Array): void {
  const count = into.length;
  const head = r.byte();
  const prediction = head & 3;
  const coding = (head >> 2) & 7;
  if (prediction > LINE || coding > FORETOLD || head > 63)
    throw malformed(`an unknown packing ${head} at byte ${r.at - 1}`);
  const base = r.signed();
  const factor = head & FACTOR ? r.varint() : 1;
  if (coding === CONSTANT) {
    into.fill(base);
    return;
  }
  if (coding === LETTERS || coding === FORETOLD) readLetters(r, into, prediction, coding);
  else {
    const first = r.signed();
    if (coding === PACKED) readPacked(r, into, prediction);
    else readClasses(r, into, prediction, coding - CLASSES);
    restore(into, prediction, first, coding === PACKED);
  }
  if (prediction === PLAIN) for (let i = 0; i < count; i++) into[i] = base + into[i] * factor;
  else {
    // The slots before the first residual stand for what the base says: differences sum up from it.
    let last = 0;
    for (let i = 0; i < count; i++) {
      last += into[i];
      into[i] = base + last * factor;
    }
  }
}

/** Turns residuals, which start at `prediction`, into numbers or differences. */
function restore(into: Float64Array, prediction: number, first: number, above: boolean): void {
  const count = into.length;
  if (above) {
    for (let i = prediction; i < count; i++) into[i] = into[i] + first;
    return;
  }
  for (let i = prediction; i < count; i++) {
    const z = into[i];
    const half = Math.floor(z / 2);
    into[i] = half + half === z ? half : -half - 1;
  }
  if (prediction === LINE) {
    let slope = (into[1] = first);
    for (let i = 2; i < count; i++) into[i] = slope += into[i];
  } else for (let i = prediction; i < count; i++) into[i] = into[i] + first;
}

function readPacked(r: Reader, into: Float64Array, prediction: number): void {
  const width = r.byte();
  if (width > 53) throw malformed("numbers of more than 53 bits");
  const from = prediction === PLAIN ? 0 : 1;
  into[0] = 0;
  widths.fill(width, 0, into.length);
  r.bitsInto(into, from, widths, into.length - from);
  r.endBits();
}

function readClasses(r: Reader, into: Float64Array, prediction: number, keep: number): void {
  into[0] = 0;
  const count = into.length - prediction;
  const { below, start } = classTables[keep];
  readRans(r, symbols, count);
  for (let i = 0; i < count; i++) {
    const width = below[symbols[i]];
    if (width === NO_BITS) throw malformed("numbers of more than 53 bits");
    widths[i] = width;
  }
  r.bitsInto(into, prediction, widths, count);
  for (let i = 0; i < count; i++) into[prediction + i] += start[symbols[i]];
  r.endBits();
}

function readLetters(r: Reader, into: Float64Array, prediction: number, coding: number): void {
  if (prediction === LINE) throw malformed("letters of a line");
  const size = r.count(ALPHABET_MAX, "letters in an alphabet");
  const letters = readAlphabet(r, size);
  const count = into.length - prediction;
  readRans(r, symbols, count);
  if (coding === FORETOLD) untell(symbols, count);
  into[0] = 0;
  for (let i = 0; i < count; i++) {
    const index = symbols[i];
    if (index >= size) throw malformed("a letter that its alphabet has not");
    into[i + prediction] = letters[index];
  }
}
