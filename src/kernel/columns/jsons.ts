/** Runs of JSON values (objects and arrays), as their texts. */
import { INFLATED_BYTES_MAX, malformed } from "./bytes.ts";
import type { Reader } from "./reader.ts";
import type { Writer } from "./writer.ts";
import { readTexts, writeTexts } from "./texts.ts";
import { JSON_DEPTH_CEILING, parseJson, stringifyJson } from "../json.ts";
import type { Value } from "../events/model.ts";

// What was written is read again: only a hostile text meets these.
const LIMITS = { bytesMax: INFLATED_BYTES_MAX, depthMax: JSON_DEPTH_CEILING };

/** Writes values that JSON has; bigint, -0 and large doubles as such. */
export const writeJsons = (w: Writer, values: readonly unknown[]): void => writeTexts(w, values.map(exactText));

/** Reads `count` JSON values. Fails EVENTS_MALFORMED. */
export function readJsons(r: Reader, count: number): Value[] {
  return readTexts(r, count).map((text) => {
    try {
      return parseJson(text, LIMITS) as Value;
    } catch (cause) {
      throw malformed(`a part that is no JSON (${(cause as Error).message})`);
    }
  });
}

// JSON can tell -0 from 0 and a double from a whole number (1e+20), and parseJson does; JSON.stringify writes both alike.
function exactText(value: unknown): string {
  return isOdd(value) ? writeExact(value) : stringifyJson(value);
}

const isOddNumber = (value: number) =>
  Object.is(value, -0) || (Math.abs(value) > Number.MAX_SAFE_INTEGER && value - value === 0);

function isOdd(value: unknown): boolean {
  if (typeof value === "number") return isOddNumber(value);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return false;
  if (Array.isArray(value)) return value.some(isOdd);
  for (const name in value) if (isOdd((value as Record<string, unknown>)[name])) return true;
  return false;
}

function writeExact(value: unknown): string {
  if (!isOdd(value)) return stringifyJson(value);
  if (typeof value === "number") return value === 0 ? "-0" : value.toExponential();
  if (Array.isArray(value)) return `[${value.map(writeExact).join(",")}]`;
  const members = Object.entries(value as object).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${stringifyJson(name)}:${writeExact(member)}`).join(",")}}`;
}
