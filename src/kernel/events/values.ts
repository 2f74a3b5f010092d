/** Values and their texts, as EdgeX writes and checks them (core-contracts, NewSimpleReading and ValidateValue). */
import { code, fail } from "../error.ts";
import { parseJson, stringifyJson } from "../json.ts";
import type { Value, ValueType } from "./model.ts";

export const VALUE_INVALID = code(
  "EVENTS_VALUE_INVALID",
  "invalid",
  "Send a value of the resource's value type and within its range.",
);

/** Bits and sign of the integer types. */
const INTEGERS: { readonly [type: string]: { readonly min: bigint; readonly max: bigint } } = {};
for (const bits of [8, 16, 32, 64]) {
  (INTEGERS as Record<string, object>)[`Uint${bits}`] = { min: 0n, max: 2n ** BigInt(bits) - 1n };
  (INTEGERS as Record<string, object>)[`Int${bits}`] = {
    min: -(2n ** BigInt(bits - 1)),
    max: 2n ** BigInt(bits - 1) - 1n,
  };
}
/** The type of an array's items; undefined for what is no array of simple values. */
const itemType = (type: ValueType): ValueType | undefined =>
  type.endsWith("Array") && type !== "ObjectArray" ? (type.slice(0, -"Array".length) as ValueType) : undefined;

// Go, strconv.ParseBool.
const TRUE = new Set(["1", "t", "T", "TRUE", "true", "True"]);
const FALSE = new Set(["0", "f", "F", "FALSE", "false", "False"]);
// Go, strconv.ParseFloat: decimal, hexadecimal, infinities of either sign, NaN without one.
const FLOAT = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const HEX_FLOAT = /^[+-]?0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)p[+-]?\d+$/i;
const FLOAT_WORD = /^([+-]?inf(inity)?|nan)$/i;
/** Levels of nesting of an object value. */
const DEPTH_MAX = 64;
/** A double of at most so many digits comes back from a float of 32 bits. */
const FLOAT32_DIGITS = 6;

const shown = (value: unknown) => {
  const text =
    typeof value === "string"
      ? `'${value}'`
      : typeof value === "object" && value !== null
        ? `a value of ${value.constructor?.name ?? "no class"}`
        : String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
};

const invalid = (value: unknown, type: ValueType, resource: string | undefined, why = "") =>
  fail(
    VALUE_INVALID,
    `${resource === undefined ? "the value" : `resource '${resource}':`} ${shown(value)} is no ${type}${why && `: ${why}`}`,
  );

/** Prints a double as Go's FormatFloat does with 'e' and the shortest digits: 1.25e+01. */
function goFloat(value: number): string {
  if (value - value !== 0) return value !== value ? "NaN" : value > 0 ? "+Inf" : "-Inf";
  if (value === 0) return Object.is(value, -0) ? "-0e+00" : "0e+00";
  return goExponent(value.toExponential());
}

/** Makes an exponent as JavaScript writes it (e+1) one of Go, of two digits at least (e+01). */
function goExponent(text: string): string {
  const { length } = text;
  // Most exponents have one digit: "e+1" ends the text.
  return text.charCodeAt(length - 3) === 0x65 ? `${text.slice(0, length - 1)}0${text[length - 1]}` : text;
}

/** Prints a float of 32 bits with the fewest digits that name it. */
function goFloat32(value: number): string {
  const text = value.toExponential();
  // Few digits, and not so small that a float has fewer of its own: they name the float, too.
  if (text.indexOf("e") <= FLOAT32_DIGITS + 1 && Math.abs(value) > 1.2e-38 && value - value === 0)
    return goExponent(text);
  return goFloat(shortestFloat32(value));
}

/** Finds the double with the fewest decimal digits among those that are the same float of 32 bits as `value`. */
function shortestFloat32(value: number): number {
  const float = Math.fround(value);
  if (float - float !== 0 || float === 0) return float;
  for (let digits = 1; digits < 9; digits++) {
    // Small floats may need fewer than the usual 6 digits; the others none less.
    if (digits < FLOAT32_DIGITS && Math.abs(float) > 1.2e-38) continue;
    const short = Number(float.toPrecision(digits));
    if (Math.fround(short) === float) return short;
  }
  return Number(float.toPrecision(9));
}

