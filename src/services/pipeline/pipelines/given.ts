/** Counts the events that a pipeline gives: the same every time they are made, so that the count says which the outbox has. */
import { sliceBlock } from "../../../kernel/events/blocks.ts";
import type { Block } from "../../../kernel/events/model.ts";

export class Given {
  /** Events given since the pipeline is there. */
  events = 0;
  /** Events to come that the outbox has already. */
  drop = 0;

  /** Counts what the functions gave, and leaves out what the outbox has of it. */
  fresh(blocks: readonly Block[]): Block[] {
    const fresh: Block[] = [];
    for (const block of blocks) {
      const events = block.sequences.length;
      const known = Math.min(events, this.drop);
      this.drop -= known;
      this.events += events;
      if (known < events) fresh.push(known === 0 ? block : sliceBlock(block, known, events));
    }
    return fresh;
  }

  /** Gives the last of what was given before once more, of which the outbox misses no more than so many events at the end. */
  again(blocks: readonly Block[], missing: number): Block[] {
    const { drop } = this;
    const events = eventsIn(blocks);
    this.events -= events;
    this.drop = Math.max(0, events - Math.max(0, missing));
    const fresh = this.fresh(blocks);
    this.drop = drop;
    return fresh;
  }
}

export const eventsIn = (blocks: readonly Block[]): number =>
  blocks.reduce((sum, block) => sum + block.sequences.length, 0);
