/**
 * Percentiles of durations without the durations: counts by size, in classes that are 1/128 of their octave wide. What is
 * told is the middle of a class, at most 0.4 % off; up to 256 it is exact. Sketches of minutes add up to that of a day.
 */

/** Up to here every number has a class of its own. */
const EXACT_MAX = 256;
const STEP_BITS = 7;
const STEPS = 1 << STEP_BITS;
const EXACT_BITS = 8;

/** Finds the class of a number from 0 to 2^53. */
export function classOf(value: number): number {
  if (value < EXACT_MAX) return value;
  const octave = Math.floor(Math.log2(value));
  // log2 of a number just below a power of two rounds up to it.
  const exact = 2 ** octave > value ? octave - 1 : octave;
  const step = Math.floor(value / 2 ** (exact - STEP_BITS)) - STEPS;
  return EXACT_MAX + (exact - EXACT_BITS) * STEPS + step;
}

/** Finds the middle of a class: what stands for all numbers in it. */
export function middleOf(at: number): number {
  if (at < EXACT_MAX) return at;
  const octave = Math.floor((at - EXACT_MAX) / STEPS) + EXACT_BITS;
  const width = 2 ** (octave - STEP_BITS);
  return (STEPS + ((at - EXACT_MAX) % STEPS)) * width + (width - 1) / 2;
}

/** Largest duration that is told apart: 2^53 microseconds are 285 years. */
const VALUE_MAX = Number.MAX_SAFE_INTEGER;

export class Sketch {
  /** How many there were, by class. */
  readonly classes = new Map<number, number>();
  count = 0;
  max = 0;

  /** Counts a whole number from 0 on; a larger one than can be told apart as the largest. */
  add(value: number): void {
    const within = Math.min(Math.max(0, value), VALUE_MAX);
    this.put(classOf(Math.round(within)), 1);
    if (within > this.max) this.max = within;
  }

  put(at: number, count: number): void {
    this.classes.set(at, (this.classes.get(at) ?? 0) + count);
    this.count += count;
  }

  merge(other: Sketch): void {
    for (const [at, count] of other.classes) this.put(at, count);
    if (other.max > this.max) this.max = other.max;
  }

  /** Finds percentiles (each from 0 to 1) by nearest rank: the least that at least so many do not exceed. 0 of nothing. */
  quantiles(asked: readonly number[]): number[] {
    const sorted = [...this.classes].sort(([a], [b]) => a - b);
    return asked.map((q) => {
      let left = Math.max(1, Math.ceil(q * this.count));
      for (const [at, count] of sorted) {
        left -= count;
        if (left <= 0) return Math.min(middleOf(at), this.max);
      }
      return 0;
    });
  }
}
