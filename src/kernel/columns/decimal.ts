/**
 * Doubles as decimals: most were measured, or printed, with few digits, and are a whole number over a power of ten. Many
 * of the rest are one, a few units in the last place away: sums and means of such (31.563000000000002).
 */
import { INTEGER_MAX } from "./integers.ts";

/** Digits after the point, at most: 10^22 is the last power of ten that a double holds exactly. */
export const SCALE_MAX = 22;
export const POWER = Float64Array.from({ length: SCALE_MAX + 1 }, (_, n) => Number(`1e${n}`));

/** Units in the last place that a value may lie beside its decimal. */
export const NUDGE_MAX = 32;

const pair = new Float64Array(2);
const halves = new Int32Array(pair.buffer);
const LOW = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 0 : 1;
const HIGH = 1 - LOW;
const TWO_32 = 2 ** 32;

/** Counts the doubles from `decimal` to `value`, away from zero positive; NaN when there are more than NUDGE_MAX. */
export function nudgeOf(value: number, decimal: number): number {
  pair[0] = value;
  pair[1] = decimal;
  const nudge = (halves[HIGH] - halves[2 + HIGH]) * TWO_32 + (halves[LOW] >>> 0) - (halves[2 + LOW] >>> 0);
  return nudge >= -NUDGE_MAX && nudge <= NUDGE_MAX ? nudge : NaN;
}

/** Moves a decimal by so many doubles. */
export function nudged(decimal: number, nudge: number): number {
  pair[0] = decimal;
  const low = (halves[LOW] >>> 0) + nudge;
  const carry = Math.floor(low / TWO_32);
  halves[LOW] = low - carry * TWO_32;
  halves[HIGH] = halves[HIGH] + carry;
  return pair[0];
}

/** Finds the digits after the point that `value` needs, from `from` on; -1 when it is no decimal of a fitting size. */
export function scaleOf(value: number, from = 0): number {
  for (let scale = from; scale <= SCALE_MAX; scale++) {
    const power = POWER[scale];
    const whole = Math.round(value * power);
    if (!(whole <= INTEGER_MAX && whole >= -INTEGER_MAX)) return -1;
    if (whole / power === value) return scale;
  }
  return -1;
}

const SAMPLE = 48;
// What a number costs, in bits, when it is whole at the scale but for a nudge, and when it is not.
const BITS_PER_DIGIT = Math.log2(10);
const BITS_NUDGED = 3;
const BITS_RAW = 70;

/** Chooses the digits after the point at which the numbers among `values` cost least, by a sample. */
export function chooseScale(values: readonly unknown[]): number {
  const count = values.length;
  if (count === 1) return typeof values[0] === "number" ? Math.max(0, scaleOf(values[0])) : 0;
  const step = Math.max(1, count / SAMPLE);
  const sample: number[] = [];
  const needs: number[] = [];
  let tried = 0;
  for (let at = 0; at < count; at += step) {
    const value = values[Math.floor(at)];
    if (typeof value !== "number" || value - value !== 0) continue;
    const need = scaleOf(value);
    sample.push(value);
    needs.push(need);
    tried |= 1 << (need + 1);
  }
  let best = 0;
  let bestCost = Infinity;
  for (let scale = 0; scale <= SCALE_MAX; scale++) {
    if (!(tried & (1 << (scale + 1)))) continue;
    const power = POWER[scale];
    let cost = sample.length * scale * BITS_PER_DIGIT;
    for (let i = 0; i < sample.length; i++) {
      const need = needs[i];
      if (need >= 0 && need <= scale) continue;
      const value = sample[i];
      const whole = Math.round(value * power);
      cost +=
        Math.abs(whole) <= INTEGER_MAX && nudgeOf(value, whole / power) === nudgeOf(value, whole / power)
          ? BITS_NUDGED
          : BITS_RAW;
    }
    if (cost < bestCost) {
      bestCost = cost;
      best = scale;
    }
  }
  return best;
}

/** Prints a whole number over 10^scale with all `scale` digits after the point (scale > 0). */
export function fixedText(whole: number, scale: number): string {
  const digits = String(Math.abs(whole)).padStart(scale + 1, "0");
  const cut = digits.length - scale;
  return `${whole < 0 ? "-" : ""}${digits.slice(0, cut)}.${digits.slice(cut)}`;
}

/** Counts the digits after the point of a plain decimal text; -1 when it is not one. */
export function digitsAfterPoint(text: string): number {
  const length = text.length;
  let at = text.charCodeAt(0) === 0x2d ? 1 : 0;
  if (at === length || length > 24) return -1;
  let point = -1;
  for (; at < length; at++) {
    const char = text.charCodeAt(at);
    if (char === 0x2e && point < 0) point = at;
    else if (char < 0x30 || char > 0x39) return -1;
  }
  return point < 0 ? 0 : length - point - 1;
}
