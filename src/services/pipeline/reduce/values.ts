/** Values as the functions see them: numbers where they are, and whether two are the same. */
import { createHash } from "node:crypto";
import { encodeColumn } from "../../../kernel/columns/column.ts";
import type { Resource, Value, ValueType } from "../../../kernel/events/model.ts";

const NUMERIC: ReadonlySet<ValueType> = new Set<ValueType>([
  "Uint8",
  "Uint16",
  "Uint32",
  "Uint64",
  "Int8",
  "Int16",
  "Int32",
  "Int64",
  "Float32",
  "Float64",
]);
/** Characters of a text that is remembered as it is; of a longer one, and of what is no simple value, the hash is. */
const TEXT_KEPT_MAX = 64;

export const isNumeric = ({ valueType }: Resource): boolean => NUMERIC.has(valueType);

/**
 * Tells the number that a value of a numeric resource is; NaN for what is none, and for what is not finite. A whole number
 * beyond 2^53 loses its last bits, at most one part in 2^53.
 */
export function numberOf(value: Value): number {
  if (typeof value === "number") return value - value === 0 ? value : NaN;
  if (typeof value === "bigint") return Number(value);
  // A text that is not the canonical one: "12.50", "1e3".
  if (typeof value !== "string" || value.trim() === "") return NaN;
  const number = Number(value);
  return number - number === 0 ? number : NaN;
}

/** What is remembered of a value to compare it with later ones: plain, and short. */
export type Mark = number | string | boolean | null;

/** Makes the mark of a value: equal for the same values, else different. A numeric one marks the number that a text says. */
export function markOf(value: Exclude<Value, undefined>, isNumber: boolean): Mark {
  if (value === null || typeof value === "boolean") return value;
  // Whole numbers of either kind are one; -0 is 0.
  if (typeof value === "number") return value === 0 ? 0 : value;
  if (typeof value === "bigint") {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : `n${value}`;
  }
  if (isNumber && typeof value === "string") {
    const number = numberOf(value);
    if (number === number) return number;
  }
  if (typeof value === "string" && value.length <= TEXT_KEPT_MAX && value.isWellFormed()) return `t${value}`;
  return `h${createHash("sha256")
    .update(encodeColumn([value]))
    .digest("base64")}`;
}

/** Tells how much more a value is than a marked one, exactly for whole numbers of any size; NaN when one is no number. */
export function differenceOf(value: Value, mark: Mark): number {
  if (typeof value !== "bigint" && typeof mark === "number") return numberOf(value) - mark;
  const other = typeof mark === "string" && mark.startsWith("n") ? BigInt(mark.slice(1)) : wholeOf(mark);
  const one = wholeOf(value);
  if (one !== undefined && other !== undefined) return Number(one - other);
  return numberOf(value) - (other === undefined ? numberOf(mark) : Number(other));
}

function wholeOf(value: Value): bigint | undefined {
  if (typeof value === "bigint") return value;
  return typeof value === "number" && Number.isInteger(value) ? BigInt(value) : undefined;
}

/** Tells by which resources a function is meant to act: those named, or all for `*`. */
export function actsOn(names: readonly string[]): (resource: Resource) => boolean {
  const set = new Set(names);
  const all = set.has("*");
  // A resource without a name is one that a filter has hidden.
  return ({ name }) => name !== "" && (all || set.has(name));
}
