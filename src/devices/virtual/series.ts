/** What virtual devices say: random values of a type within limits, and recorded series played again. */
import { readFileSync } from "node:fs";
import { fail } from "../../kernel/error.ts";
import type { DeviceResource } from "../../kernel/edgex.ts";
import type { Value } from "../../kernel/events/model.ts";
import { DEVICE_FAILED } from "../sdk/api.ts";

/** A small generator with a seed (mulberry32), so that a run can be repeated. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const INTEGER_RANGE: Record<string, [number, number]> = {
  Int8: [-128, 127],
  Int16: [-32_768, 32_767],
  Int32: [-2_147_483_648, 2_147_483_647],
  Int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  Uint8: [0, 255],
  Uint16: [0, 65_535],
  Uint32: [0, 4_294_967_295],
  Uint64: [0, Number.MAX_SAFE_INTEGER],
};

/** Draws a value of the resource's type, within its minimum and maximum. DEVICE_FAILED for types that cannot be drawn. */
export function draw(resource: DeviceResource, random: () => number): Value {
  const { valueType, minimum, maximum } = resource.properties;
  const range = INTEGER_RANGE[valueType];
  if (range) {
    const [low, high] = [Math.ceil(minimum ?? range[0]), Math.floor(maximum ?? range[1])];
    return Math.min(high, low + Math.floor(random() * (high - low + 1)));
  }
  switch (valueType) {
    case "Bool":
      return random() < 0.5;
    case "Float32":
      return Math.fround(between(minimum ?? -1_000, maximum ?? 1_000, random, 2));
    case "Float64":
      return between(minimum ?? -1_000, maximum ?? 1_000, random, 4);
    case "String":
      return `value-${Math.floor(random() * 1_000)}`;
    case "Binary":
      return Uint8Array.from({ length: 16 }, () => Math.floor(random() * 256));
    case "Object":
      return { level: Math.floor(random() * 100), open: random() < 0.5 };
    default:
      throw fail(DEVICE_FAILED, `a random ${valueType} cannot be drawn`);
  }
}

/** Rounded to so many digits, and within the limits nevertheless. */
const between = (low: number, high: number, random: () => number, digits: number): number =>
  Math.min(high, Math.max(low, Number((low + random() * (high - low)).toFixed(digits))));

/** Rows a recorded series holds at the most. */
const SERIES_ROWS_MAX = 10_000_000;

/** Reads the values of a CSV of `timestamp,value` (a header line is left out). DEVICE_FAILED names the line that is neither. */
export function readSeries(path: string): Float64Array {
  const lines = readFileSync(path, "utf8").split("\n");
  const values: number[] = [];
  lines.forEach((line, i) => {
    if (line.trim() === "") return;
    const text = line.split(",")[1]?.trim() ?? "";
    // An empty text would read as 0.
    const value = text === "" ? Number.NaN : Number(text);
    if (i === 0 && text !== "" && Number.isNaN(value)) return;
    if (!Number.isFinite(value))
      throw fail(DEVICE_FAILED, `${path}, line ${i + 1}: '${line.slice(0, 60)}' is not timestamp,value`);
    if (values.length >= SERIES_ROWS_MAX) throw fail(DEVICE_FAILED, `${path} has over ${SERIES_ROWS_MAX} rows`);
    values.push(value);
  });
  if (values.length === 0) throw fail(DEVICE_FAILED, `${path} holds no values`);
  return Float64Array.from(values);
}
