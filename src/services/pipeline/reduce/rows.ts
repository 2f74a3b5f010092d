/** Rows on their way through a reduction: what of a block is kept, what is held back, and the blocks that leave. */
import { valueBytes } from "../../../kernel/events/blocks.ts";
import { decodeBlocks, encodeBlocks } from "../../../kernel/events/codec.ts";
import type { Block, Extra, Publisher, Series, Value } from "../../../kernel/events/model.ts";

/** What a row takes beside its values, about. */
const ROW_BYTES = 128;

/** Counts the readings of a block: an absent value is none. */
export function readingsOf({ columns }: Block): number {
  let readings = 0;
  for (const column of columns) for (const value of column) if (value !== undefined) readings++;
  return readings;
}

/** One event, apart from its block. */
export interface Row {
  readonly publisher: Publisher;
  readonly sequence: number;
  readonly origin: bigint;
  readonly values: readonly Value[];
  readonly extra?: Extra;
}

/** Takes a row out of a block. */
export function rowOf(block: Block, row: number): Row {
  const extra = block.extras.get(row);
  return {
    publisher: block.publisher,
    sequence: block.sequences[row],
    origin: block.origins[row],
    values: block.columns.map((column) => column[row]),
    ...(extra ? { extra } : {}),
  };
}

/** Bytes that a row takes in memory, about. */
export function rowBytes({ values }: Row): number {
  let sum = ROW_BYTES;
  for (const value of values) sum += 8 + (typeof value === "number" ? 8 : valueBytes(value));
  return sum;
}

/** Packs a row into bytes that give it back exactly; a row with bytes of its own or long texts takes what those take. */
export const packRow = (row: Row, series: Series): Uint8Array => {
  const out = new Rows();
  out.add(series, row);
  return encodeBlocks(out.taken());
};
export const unpackRow = (bytes: Uint8Array): Row => rowOf(decodeBlocks(bytes)[0], 0);

/** Leaves only the readings for which `isKept`; undefined when there are none. */
export function keepOf(row: Row, isKept: (column: number) => boolean): Row | undefined {
  const values = row.values.map((value, k) => (isKept(k) ? value : undefined));
  if (values.every((value) => value === undefined)) return undefined;
  const { extra, ...rest } = row;
  return { ...rest, values, ...(extra ? { extra: extraOf(extra, isKept) } : {}) };
}

/** What is told of the readings that stay. The ids keep their places: a reading's id is made of its column's number. */
function extraOf(extra: Extra, isKept: (column: number) => boolean): Extra {
  if (!extra.ids && !extra.origins && !extra.readingTags) return extra;
  const only = <T>(list: readonly T[]): (T | undefined)[] => list.map((item, k) => (isKept(k) ? item : undefined));
  return {
    ...extra,
    ...(extra.ids ? { ids: [extra.ids[0], ...only(extra.ids.slice(1))] } : {}),
    ...(extra.origins ? { origins: only(extra.origins) } : {}),
    ...(extra.readingTags ? { readingTags: only(extra.readingTags) } : {}),
  };
}

/** Which values of a block are kept, per column: 1 at the row; undefined for a column that is kept whole. */
export type Kept = readonly (Uint8Array | undefined)[];

/** Takes the values of a block that are kept, without the rows that have none left: the block itself where nothing is left out. */
export function keptOf(block: Block, kept: Kept): Block | undefined {
  const { sequences, columns } = block;
  const rows: number[] = [];
  let whole = true;
  for (let row = 0; row < sequences.length; row++) {
    let some = false;
    for (let k = 0; k < columns.length; k++) {
      if (columns[k][row] === undefined) continue;
      if (kept[k]?.[row] === 0) whole = false;
      else some = true;
    }
    if (some) rows.push(row);
  }
  if (rows.length === 0) return undefined;
  if (whole && rows.length === sequences.length) return block;
  const extras = new Map<number, Extra>();
  if (block.extras.size > 0)
    rows.forEach((row, at) => {
      const extra = block.extras.get(row);
      if (extra)
        extras.set(
          at,
          extraOf(extra, (k) => kept[k]?.[row] !== 0),
        );
    });
  return {
    publisher: block.publisher,
    series: block.series,
    sequences: rows.map((row) => sequences[row]),
    origins: rows.map((row) => block.origins[row]),
    columns: columns.map((column, k) => rows.map((row) => (kept[k]?.[row] === 0 ? undefined : column[row]))),
    extras,
  };
}

/** The rows that leave, gathered into blocks in the order in which they come. */
export class Rows {
  #blocks: Block[] = [];
  /** The block that rows are added to: one made here. */
  #open: Block | undefined;

  /** Adds a row. A block ends where the series, the publisher or the order of the sequences does. */
  add(series: Series, { publisher, sequence, origin, values, extra }: Row): void {
    let open = this.#open;
    if (
      !open ||
      open.series !== series ||
      open.publisher.epoch !== publisher.epoch ||
      open.publisher.name !== publisher.name ||
      open.sequences[open.sequences.length - 1] >= sequence
    ) {
      open = { publisher, series, sequences: [], origins: [], columns: values.map(() => []), extras: new Map() };
      this.#blocks.push(open);
      this.#open = open;
    }
    if (extra) open.extras.set(open.sequences.length, extra);
    open.sequences.push(sequence);
    open.origins.push(origin);
    for (let k = 0; k < values.length; k++) open.columns[k].push(values[k]);
  }

  /** Adds a block as it is. */
  block(block: Block | undefined): void {
    if (!block) return;
    this.#blocks.push(block);
    this.#open = undefined;
  }

  taken(): Block[] {
    return this.#blocks;
  }
}
