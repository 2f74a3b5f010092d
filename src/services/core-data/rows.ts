/** Rows of blocks: found, counted, taken out. */
import type { Block, Extra } from "../../kernel/events/model.ts";

/** Readings in a block: where an event has none of a resource, there is none. */
export function readingsOf(block: Block): number {
  let readings = 0;
  for (const column of block.columns) for (const value of column) if (value !== undefined) readings++;
  return readings;
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
