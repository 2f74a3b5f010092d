/** The newest events, in memory until they are written together: the bus has them on its disk, and gives them again. */
import { sliceBlock } from "../../kernel/events/blocks.ts";
import type { Block } from "../../kernel/events/model.ts";
import { readingsOf, rowOf } from "../../kernel/events/rows.ts";
import type { SeriesEntry } from "./series.ts";

/** Events of one series, publisher and epoch, in order of their sequences. */
export interface TailBlock {
  readonly entry: SeriesEntry;
  readonly block: Block;
  minOrigin: bigint;
  maxOrigin: bigint;
  readings: number;
}

/** At each of these the tail is full and must be written before more is added: what it takes of memory, and what is read again after a kill. */
const ROWS_MAX = 4_096;
const VALUES_MAX = 65_536;
const BYTES_MAX = 1024 * 1024;

const sequenceKey = (publisher: string, epoch: number) => `${epoch} ${publisher}`;

export class Tail {
  readonly #bySeries = new Map<SeriesEntry, TailBlock[]>();
  readonly #byStream = new Map<string, TailBlock[]>();
  rows = 0;
  #values = 0;
  #bytes = 0;

  get isFull(): boolean {
    return this.rows >= ROWS_MAX || this.#values >= VALUES_MAX || this.#bytes >= BYTES_MAX;
  }

  /** Counts encoded bytes towards the limit. */
  countBytes(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Adds a block of at least one row; it is copied. */
  add(entry: SeriesEntry, block: Block): void {
    const own = this.#bySeries.get(entry) ?? [];
    if (own.length === 0) this.#bySeries.set(entry, own);
    const to = own.at(-1);
    const { publisher } = block;
    const follows =
      to?.block.publisher.epoch === publisher.epoch &&
      to.block.publisher.name === publisher.name &&
      to.block.sequences.at(-1)! < block.sequences[0];
    let target = to;
    if (to && follows) append(to.block, block);
    else {
      target = {
        entry,
        block: sliceBlock(block, 0, block.sequences.length),
        minOrigin: block.origins[0],
        maxOrigin: block.origins[0],
        readings: 0,
      };
      own.push(target);
      const key = sequenceKey(publisher.name, publisher.epoch);
      const stream = this.#byStream.get(key);
      if (stream) stream.push(target);
      else this.#byStream.set(key, [target]);
    }
    this.#measure(target!, block);
  }

  #measure(target: TailBlock, block: Block): void {
    for (const origin of block.origins) {
      if (origin < target.minOrigin) target.minOrigin = origin;
      if (origin > target.maxOrigin) target.maxOrigin = origin;
    }
    target.readings += readingsOf(block);
    this.rows += block.sequences.length;
    this.#values += block.sequences.length * block.columns.length;
  }

  /** The blocks of some series, or all. */
  *blocks(entries?: readonly SeriesEntry[]): Generator<TailBlock> {
    if (!entries) for (const blocks of this.#bySeries.values()) yield* blocks;
    else for (const entry of entries) yield* this.#bySeries.get(entry) ?? [];
  }

  /** The blocks by series. */
  bySeries(): ReadonlyMap<SeriesEntry, readonly TailBlock[]> {
    return this.#bySeries;
  }

  /** Finds an event. */
  find(publisher: string, epoch: number, sequence: number): { block: Block; row: number } | undefined {
    for (const { block } of this.#byStream.get(sequenceKey(publisher, epoch)) ?? []) {
      const row = rowOf(block, sequence);
      if (row >= 0) return { block, row };
    }
    return undefined;
  }

  clear(): void {
    this.#bySeries.clear();
    this.#byStream.clear();
    this.rows = this.#values = this.#bytes = 0;
  }
}

function append(to: Block, block: Block): void {
  const offset = to.sequences.length;
  for (const [row, extra] of block.extras) to.extras.set(offset + row, extra);
  for (const sequence of block.sequences) to.sequences.push(sequence);
  for (const origin of block.origins) to.origins.push(origin);
  for (let k = 0; k < block.columns.length; k++) {
    const column = to.columns[k];
    for (const value of block.columns[k]) column.push(value);
  }
}
