/**
 * Takes the batches of a publisher in order, each event once. Several may be on their way to the disk; a batch sent
 * again
 * while its first copy is under way waits for that one's end.
 */
import type { Failure } from "../../kernel/error.ts";
import type { Marks } from "./sequences.ts";
import { type Run, type Runs } from "./sequences.ts";

/**
 * A batch that overtook an earlier one (another connection) waits so long for it; then the numbers between count as
 * given up.
 */
const OVERTAKEN_WAIT_MS = 250;
/** Batches that wait so at the same time, of one publisher; further ones are taken as they come. */
const OVERTAKING_MAX = 64;
/**
 * After a batch was refused later ones are refused too, until it comes again or so long: otherwise they would be kept
 * before it.
 */
const REFUSED_MS = 5_000;

interface Flight extends Run {
  readonly done: Promise<unknown>;
  /** Position of the journal's end when it was handed over: its record is behind. */
  readonly after: number;
}

class Stream {
  readonly runs: Runs;
  flights: Flight[] = [];
  expected: number;
  waiting: { readonly from: number; readonly go: () => void }[] = [];
  refused: { readonly from: number; readonly failure: Failure; readonly untilMs: number } | undefined;

  constructor(runs: Runs) {
    this.runs = runs;
    this.expected = runs.last + 1;
  }

  /** Waits until what comes before `from` has come. */
  async arrival(from: number): Promise<void> {
    const arrived = Promise.withResolvers<void>();
    const timer = setTimeout(arrived.resolve, OVERTAKEN_WAIT_MS);
    this.waiting.push({ from, go: arrived.resolve });
    this.waiting.sort((a, b) => a.from - b.from);
    await arrived.promise;
    clearTimeout(timer);
    this.waiting = this.waiting.filter((w) => w.go !== arrived.resolve);
  }

  advance(to: number): void {
    if (to >= this.expected) this.expected = to + 1;
    const next = this.waiting[0];
    if (next && next.from <= this.expected) next.go();
  }
}

const includes = (run: Run, number: number): boolean => run.from <= number && number <= run.to;

export interface Taken {
  /** Undefined where all of it was there already. */
  readonly position: number | undefined;
  /** End of the durable run that the batch is in. */
  readonly last: number;
}

export interface IntakeOptions {
  readonly marks: Marks;
  readonly monotonicMs: () => number;
  /** The journal's last position. */
  readonly end: () => number;
}

export class Intake {
  readonly #options: IntakeOptions;
  readonly #streams = new Map<Runs, Stream>();

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** Up to this position every record's sequences are in the marks. */
  get settledThrough(): number {
    let through = this.#options.end();
    for (const stream of this.#streams.values())
      for (const flight of stream.flights) through = Math.min(through, flight.after);
    return through;
  }

  /**
   * Takes a batch of the sequences `from` to `to`: `put` appends those runs of it that are missing (all of it as a
   * rule)
   * and answers the position once that is on the disk. Rejects as `put` does.
   */
  async take(
    publisher: string,
    epoch: number,
    from: number,
    to: number,
    put: (missing: readonly Run[]) => Promise<number>,
  ): Promise<Taken> {
    const stream = this.#streamOf(publisher, epoch);
    if (from > stream.expected && stream.waiting.length < OVERTAKING_MAX) await stream.arrival(from);
    for (;;) {
      const ahead = stream.flights.filter(
        (f) => (f.from <= to && f.to >= from) || (stream.refused && includes(f, stream.refused.from)),
      );
      if (ahead.length === 0) break;
      await Promise.allSettled(ahead.map((f) => f.done));
    }
    const missing = stream.runs.missing(from, to);
    if (missing.length === 0) {
      stream.advance(to);
      return { position: undefined, last: stream.runs.endOf(to) ?? to };
    }
    this.#refuseLater(stream, from);
    const position = await this.#fly(stream, from, to, put(missing));
    return { position, last: stream.runs.endOf(to) ?? to };
  }

  async #fly(stream: Stream, from: number, to: number, done: Promise<number>): Promise<number> {
    const flight: Flight = { from, to, done, after: this.#options.end() };
    stream.flights.push(flight);
    stream.advance(to);
    try {
      const position = await done;
      stream.runs.add(from, to);
      if (stream.refused && stream.refused.from <= to) stream.refused = undefined;
      return position;
    } catch (error) {
      if (stream.refused === undefined || from < stream.refused.from) {
        stream.refused = { from, failure: error as Failure, untilMs: this.#options.monotonicMs() + REFUSED_MS };
      }
      throw error;
    } finally {
      stream.flights.splice(stream.flights.indexOf(flight), 1);
      if (stream.flights.length === 0 && stream.waiting.length === 0 && !stream.refused)
        this.#streams.delete(stream.runs);
    }
  }

  #refuseLater(stream: Stream, from: number): void {
    const { refused } = stream;
    if (!refused) return;
    if (this.#options.monotonicMs() > refused.untilMs) stream.refused = undefined;
    else if (from > refused.from) throw refused.failure;
  }

  #streamOf(publisher: string, epoch: number): Stream {
    const runs = this.#options.marks.of(publisher, epoch);
    let stream = this.#streams.get(runs);
    if (!stream) this.#streams.set(runs, (stream = new Stream(runs)));
    return stream;
  }
}