/** Prints a value as EdgeX's `value` (Binary: base64; Object: JSON). A text that is not the canonical one is itself. */
export function valueToText(value: Exclude<Value, undefined | null>, type: ValueType): string {
  if (typeof value === "string") return value;
  if (value instanceof Uint8Array)
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64");
  if (typeof value === "number")
    return type === "Float64" ? goFloat(value) : type === "Float32" ? goFloat32(value) : String(value);
  if (typeof value === "boolean" || typeof value === "bigint") return String(value);
  const item = itemType(type);
  if (item === undefined || !Array.isArray(value)) return stringifyJson(value);
  const texts = value.map((one) => valueToText(one as Exclude<Value, undefined | null>, item));
  // Go prints [a b c] and every space in it becomes a comma and a space, those inside of texts too.
  return item === "String" ? `[${texts.join(" ").replaceAll(" ", ", ")}]` : `[${texts.join(", ")}]`;
}

/**
 * Reads EdgeX's `value`: a number where its canonical text is what came, else the text itself, so that what is answered
 * later is what was sent. Fails EVENTS_VALUE_INVALID, naming `resource`, when EdgeX would refuse the text.
 */
export function textToValue(text: string, type: ValueType, resource?: string): Value {
  if (type === "String") return text;
  if (type === "Float64" || type === "Float32") return readFloat(text, type, resource);
  if (type in INTEGERS) return readInteger(text, type, resource);
  if (type === "Bool") {
    if (!TRUE.has(text) && !FALSE.has(text)) throw invalid(text, type, resource);
    return text === "true" ? true : text === "false" ? false : text;
  }
  if (type === "Binary") return bytesOf(text, resource);
  const item = itemType(type);
  if (item !== undefined) return readArray(text, type, item, resource);
  return jsonOf(text, type, resource);
}

function jsonOf(text: string, type: ValueType, resource: string | undefined): Value {
  let value: unknown;
  try {
    value = parseJson(text, { depthMax: DEPTH_MAX });
  } catch (cause) {
    throw invalid(text, type, resource, (cause as Error).message);
  }
  return checkValue(type, value as Value, resource);
}

function readFloat(text: string, type: "Float32" | "Float64", resource: string | undefined): Value {
  const value = Number(text);
  if (value - value === 0 && text.length > 0) {
    if (type === "Float32" && Math.fround(value) - Math.fround(value) !== 0)
      throw invalid(text, type, resource, "beyond its range");
    if ((type === "Float64" ? goFloat(value) : goFloat32(value)) === text) return value;
    if (FLOAT.test(text)) return text;
  }
  if (FLOAT_WORD.test(text)) {
    const word = text === "NaN" ? NaN : text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : undefined;
    return word ?? text;
  }
  if (FLOAT.test(text)) throw invalid(text, type, resource, "beyond its range");
  if (!HEX_FLOAT.test(text)) throw invalid(text, type, resource);
  return text;
}

function readInteger(text: string, type: ValueType, resource: string | undefined): Value {
  const { min, max } = INTEGERS[type] as { min: bigint; max: bigint };
  const value = Number(text);
  if (Number.isSafeInteger(value) && String(value) === text) {
    if (value < min || value > max) throw invalid(text, type, resource, `beyond ${min} to ${max}`);
    return value;
  }
  // Go, strconv.ParseInt takes a sign, strconv.ParseUint none; neither cares for leading zeros.
  if (!(min < 0n ? /^[+-]?\d{1,400}$/ : /^\d{1,400}$/).test(text)) throw invalid(text, type, resource);
  const whole = BigInt(text.startsWith("+") ? text.slice(1) : text);
  if (whole < min || whole > max) throw invalid(text, type, resource, `beyond ${min} to ${max}`);
  return String(whole) === text ? whole : text;
}

/** Reads base64 as Go's encoding/json does: padded, of the standard alphabet. Fails EVENTS_VALUE_INVALID. */
export function bytesOf(text: string, resource?: string): Uint8Array {
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) throw invalid(text, "Binary", resource, "its base64 is malformed");
  return new Uint8Array(bytes);
}

function readArray(text: string, type: ValueType, item: ValueType, resource: string | undefined): Value {
  if (!text.startsWith("[") || !text.endsWith("]") || text.length < 2)
    throw invalid(text, type, resource, "an array is written as [1, 2, 3]");
  const inner = text.slice(1, -1);
  if (inner.trim() === "") return text === "[]" ? [] : text;
  // ", " splits what Go wrote; what it did not write need not be split right, as its text stays.
  const values = inner
    .split(item === "String" ? ", " : ",")
    .map((part) => textToValue(item === "String" ? part : part.trim(), item, resource));
  // JSON, as which arrays are kept, has no NaN; and an item that stayed a text is not canonical.
  const exact = values.every(
    (value) => item === "String" || (typeof value !== "string" && (typeof value !== "number" || value - value === 0)),
  );
  return exact && valueToText(values, type) === text ? values : text;
}

