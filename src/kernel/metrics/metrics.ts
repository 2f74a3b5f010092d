/** What a service counts: its own numbers, and those that every service has. Kept here, told by the process that runs it. */
import { type Counts, Histogram } from "./histogram.ts";

export type MetricType = "counter" | "gauge" | "histogram" | "info";
export type Labels = Readonly<Record<string, string>>;

/** One row of a metric. */
export interface Sample {
  readonly labels: Labels;
  /** Absent in a histogram. */
  readonly value?: number;
  readonly histogram?: Counts;
}

/** A metric with all its rows, as it is told. */
export interface Family {
  /** Without `_total`. */
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  readonly samples: readonly Sample[];
}

/** Rows of one metric; above it new ones are counted together, with OTHER in every label. */
export const SERIES_MAX = 1_024;
/** Metrics of one service; one more is a bug and throws. */
export const FAMILIES_MAX = 256;
const OTHER = "(others)";
const NAME = /^[a-z][a-z0-9_]{0,119}$/;

/** Rows that are kept elsewhere: labels and value. */
export type Rows = Iterable<readonly [labels: Labels, value: number]> | number;

export interface Counter {
  /** Adds to the row of these label values, in the order in which the labels were declared. */
  add(value: number, ...labels: readonly string[]): void;
}

export interface Gauge {
  set(value: number, ...labels: readonly string[]): void;
}

export interface Durations {
  /** The histogram of these label values, to be kept by who adds to it often. */
  of(...labels: readonly string[]): Histogram;
}

interface Known {
  readonly type: MetricType;
  readonly help: string;
  /** What was handed out; undefined where only `read` is. */
  readonly made: unknown;
  readonly reads: (() => Iterable<Sample>)[];
}

export class Metrics {
  readonly #families = new Map<string, Known>();

  /** Declares a number that only grows; `name` without `_total`, which it is told with. */
  counter(name: string, help: string, labels: readonly string[] = []): Counter {
    return this.#declare(name, "counter", help, () => {
      const rows = new Table(labels, () => ({ value: 0 }));
      const made = { add: (value: number, ...of: readonly string[]) => void (rows.of(of).value += value) };
      return { made, read: () => rows.samples(({ value }) => ({ value })) };
    });
  }

  /** Declares a number that goes up and down. */
  gauge(name: string, help: string, labels: readonly string[] = []): Gauge {
    return this.#declare(name, "gauge", help, () => {
      const rows = new Table(labels, () => ({ value: 0 }));
      const made = { set: (value: number, ...of: readonly string[]) => void (rows.of(of).value = value) };
      return { made, read: () => rows.samples(({ value }) => ({ value })) };
    });
  }

  /** Declares durations in seconds; `name` ends in `_seconds`. */
  durations(name: string, help: string, labels: readonly string[] = []): Durations {
    if (!name.endsWith("_seconds")) throw new Error(`metric '${name}' is of durations: its name must end in _seconds`);
    return this.#declare(name, "histogram", help, () => {
      const rows = new Table(labels, () => new Histogram());
      const made = { of: (...of: readonly string[]) => rows.of(of) };
      return { made, read: () => rows.samples((histogram) => ({ histogram: histogram.counts() })) };
    });
  }

  /** Declares what is kept elsewhere, and read when it is told; several of one name tell their rows together. */
  read(type: "counter" | "gauge" | "info", name: string, help: string, rows: () => Rows): void {
    const read = () => samplesOf(rows());
    const known = this.#families.get(name);
    if (known && known.type === type && known.made === undefined) known.reads.push(read);
    else this.#declare(name, type, help, () => ({ made: undefined, read }));
  }

  /** All that there is to tell, now. */
  families(): Family[] {
    return [...this.#families].map(([name, { type, help, reads }]) => {
      const samples = reads.flatMap((read) => told(read));
      return { name, type, help, samples: samples.slice(0, SERIES_MAX + 1) };
    });
  }

  /** The same name declared again is the same metric; with another type it is a bug, and throws. */
  #declare<M>(name: string, type: MetricType, help: string, make: () => { made: M; read: () => Iterable<Sample> }): M {
    const known = this.#families.get(name);
    if (known && known.type === type && known.made !== undefined) return known.made as M;
    if (known) throw new Error(`metric '${name}' is declared twice, as ${known.type} and ${type}`);
    if (!NAME.test(name) || name.endsWith("_total"))
      throw new Error(`metric '${name}' needs another name: a-z, 0-9 and _, without _total`);
    if (this.#families.size >= FAMILIES_MAX) throw new Error(`metric '${name}' is one more than ${FAMILIES_MAX}`);
    const { made, read } = make();
    this.#families.set(name, { type, help, made, reads: [read] });
    return made;
  }
}

/** The rows of a metric by the values of its labels. */
class Table<R> {
  readonly #labels: readonly string[];
  readonly #make: () => R;
  readonly #rows = new Map<string, { readonly labels: Labels; readonly row: R }>();

  constructor(labels: readonly string[], make: () => R) {
    this.#labels = labels;
    this.#make = make;
    // What has no labels is told from the start, as zero.
    if (labels.length === 0) this.of([]);
  }

  of(values: readonly string[]): R {
    const key = values.length === 1 ? values[0] : values.join("\0");
    const known = this.#rows.get(key);
    if (known) return known.row;
    if (this.#rows.size >= SERIES_MAX && values.some((value) => value !== OTHER)) {
      return this.of(this.#labels.map(() => OTHER));
    }
    const labels = Object.fromEntries(this.#labels.map((label, i) => [label, values[i] ?? ""]));
    const row = this.#make();
    this.#rows.set(key, { labels, row });
    return row;
  }

  *samples(tell: (row: R) => Omit<Sample, "labels">): Iterable<Sample> {
    for (const { labels, row } of this.#rows.values()) yield { labels, ...tell(row) };
  }
}

function* samplesOf(rows: Rows): Iterable<Sample> {
  if (typeof rows === "number") yield { labels: {}, value: rows };
  else for (const [labels, value] of rows) yield { labels, value };
}

/** What cannot be read at the moment (a store that is being closed) is left out: counting costs no service its life. */
function told(read: () => Iterable<Sample>): Sample[] {
  try {
    return [...read()];
  } catch {
    return [];
  }
}
