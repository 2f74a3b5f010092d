/** Batches as they come in: what a publisher may send, and what of it is new. */
import { asFailure, fail, INPUT_TOO_LARGE } from "../../kernel/error.ts";
import { sliceBlock } from "../../kernel/events/blocks.ts";
import { decodeBlocks, encodeBlocks, type BlockHead } from "../../kernel/events/codec.ts";
import { APPEND_BYTES_MAX, BUS_BATCH_REFUSED } from "./api.ts";
import type { Run } from "./sequences.ts";
import { rangeOf } from "./records.ts";

/** Refuses what is larger than one message may be. */
export function within(bytes: Uint8Array): Uint8Array {
  if (bytes.length <= APPEND_BYTES_MAX) return bytes;
  throw fail(INPUT_TOO_LARGE, `${bytes.length} bytes at once; at most ${APPEND_BYTES_MAX} are allowed`);
}

/** Does work on a caller's blocks: whatever is wrong with them is BUS_BATCH_REFUSED. */
export function orRefuse<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    const failure = asFailure(error);
    throw failure.code === INPUT_TOO_LARGE.code ? failure : fail(BUS_BATCH_REFUSED, failure.message, { cause: error });
  }
}

/** Checks that a batch is of its caller and one epoch; answers its sequences. BUS_BATCH_REFUSED. */
export function ownRange(heads: readonly BlockHead[], caller: string): ReturnType<typeof rangeOf> {
  const range = rangeOf(heads);
  for (const { publisher } of heads) {
    if (publisher.name !== caller)
      throw fail(BUS_BATCH_REFUSED, `'${caller}' may not append events of publisher '${publisher.name.slice(0, 100)}'`);
    if (publisher.epoch !== range.epoch)
      throw fail(BUS_BATCH_REFUSED, `a batch has one epoch; this one has ${range.epoch} and ${publisher.epoch}`);
  }
  if (range.rows > range.to - range.from + 1)
    throw fail(BUS_BATCH_REFUSED, `${range.rows} events share the sequences ${range.from} to ${range.to}`);
  return range;
}

/** Leaves of a batch only the events of some runs of sequences. */
export function cut(bytes: Uint8Array, runs: readonly Run[]): Uint8Array {
  const blocks = decodeBlocks(bytes).flatMap((block) =>
    runs.flatMap(({ from, to }) => {
      const first = block.sequences.findIndex((s) => s >= from);
      const end = block.sequences.findLastIndex((s) => s <= to) + 1;
      return first >= 0 && first < end ? [sliceBlock(block, first, end)] : [];
    }),
  );
  return encodeBlocks(blocks);
}
