/** A stage of a pipeline: what one function does to the blocks that come by. */
import type { Block } from "../../../kernel/events/model.ts";

/**
 * Blocks go in, blocks come out; a block that came in stays as it is. A stage with a memory saves and loads it, and is
 * deterministic: the same blocks and times after `load` give the same output.
 */
export interface Stage {
  push(block: Block): Block[];
  /** What is due by the time, though nothing came; it changes nothing where it gives nothing. */
  tick?(nowNs: bigint): Block[];
  /** What it still holds, when nothing will come any more. */
  flush?(): Block[];
  /** What it remembers, as values that CBOR carries. */
  save?(): unknown;
  load?(state: unknown): void;
  /** What it counts itself, through restarts. */
  report?(): { readonly readingsIn: number; readonly readingsOut: number; readonly errorMax?: number | undefined };
}

/** Makes a stage without a memory; `undefined` leaves the block out. */
export const stateless = (work: (block: Block) => Block | undefined): Stage => ({
  push(block) {
    const made = work(block);
    return made ? [made] : [];
  },
});