/**
 * Checks a value that our own device services read, and makes it the canonical one: safe integers as number, Float32 with
 * the fewest digits, numeric texts as numbers. `null` and `undefined` pass. Fails EVENTS_VALUE_INVALID (wrong type, out
 * of range, NaN, an infinity, a number beyond 2^53 that should be a bigint), naming `resource`.
 */
export function checkValue(type: ValueType, value: Value, resource?: string): Value {
  if (value === null || value === undefined) return value;
  if (type === "Bool") {
    if (typeof value !== "boolean") throw invalid(value, type, resource);
    return value;
  }
  if (type === "String") {
    if (typeof value !== "string") throw invalid(value, type, resource);
    return value;
  }
  if (type === "Binary") {
    if (!(value instanceof Uint8Array)) throw invalid(value, type, resource, "give its bytes as Uint8Array");
    return value;
  }
  if (type === "Float64" || type === "Float32") return checkFloat(type, value, resource);
  if (type in INTEGERS) return checkInteger(type, value, resource);
  const item = itemType(type);
  if (item !== undefined) {
    if (!Array.isArray(value)) throw invalid(value, type, resource, "give an array");
    return value.map((one) => {
      if (one === null || one === undefined)
        throw invalid(value, type, resource, "an array of simple values has no empty item");
      return checkValue(item, one as Value, resource);
    });
  }
  const isObject = typeof value === "object" && !(value instanceof Uint8Array);
  // EdgeX takes any JSON for objectValue; ours are what the types say.
  if (!isObject || Array.isArray(value) !== (type === "ObjectArray")) throw invalid(value, type, resource);
  checkJson(value, type, resource, 0);
  return value;
}

function checkFloat(type: "Float32" | "Float64", value: Value, resource: string | undefined): Value {
  let number = value;
  if (typeof number === "string" && FLOAT.test(number)) number = Number(number);
  else if (typeof number === "bigint") number = Number(number);
  if (typeof number !== "number") throw invalid(value, type, resource);
  if (number - number !== 0) throw invalid(value, type, resource, "it is not finite");
  if (type === "Float64") return number;
  if (Math.abs(Math.fround(number)) === Infinity) throw invalid(value, type, resource, "beyond its range");
  // As goFloat32 prints it, so that text and number stay the same through all hands.
  return Number(goFloat32(number));
}

function checkInteger(type: ValueType, value: Value, resource: string | undefined): Value {
  const { min, max } = INTEGERS[type] as { min: bigint; max: bigint };
  let whole = value;
  if (typeof whole === "string" && /^[+-]?\d{1,20}$/.test(whole))
    whole = BigInt(whole.startsWith("+") ? whole.slice(1) : whole);
  if (typeof whole === "number") {
    if (!Number.isInteger(whole)) throw invalid(value, type, resource);
    if (!Number.isSafeInteger(whole))
      throw invalid(value, type, resource, "beyond 2^53 a number is not exact: give a bigint");
  } else if (typeof whole !== "bigint") throw invalid(value, type, resource);
  if (whole < min || whole > max) throw invalid(value, type, resource, `beyond ${min} to ${max}`);
  if (typeof whole === "number") return whole === 0 ? 0 : whole;
  return whole >= Number.MIN_SAFE_INTEGER && whole <= Number.MAX_SAFE_INTEGER ? Number(whole) : whole;
}

/** Refuses what JSON cannot hold, and what would not come back from it. */
export function checkJson(value: unknown, type: ValueType, resource: string | undefined, depth: number): void {
  if (depth > DEPTH_MAX) throw invalid(value, type, resource, `it nests deeper than ${DEPTH_MAX} levels`);
  if (value === null || typeof value === "string" || typeof value === "boolean" || typeof value === "bigint") return;
  if (typeof value === "number") {
    if (value - value !== 0) throw invalid(value, type, resource, "a number in it is not finite");
    return;
  }
  if (typeof value !== "object" || value instanceof Uint8Array)
    throw invalid(value, type, resource, `it holds ${shown(value)}, which JSON cannot`);
  for (const member of Object.values(value)) checkJson(member, type, resource, depth + 1);
}
