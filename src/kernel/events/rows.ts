/** Rows of blocks: found, counted, taken out. */
import { isDeepStrictEqual } from "node:util";
import type { Block, Extra } from "./model.ts";

/** Readings in a block: where an event has none of a resource, there is none. */
export function readingsOf(block: Block): number {
  let readings = 0;
  for (const column of block.columns) for (const value of column) if (value !== undefined) readings++;
  return readings;
}

/** The least and the greatest of origins, one at the least. */
export function spanOf(origins: readonly bigint[]): { min: bigint; max: bigint } {
  let min = origins[0];
  let max = min;
  for (const origin of origins) {
    if (origin < min) min = origin;
    if (origin > max) max = origin;
  }
  return { min, max };
}

/** The row of a sequence, -1 where it is not in the block. */
export function rowOf({ sequences }: Block, sequence: number): number {
  let low = 0;
  let high = sequences.length - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    if (sequences[middle] === sequence) return middle;
    if (sequences[middle] < sequence) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

/** A block of those rows that are to stay; the block itself where all are. */
export function keepRows(block: Block, stays: (row: number) => boolean): Block {
  const rows: number[] = [];
  for (let row = 0; row < block.sequences.length; row++) if (stays(row)) rows.push(row);
  if (rows.length === block.sequences.length) return block;
  const pick = <T>(from: readonly T[]): T[] => rows.map((row) => from[row]);
  const extras = new Map<number, Extra>();
  rows.forEach((row, to) => {
    const extra = block.extras.get(row);
    if (extra) extras.set(to, extra);
  });
  return {
    ...block,
    sequences: pick(block.sequences),
    origins: pick(block.origins),
    columns: block.columns.map(pick),
    extras,
  };
}

/**
 * Takes the readings out of a block that are among `known` already: of the same event and resource, with the same value.
 * Events that have no other reading go with them; columns keep their places, since readings' ids are made of them.
 */
export function withoutKnown(block: Block, known: readonly Block[]): Block {
  const gone = block.columns.map(() => new Set<number>());
  for (const other of known) if (isOfSameSource(block, other)) markKnown(block, other, gone);
  if (gone.every(({ size }) => size === 0)) return block;
  const columns = block.columns.map((column, k) =>
    gone[k].size === 0 ? column : column.map((value, row) => (gone[k].has(row) ? undefined : value)),
  );
  return keepRows({ ...block, columns }, (row) => columns.some((column) => column[row] !== undefined));
}

const isOfSameSource = (a: Block, b: Block): boolean =>
  a.publisher.epoch === b.publisher.epoch &&
  a.publisher.name === b.publisher.name &&
  a.series.deviceName === b.series.deviceName &&
  a.series.sourceName === b.series.sourceName;

function markKnown(block: Block, known: Block, gone: readonly Set<number>[]): void {
  const theirs = block.series.resources.map(({ name }) => known.series.resources.findIndex((r) => r.name === name));
  known.sequences.forEach((sequence, at) => {
    const row = rowOf(block, sequence);
    if (row < 0) return;
    theirs.forEach((column, k) => {
      const value = block.columns[k][row];
      if (column >= 0 && value !== undefined && isDeepStrictEqual(value, known.columns[column][at])) gone[k].add(row);
    });
  });
}
