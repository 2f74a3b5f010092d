/** Which kind every value of a column is: the first of the two passes that encoding a column takes. */
import { chooseScale, digitsAfterPoint, fixedText, nudgeOf, POWER, SCALE_MAX } from "./decimal.ts";
import { INTEGER_MAX } from "./integers.ts";
import type { Value } from "../events/model.ts";

// The first four are numbers in the decimal stream, and how they are written when they are texts.
export const NUMBER = 0;
export const TEXT_SHORTEST = 1; // as String() prints the number
export const TEXT_FIXED = 2; // with all digits of the column's scale: 12.50
export const TEXT_POINTED = 3; // as String(), and .0 after a whole number, as Python does
export const ABSENT = 4;
export const NULL = 5;
export const DOUBLE = 6; // NaN, infinities, -0 and what is no short decimal
export const INT64 = 7;
export const BIGINT = 8; // beyond an int64, as text
export const TEXT = 9;
export const FALSE = 10;
export const TRUE = 11;
export const BLOB = 12;
export const JSON_VALUE = 13;
export const LARGE = 14; // whole, too large for the decimal stream, but a safe integer
export const KINDS = 15;

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
export const scratch = new Scratch();

/** How the decimal stream of a column is made. */
export interface Decimals {
  scale: number;
  textKind: number;
  count: number;
  nudged: boolean;
}

/** Gives every value its kind, and fills the decimal stream. */
export function sortValues(values: readonly Value[]): Decimals {
  const { kinds, numbers, nudges, counts } = scratch;
  const decimals = planDecimals(values);
  const power = POWER[decimals.scale];
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
      } else if (Number.isSafeInteger(value) && value !== 0) kind = LARGE;
    } else if (typeof value === "string") {
      kind = decimals.textKind === TEXT ? TEXT : textKind(value, decimals, at);
      if (kind !== TEXT) at++;
    } else kind = otherKind(value);
    kinds[i] = kind;
    counts[kind] = counts[kind] + 1;
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
  const power = POWER[scale];
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
  const kind =
    shortest === text
      ? decimals.textKind === TEXT_POINTED && Number.isInteger(value)
        ? TEXT_SHORTEST
        : decimals.textKind
      : TEXT_POINTED;
  if (kind === TEXT_POINTED && pointed(value) !== text) return TEXT;
  scratch.numbers[at] = whole;
  scratch.nudges[at] = nudge;
  decimals.nudged ||= nudge !== 0;
  return kind;
}

/** Prints a number as Python does: whole ones with .0. */
export const pointed = (value: number) => (Number.isInteger(value) ? `${value}.0` : String(value));

function otherKind(value: Value): number {
  if (value === undefined) return ABSENT;
  if (value === null) return NULL;
  if (typeof value === "boolean") return value ? TRUE : FALSE;
  if (typeof value === "bigint") return BigInt.asIntN(64, value) === value ? INT64 : BIGINT;
  return value instanceof Uint8Array ? BLOB : JSON_VALUE;
}
