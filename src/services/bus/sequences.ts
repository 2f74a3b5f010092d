/**
 * Which sequences of a publisher are on disk already. A publisher numbers its events without holes, so this is one run
 * for nearly all of them; a batch that failed while a later one was kept leaves a hole until it is sent again.
 */

/** Runs kept apart; beyond it the lowest hole is taken for one that nobody will fill (events the publisher gave up). */
const RUNS_MAX = 256;
/**
 * Epochs remembered of one publisher (an epoch is one start of it), and publishers in all; those longest unused go
 * first.
 */
export const EPOCHS_MAX = 8;
export const PUBLISHERS_MAX = 1024;

/** Numbers from `from` to `to`, both included. */
export interface Run {
  readonly from: number;
  readonly to: number;
}

/** A set of numbers as sorted, separate runs. */
export class Runs {
  #runs: Run[];

  constructor(runs: readonly Run[] = []) {
    this.#runs = [...runs];
  }

  get runs(): readonly Run[] {
    return this.#runs;
  }

  /** The highest number, 0 where there is none. */
  get last(): number {
    return this.#runs.at(-1)?.to ?? 0;
  }

  /** The end of the run that a number is in; undefined when it is in none. */
  endOf(number: number): number | undefined {
    return this.#runs[this.#at(number)]?.to;
  }

  has(number: number): boolean {
    return this.#at(number) >= 0;
  }

  add(from: number, to: number): void {
    const runs = this.#runs;
    const last = runs.at(-1);
    if (last && from === last.to + 1) runs[runs.length - 1] = { from: last.from, to };
    else if (!last || from > last.to) runs.push({ from, to });
    else this.#insert(from, to);
    while (runs.length > RUNS_MAX) runs.splice(0, 2, { from: runs[0].from, to: runs[1].to });
  }

  #insert(from: number, to: number): void {
    const runs = this.#runs;
    let start = 0;
    while (runs[start].to < from - 1) start++;
    let end = start;
    let [low, high] = [from, to];
    for (; end < runs.length && runs[end].from <= to + 1; end++) {
      low = Math.min(low, runs[end].from);
      high = Math.max(high, runs[end].to);
    }
    runs.splice(start, end - start, { from: low, to: high });
  }

  /** What of `from` to `to` is not in the set, in order. */
  missing(from: number, to: number): Run[] {
    const found: Run[] = [];
    let next = from;
    // From the end: what is sent now is nearly always behind the last run.
    let i = this.#runs.length;
    while (i > 0 && this.#runs[i - 1].to >= from) i--;
    for (; i < this.#runs.length && this.#runs[i].from <= to; i++) {
      const run = this.#runs[i];
      if (run.from > next) found.push({ from: next, to: run.from - 1 });
      next = Math.max(next, run.to + 1);
    }
    if (next <= to) found.push({ from: next, to });
    return found;
  }

  #at(number: number): number {
    for (let i = this.#runs.length - 1; i >= 0; i--) {
      const run = this.#runs[i];
      if (number > run.to) return -1;
      if (number >= run.from) return i;
    }
    return -1;
  }
}

/** A mark as it is stored: publisher, epoch, and the runs as a flat list. */
export type StoredMark = [publisher: string, epoch: number, ...runs: number[]];

/** The durable sequences of all publishers. */
export class Marks {
  /** In order of last use, so that the first are the longest unused. */
  readonly #publishers = new Map<string, Map<number, Runs>>();

  /** The durable sequences of a publisher in an epoch; made empty when unknown. */
  of(publisher: string, epoch: number): Runs {
    const epochs = touch(this.#publishers, publisher, () => new Map<number, Runs>(), PUBLISHERS_MAX);
    return touch(epochs, epoch, () => new Runs(), EPOCHS_MAX);
  }

  *all(): Generator<{ name: string; epoch: number; runs: Runs }> {
    for (const [name, epochs] of this.#publishers) for (const [epoch, runs] of epochs) yield { name, epoch, runs };
  }

  store(): StoredMark[] {
    return [...this.all()].map(({ name, epoch, runs }): StoredMark => [
      name,
      epoch,
      ...runs.runs.flatMap((r) => [r.from, r.to]),
    ]);
  }

  restore(marks: readonly StoredMark[]): void {
    for (const [name, epoch, ...flat] of marks) {
      const runs = this.of(name, epoch);
      for (let i = 0; i + 1 < flat.length; i += 2) runs.add(flat[i], flat[i + 1]);
    }
  }
}

/** Finds an entry and makes it the last used one; a new one may push out the first. */
function touch<K, V>(map: Map<K, V>, key: K, make: () => V, max: number): V {
  const known = map.get(key);
  // The last used one stays where it is when it is used again: the common case costs no deletion.
  if (known !== undefined && map.size === 1) return known;
  const value = known ?? make();
  map.delete(key);
  map.set(key, value);
  if (map.size > max) map.delete(map.keys().next().value as K);
  return value;
}
