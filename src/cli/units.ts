/** Numbers as people say them: sizes, durations, times, counts. */

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** 1234567 is "1.2 MB" (powers of 1000, as on the label of a disk). */
export function size(bytes: number): string {
  let unit = 0;
  let value = bytes;
  for (; value >= 999.5 && unit < BYTE_UNITS.length - 1; unit++) value /= 1000;
  return `${unit === 0 || value >= 9.95 ? Math.round(value) : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** 0.42 is "420 us", 61000 is "1 min 1 s": two steps at the most. */
export function duration(ms: number): string {
  if (ms === 0) return "0";
  if (ms < 0.9995) return `${Math.round(ms * 1000)} us`;
  if (ms < 99.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < MINUTE - 50) return `${(ms / SECOND).toFixed(ms < 9_950 ? 1 : 0)} s`;
  if (ms < HOUR) return steps(ms, MINUTE, "min", SECOND, "s");
  if (ms < DAY) return steps(ms, HOUR, "h", MINUTE, "min");
  return steps(ms, DAY, "d", HOUR, "h");
}

function steps(ms: number, big: number, bigName: string, small: number, smallName: string): string {
  const smalls = Math.round(ms / small);
  const rest = smalls % (big / small);
  return `${Math.floor(smalls / (big / small))} ${bigName}${rest === 0 ? "" : ` ${rest} ${smallName}`}`;
}

/** How long ago, in one step: "now" within a second, "5 min ago", "in 3 s" for a clock that is ahead. */
export function ago(ms: number): string {
  const away = Math.abs(ms);
  if (away < SECOND) return "now";
  const [unit, name] =
    away < MINUTE ? [SECOND, "s"] : away < HOUR ? [MINUTE, "min"] : away < DAY ? [HOUR, "h"] : [DAY, "d"];
  const whole = `${Math.floor(away / unit)} ${name}`;
  return ms < 0 ? `in ${whole}` : `${whole} ago`;
}

/** 12345 is "12,345". */
export const number = (value: number | bigint): string => value.toLocaleString("en-US");

/** "1 reading", "12,345 readings". */
export const count = (value: number, one: string, many = `${one}s`): string =>
  `${number(value)} ${value === 1 ? one : many}`;

/** The local time of day with milliseconds; with its date where that is not today's. */
export function clockTime(ms: number, nowMs: number): string {
  const time = `${two(new Date(ms).getHours())}:${two(new Date(ms).getMinutes())}:${two(new Date(ms).getSeconds())}.${String(Math.floor(ms % 1000)).padStart(3, "0")}`;
  return sameDay(ms, nowMs) ? time : `${date(ms)} ${time}`;
}

/** The local date and time to the second. */
export const moment = (ms: number): string => `${date(ms)} ${clockTime(ms, ms).slice(0, 8)}`;

const two = (value: number): string => String(value).padStart(2, "0");
const date = (ms: number): string =>
  `${new Date(ms).getFullYear()}-${two(new Date(ms).getMonth() + 1)}-${two(new Date(ms).getDate())}`;
const sameDay = (a: number, b: number): boolean => date(a) === date(b);

/** Milliseconds of nanoseconds since 1970. */
export const msOf = (ns: bigint | number): number => Number(BigInt(ns) / 1000n) / 1000;
