/** What the records of the bus's journal are. */
import type { BlockHead } from "../../kernel/events/codec.ts";

/** Kinds of records. */
export const KIND = { events: 1, message: 2, foreign: 3 } as const;

/** What a record's heads say together: one publisher, one epoch, the sequences from the first to the last. */
export function rangeOf(heads: readonly BlockHead[]): {
  publisher: string;
  epoch: number;
  from: number;
  to: number;
  rows: number;
} {
  const { name, epoch } = heads[0].publisher;
  let [from, to, rows] = [Infinity, 0, 0];
  for (const head of heads) {
    from = Math.min(from, head.firstSequence);
    to = Math.max(to, head.lastSequence);
    rows += head.rows;
  }
  return { publisher: name, epoch, from, to, rows };
}
