/** Counts what a batch holds. */
import type { Block } from "../../kernel/events/model.ts";

/** Counts the readings of a block: an absent value is none. */
export function readingsOf(block: Block): number {
  let readings = 0;
  for (const column of block.columns) for (const value of column) if (value !== undefined) readings++;
  return readings;
}
