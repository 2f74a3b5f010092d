/** Durations in fixed buckets whose bounds grow by an eighth of a doubling: any percentile is told within 4.5%, and two add up. */

/** Buckets to a doubling; 8 is scale 3 of OpenTelemetry's exponential histograms. */
const STEPS = 8;
/** 2^-20 s (1 us) to 2^8 s: what is shorter is in the first bucket, what is longer behind the last. */
const [LOWEST, HIGHEST] = [-20, 8];
const BUCKETS = (HIGHEST - LOWEST) * STEPS;

/** The bounds that scrapers are told, powers of two of a second: 0.24 ms to 16 s. A histogram of all 224 would drown them. */
const TOLD = [-12, -11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 2, 4];
export const BOUNDS_S: readonly number[] = TOLD.map((power) => 2 ** power);

/** One observation that says of which request it was. */
export interface Exemplar {
  readonly requestId: string;
  readonly valueS: number;
  readonly atMs: number;
}

/** What a histogram holds: counts per told bound (the last is of what is above all), not added up. */
export interface Counts {
  readonly counts: readonly number[];
  readonly sumS: number;
  /** The newest of each told bucket that has one, by the bucket's number. */
  readonly exemplars: readonly { readonly bucket: number; readonly exemplar: Exemplar }[];
}

export class Histogram {
  readonly #counts = new Uint32Array(BUCKETS + 1);
  readonly #exemplars: (Exemplar | undefined)[] = [];
  count = 0;
  sumS = 0;

  /** Counts a duration; `requestId` makes it the exemplar of its bucket. */
  add(valueS: number, requestId?: string, atMs = 0): void {
    this.count++;
    this.sumS += valueS;
    const bucket = bucketOf(valueS);
    this.#counts[bucket]++;
    if (requestId !== undefined) this.#exemplars[toldOf(bucket)] = { requestId, valueS, atMs };
  }

  /** Tells the duration that a share of all do not exceed, by the middle of its bucket; 0 where there is none. */
  percentileS(share: number): number {
    return percentileS([this], share);
  }

  counts(): Counts {
    const counts = new Array<number>(BOUNDS_S.length + 1).fill(0);
    for (let i = 0; i <= BUCKETS; i++) counts[toldOf(i)] += this.#counts[i];
    const exemplars = this.#exemplars.flatMap((exemplar, bucket) => (exemplar ? [{ bucket, exemplar }] : []));
    return { counts, sumS: this.sumS, exemplars };
  }

  at(bucket: number): number {
    return this.#counts[bucket];
  }
}

/** Tells a percentile of several histograms together. */
export function percentileS(all: readonly Histogram[], share: number): number {
  let left = Math.ceil(all.reduce((sum, { count }) => sum + count, 0) * share);
  for (let i = 0; i <= BUCKETS; i++) {
    for (const one of all) left -= one.at(i);
    if (left <= 0) return 2 ** (LOWEST + (i + 0.5) / STEPS);
  }
  return 0;
}

/** Bucket i holds what is above 2^(LOWEST + i/8) s, up to and with 2^(LOWEST + (i+1)/8) s: `le` and OpenTelemetry's bounds, both inclusive. */
const bucketOf = (valueS: number): number =>
  valueS > 0 ? Math.max(0, Math.min(BUCKETS, Math.ceil((Math.log2(valueS) - LOWEST) * STEPS) - 1)) : 0;

/** The told bucket that each is in. */
const TOLD_OF = Uint8Array.from({ length: BUCKETS + 1 }, (_, i) => {
  const at = TOLD.findIndex((power) => (power - LOWEST) * STEPS > i);
  return at < 0 ? TOLD.length : at;
});
const toldOf = (bucket: number): number => TOLD_OF[bucket];
