/** Runs of JSON values (objects and arrays), as their texts. */
import { INFLATED_BYTES_MAX, malformed, type Reader, type Writer } from "./bytes.ts";
import { readTexts, writeTexts } from "./texts.ts";
import { JSON_DEPTH_CEILING, parseJson, stringifyJson } from "../json.ts";
import type { Value } from "../events/model.ts";

// What was written is read again: only a hostile text meets these.
const LIMITS = { bytesMax: INFLATED_BYTES_MAX, depthMax: JSON_DEPTH_CEILING };

/** Writes values that JSON has; bigint exactly, -0 as such. */
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

// JSON has a -0, and JSON.parse reads it; only JSON.stringify writes 0 for it.
function exactText(value: unknown): string {
  return holdsMinusZero(value) ? writeExact(value) : stringifyJson(value);
}

function holdsMinusZero(value: unknown): boolean {
  if (typeof value === "number") return Object.is(value, -0);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return false;
  for (const member of Object.values(value)) if (holdsMinusZero(member)) return true;
  return false;
}

function writeExact(value: unknown): string {
  if (!holdsMinusZero(value)) return stringifyJson(value);
  if (typeof value === "number") return "-0";
  if (Array.isArray(value)) return `[${value.map(writeExact).join(",")}]`;
  const members = Object.entries(value as object).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${stringifyJson(name)}:${writeExact(member)}`).join(",")}}`;
}
