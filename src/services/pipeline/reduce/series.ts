/**
 * What all reductions have in common: one state a series, of which so many are held at most, the count of what went in
 * and out, and saving and loading. A reduction itself says what it does with the rows of one series.
 */
import { seriesKey } from "../../../kernel/events/codec.ts";
import type { Block, Series } from "../../../kernel/events/model.ts";
import { readingsOf, Rows } from "./rows.ts";

/** Series of which one function holds a state; beyond, the one that was idle longest is flushed and forgotten. */
export const SERIES_MAX = 16_384;
/** Bytes, about, that the states of one function take; beyond, the series that was idle longest is flushed and forgotten. */
export const HELD_BYTES_MAX = 16 * 1024 * 1024;
/** What a series takes beside its names and the state of its function, about. */
const SERIES_BYTES = 512;

/** What a function did so far. */
export interface ReductionReport {
  readonly readingsIn: number;
  readonly readingsOut: number;
  /** The largest difference between a value and what the output says of it, where the function bounds that. */
  readonly errorMax?: number;
  /** Readings that came too late for their window, and so passed as they are. */
  readonly readingsLate?: number;
  /** Times that a counter began anew. */
  readonly counterResets?: number;
}

/**
 * One function over the blocks of a pipeline. Deterministic: the same rows give the same output, however they are cut
 * into blocks, and also when state is saved between any two of them and loaded into a new one. A series is what `seriesKey`
 * tells apart: device, profile, source and its list of resources.
 */
export interface Reduction {
  /** Takes rows of one series, in order; gives what leaves now. Blocks taken are not changed, but may be handed on as they are. */
  push(block: Block): Block[];
  /**
   * Gives what is due by time, for series that are silent. `nowNs` is of any clock that does not jump: only its
   * differences count, so that a device whose clock is wrong, or that replays an old day, is treated like all others.
   * What leaves here is no function of the rows: the state must be kept with it.
   */
  tick(nowNs: bigint): Block[];
  /** Gives all that is held back. Going on afterwards is allowed. */
  flush(): Block[];
  /** The state as plain values that CBOR carries: own copies. */
  save(): unknown;
  /** Takes the place of a reduction of the same spec that gave `state`. */
  load(state: unknown): void;
  report(): ReductionReport;
}

/** What one function does with one series. `S` is its state. */
export interface SeriesFunction<S> {
  begin(series: Series): S;
  push(state: S, block: Block, out: Rows): void;
  /** Gives what is due when no row came until `nowNs`, in the time of the series' own origins. */
  tick?(state: S, nowNs: bigint, out: Rows): void;
  /** Gives what is held back. */
  flush?(state: S, out: Rows): void;
  /** Bytes that a state takes, about. */
  bytes(state: S): number;
  save(state: S): unknown;
  load(saved: unknown, series: Series): S;
  /** What it can tell beside the count of readings; kept with the state. */
  readonly notes?: Notes;
}
export type Notes = { -readonly [K in "errorMax" | "readingsLate" | "counterResets"]?: number };

interface Held<S> {
  readonly series: Series;
  readonly state: S;
  lastNs: bigint;
  /** When `tick` first saw the series as idle as it is; undefined when a row came since. */
  idleNs: bigint | undefined;
  bytes: number;
}

interface Saved {
  readonly series: readonly { series: Series; lastNs: bigint | number; state: unknown }[];
  readonly readingsIn: number;
  readonly readingsOut: number;
  readonly notes: Notes;
}

export interface SeriesLimits {
  readonly seriesMax?: number;
  readonly heldBytesMax?: number;
}

/** Makes a reduction of what a function does with one series. */
export class BySeries<S> implements Reduction {
  readonly #function: SeriesFunction<S>;
  readonly #seriesMax: number;
  readonly #heldBytesMax: number;
  /** In order of the last row: the first is the one that was idle longest. */
  readonly #held = new Map<string, Held<S>>();
  #bytes = 0;
  #readingsIn = 0;
  #readingsOut = 0;

  constructor(of: SeriesFunction<S>, { seriesMax = SERIES_MAX, heldBytesMax = HELD_BYTES_MAX }: SeriesLimits = {}) {
    this.#function = of;
    this.#seriesMax = seriesMax;
    this.#heldBytesMax = heldBytesMax;
  }

  push(block: Block): Block[] {
    const key = seriesKey(block.series);
    let held = this.#held.get(key);
    if (held) this.#held.delete(key);
    else {
      held = {
        series: block.series,
        state: this.#function.begin(block.series),
        lastNs: 0n,
        idleNs: undefined,
        bytes: 0,
      };
    }
    this.#held.set(key, held);
    this.#readingsIn += readingsOf(block);
    const out = new Rows();
    this.#function.push(held.state, block, out);
    held.lastNs = block.origins[block.origins.length - 1];
    held.idleNs = undefined;
    this.#weigh(key, held);
    this.#makeRoom(out);
    return this.#counted(out);
  }

  #weigh(key: string, held: Held<S>): void {
    this.#bytes -= held.bytes;
    held.bytes = SERIES_BYTES + 2 * key.length + this.#function.bytes(held.state);
    this.#bytes += held.bytes;
  }

  #makeRoom(out: Rows): void {
    while (this.#held.size > this.#seriesMax || this.#bytes > this.#heldBytesMax) {
      const [key, held] = this.#held.entries().next().value as [string, Held<S>];
      this.#function.flush?.(held.state, out);
      this.#held.delete(key);
      this.#bytes -= held.bytes;
    }
  }

  #counted(out: Rows): Block[] {
    const blocks = out.taken();
    for (const block of blocks) this.#readingsOut += readingsOf(block);
    return blocks;
  }

  tick(nowNs: bigint): Block[] {
    if (!this.#function.tick) return [];
    const out = new Rows();
    for (const [key, held] of this.#held) {
      held.idleNs ??= nowNs;
      if (nowNs <= held.idleNs) continue;
      this.#function.tick(held.state, held.lastNs + (nowNs - held.idleNs), out);
      this.#weigh(key, held);
    }
    return this.#counted(out);
  }

  flush(): Block[] {
    const out = new Rows();
    for (const [key, held] of this.#held) {
      this.#function.flush?.(held.state, out);
      this.#weigh(key, held);
    }
    return this.#counted(out);
  }

  save(): Saved {
    const series = [...this.#held.values()].map((held) => ({
      series: held.series,
      lastNs: held.lastNs,
      state: this.#function.save(held.state),
    }));
    const notes = { ...this.#function.notes };
    return { series, readingsIn: this.#readingsIn, readingsOut: this.#readingsOut, notes };
  }

  load(state: unknown): void {
    const saved = state as Saved;
    this.#held.clear();
    this.#bytes = 0;
    for (const { series, lastNs, state: of } of saved.series) {
      const key = seriesKey(series);
      const held = {
        series,
        state: this.#function.load(of, series),
        lastNs: BigInt(lastNs),
        idleNs: undefined,
        bytes: 0,
      };
      this.#held.set(key, held);
      this.#weigh(key, held);
    }
    this.#readingsIn = saved.readingsIn;
    this.#readingsOut = saved.readingsOut;
    if (this.#function.notes) Object.assign(this.#function.notes, saved.notes);
  }

  report(): ReductionReport {
    return { readingsIn: this.#readingsIn, readingsOut: this.#readingsOut, ...this.#function.notes };
  }
}
