/** Durations as EdgeX writes them (Go's time.ParseDuration): `500ms`, `10s`, `1h30m`. */
import { code, fail } from "./error.ts";

export const DURATION_INVALID = code("DURATION_INVALID", "invalid", "Write a duration such as 500ms, 10s or 1h30m.");

const UNIT_MS: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const PART = /(\d+(?:\.\d+)?)(ns|us|\u00b5s|ms|s|m|h)/g;

/** Reads a duration in milliseconds. DURATION_INVALID, also for one that is zero, negative or over 100 years. */
export function parseDurationMs(text: string): number {
  let ms = 0;
  let read = 0;
  for (const [part, number, unit] of text.matchAll(PART)) {
    ms += Number(number) * UNIT_MS[unit];
    read += part.length;
  }
  if (read !== text.length || read === 0 || !(ms > 0) || ms > 100 * 365.25 * 86_400_000)
    throw fail(DURATION_INVALID, `'${text.slice(0, 64)}' is not a duration`);
  return ms;
}
