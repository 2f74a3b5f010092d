/** What batches span, for the trace: a range per publisher and epoch, however many devices there are. */
import type { Block } from "../../kernel/events/model.ts";
import { headOfBlocks } from "../../kernel/events/codec.ts";
import type { Range } from "../../kernel/trace.ts";

interface Span {
  readonly publisher: { readonly name: string; readonly epoch: number };
  readonly first: number;
  readonly last: number;
}

function merge(spans: Iterable<Span>): Range[] {
  const ranges = new Map<string, { publisher: string; epoch: number; from: number; to: number }>();
  for (const {
    publisher: { name, epoch },
    first,
    last,
  } of spans) {
    const key = `${epoch} ${name}`;
    const range = ranges.get(key);
    if (!range) ranges.set(key, { publisher: name, epoch, from: first, to: last });
    else {
      range.from = Math.min(range.from, first);
      range.to = Math.max(range.to, last);
    }
  }
  return [...ranges.values()];
}

export const rangesOf = (blocks: readonly Block[]): Range[] =>
  merge(blocks.map(({ publisher, sequences }) => ({ publisher, first: sequences[0], last: sequences.at(-1)! })));

/** The same of encoded batches; nothing but their heads is read. */
export const rangesIn = (batches: readonly { readonly blocks: Uint8Array }[]): Range[] =>
  merge(
    batches.flatMap(({ blocks }) =>
      headOfBlocks(blocks).map(({ publisher, firstSequence, lastSequence }) => ({
        publisher,
        first: firstSequence,
        last: lastSequence,
      })),
    ),
  );
