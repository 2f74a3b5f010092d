/**
 * Quantiles of a stream in bounded memory: exact for few values, then a summary of Greenwald and Khanna (SIGMOD 2001),
 * filled in sorted batches. Deterministic, and for every value that it answers the rank is known.
 */

/** Values up to which quantiles are exact. */
export const EXACT_VALUES_MAX = 512;
/** The rank of an answer is at most this share of the count beside the rank asked for. */
export const RANK_ERROR_MAX = 0.005;

/** What the summary says of a stretch of values. */
interface Summary {
  readonly values: number[];
  /** Values that each stands for: itself and those before it up to the previous one. */
  readonly widths: number[];
  /** How uncertain its rank is. */
  readonly doubts: number[];
}

const empty = (): Summary => ({ values: [], widths: [], doubts: [] });

/** Plain values: what `save` gives and `load` takes. */
export type SavedQuantiles = readonly [
  count: number,
  buffer: number[],
  values: number[],
  widths: number[],
  doubts: number[],
];

/** Collects numbers, none of them NaN, and tells their quantiles. */
export class Quantiles {
  #count = 0;
  /** Values that are not in the summary yet. */
  #buffer: number[] = [];
  #summary: Summary = empty();

  add(value: number): void {
    this.#count++;
    this.#buffer.push(value);
    if (this.#buffer.length > EXACT_VALUES_MAX) this.#merge();
  }

  /** Finds the value of rank ceil(percent/100 * count), from 1: one that was added. Undefined when there is none. */
  at(percent: number): number | undefined {
    if (this.#count === 0) return undefined;
    const rank = Math.min(this.#count, Math.max(1, Math.ceil((percent * this.#count) / 100)));
    if (this.#summary.values.length === 0) return Float64Array.from(this.#buffer).sort()[rank - 1];
    this.#merge();
    const { values, widths, doubts } = this.#summary;
    let least = 0;
    let best = values[0];
    let bestError = Infinity;
    for (let i = 0; i < values.length; i++) {
      least += widths[i];
      const error = Math.max(rank - least, least + doubts[i] - rank);
      if (error < bestError) [best, bestError] = [values[i], error];
    }
    return best;
  }

  /** Bytes that it takes, about. */
  get bytes(): number {
    return 128 + 8 * this.#buffer.length + 24 * this.#summary.values.length;
  }

  #merge(): void {
    if (this.#buffer.length === 0) return;
    const added = Float64Array.from(this.#buffer).sort();
    this.#buffer = [];
    this.#summary = compress(merge(this.#summary, added), Math.floor(2 * RANK_ERROR_MAX * this.#count));
  }

  save(): SavedQuantiles {
    const { values, widths, doubts } = this.#summary;
    return [this.#count, [...this.#buffer], [...values], [...widths], [...doubts]];
  }

  static load([count, buffer, values, widths, doubts]: SavedQuantiles): Quantiles {
    const made = new Quantiles();
    made.#count = count;
    made.#buffer = [...buffer];
    made.#summary = { values: [...values], widths: [...widths], doubts: [...doubts] };
    return made;
  }
}

/** Puts sorted values between those of a summary: the rank of a new one is as doubtful as that of the known one behind it. */
function merge(of: Summary, added: Float64Array): Summary {
  const made = empty();
  let next = 0;
  for (const value of added) {
    while (next < of.values.length && of.values[next] <= value) copy(of, next++, made);
    const doubt = next === 0 || next === of.values.length ? 0 : of.widths[next] + of.doubts[next] - 1;
    push(made, value, 1, doubt);
  }
  while (next < of.values.length) copy(of, next++, made);
  return made;
}

const push = (to: Summary, value: number, width: number, doubt: number): void => {
  to.values.push(value);
  to.widths.push(width);
  to.doubts.push(doubt);
};
const copy = (from: Summary, at: number, to: Summary): void =>
  push(to, from.values[at], from.widths[at], from.doubts[at]);

/** Lets each value stand for those before it, as long as no rank becomes more uncertain than `most`. Least and greatest stay. */
function compress(of: Summary, most: number): Summary {
  const { values, widths, doubts } = of;
  const made = empty();
  let at = values.length - 1;
  while (at >= 0) {
    let width = widths[at];
    let before = at - 1;
    while (before > 0 && width + widths[before] + doubts[at] <= most) width += widths[before--];
    push(made, values[at], width, doubts[at]);
    at = before;
  }
  return { values: made.values.reverse(), widths: made.widths.reverse(), doubts: made.doubts.reverse() };
}
