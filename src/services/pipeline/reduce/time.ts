/** Times and durations in nanoseconds. */
const NS_PER_MS = 1_000_000n;

export const nsOf = (ms: number): bigint => BigInt(Math.round(ms)) * NS_PER_MS;

/** Divides towards the past, also before 1970. */
export function floorDiv(ns: bigint, by: bigint): bigint {
  const quotient = ns / by;
  return quotient * by > ns ? quotient - 1n : quotient;
}

/** The duration as people write it, in the largest unit that is whole: 60000 is "1m". */
export function shortTime(ms: number): string {
  for (const [unit, size] of UNITS) if (ms % size === 0) return `${ms / size}${unit}`;
  return `${ms}ms`;
}
const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
] as const;
