/** A set of whole numbers as ranges: as small as it has gaps, whatever it holds. */

export interface SequenceRange {
  from: number;
  to: number;
}

export class SequenceSet {
  // Two lists of numbers: a million ranges take 16 MB.
  readonly #from: number[] = [];
  readonly #to: number[] = [];

  constructor(ranges: Iterable<SequenceRange> = []) {
    for (const { from, to } of ranges) this.add(from, to);
  }

  /** Ranges there are. */
  get size(): number {
    return this.#from.length;
  }

  /** The highest number in it; 0 where there is none. */
  get high(): number {
    return this.#to.at(-1) ?? 0;
  }

  has(number: number): boolean {
    return this.through(number - 1) >= number;
  }

  /** How far all numbers after `after` are in it, without a gap; `after` itself where the next one is not. */
  through(after: number): number {
    const at = this.#search(after + 1);
    return at < this.#from.length && this.#from[at] <= after + 1 ? this.#to[at] : after;
  }

  /** The first number of the range that `number` is in; the one after it where it is in none. */
  start(number: number): number {
    const at = this.#search(number);
    return at < this.#from.length && this.#from[at] <= number ? this.#from[at] : number + 1;
  }

  /** The highest number up to `most` that is in it; 0 where there is none. */
  last(most: number): number {
    if (most < 1) return 0;
    const at = this.#search(most);
    if (at < this.#from.length && this.#from[at] <= most) return most;
    return at > 0 ? this.#to[at - 1] : 0;
  }

  /** The first number above `after` that is in it; undefined where none is. */
  next(after: number): number | undefined {
    const at = this.#search(after + 1);
    return at < this.#from.length ? Math.max(after + 1, this.#from[at]) : undefined;
  }

  /** Adds a range; answers how many of its numbers were there before. */
  add(from: number, to: number): number {
    const [starts, ends] = [this.#from, this.#to];
    // The first range that ends at or behind the number before `from`: there joining begins.
    const at = this.#search(from - 1);
    let [low, high, known, until] = [from, to, 0, at];
    for (; until < starts.length && starts[until] <= to + 1; until++) {
      known += Math.max(0, Math.min(to, ends[until]) - Math.max(from, starts[until]) + 1);
      low = Math.min(low, starts[until]);
      high = Math.max(high, ends[until]);
    }
    if (until === at + 1) {
      starts[at] = low;
      ends[at] = high;
    } else {
      starts.splice(at, until - at, low);
      ends.splice(at, until - at, high);
    }
    return known;
  }

  /** Those in it that are not in another one. */
  without(other: SequenceSet): SequenceRange[] {
    const left: SequenceRange[] = [];
    for (const { from, to } of this.ranges())
      for (let after = other.through(from - 1); after < to;) {
        const end = Math.min(to, (other.next(after) ?? to + 1) - 1);
        left.push({ from: after + 1, to: end });
        after = other.through(end);
      }
    return left;
  }

  /** The first ranges, in order. */
  ranges(most = this.size): SequenceRange[] {
    return this.#from.slice(0, most).map((from, i) => ({ from, to: this.#to[i] }));
  }

  #search(end: number): number {
    const ends = this.#to;
    // What comes is behind what came, nearly always.
    if (ends.length === 0 || ends.at(-1)! < end) return ends.length;
    let [low, high] = [0, ends.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ends[middle] < end) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
