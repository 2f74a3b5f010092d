/** What of a backfill is here already: looked for before it is kept, without holding up what comes in meanwhile. */
import { decodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { withoutKnown } from "../../kernel/events/rows.ts";
import { BACKFILL_PREFIX } from "./backfill.api.ts";
import type { Batch } from "./api.ts";
import type { turns } from "./query.ts";
import type { CloudStore } from "./store.ts";

/** The backfill that a batch belongs to. */
export const backfillOf = ({ pipeline }: Pick<Batch, "pipeline">): string | undefined =>
  pipeline.startsWith(BACKFILL_PREFIX) ? pipeline.slice(BACKFILL_PREFIX.length) : undefined;

/** Blocks that a node's backfill batches may have readings of, as far as they were kept up to batch `through`. */
export interface Known {
  readonly blocks: readonly Block[];
  /** What was kept since is to be looked through, too. */
  readonly through: number;
}

const NOTHING: Known = { blocks: [], through: 0 };

/** Looks through what is here. A batch that cannot be read is none: `accept` refuses it. */
export async function findKnown(
  store: CloudStore,
  edge: string,
  batches: readonly Batch[],
  turn: ReturnType<typeof turns>,
): Promise<Known> {
  const wanted = batches.filter((batch) => backfillOf(batch) !== undefined).flatMap(({ blocks }) => readable(blocks));
  if (wanted.length === 0) return NOTHING;
  const through = store.kept.last;
  const blocks: Block[] = [];
  for (const block of wanted)
    for (const overlapping of store.kept.overlapping(edge, block, 0)) {
      if (overlapping) blocks.push(overlapping);
      await turn();
    }
  return { blocks, through };
}

/** Leaves what is not here yet; in the transaction that keeps it. */
export function leaveUnknown(store: CloudStore, edge: string, blocks: readonly Block[], known: Known): Block[] {
  return blocks
    .map((block) => {
      const since = [...store.kept.overlapping(edge, block, known.through)].filter((other) => other !== undefined);
      return withoutKnown(block, [...known.blocks, ...since]);
    })
    .filter(({ sequences }) => sequences.length > 0);
}

function readable(bytes: Uint8Array): Block[] {
  try {
    return decodeBlocks(bytes);
  } catch {
    // Said where it is refused.
    return [];
  }
}
