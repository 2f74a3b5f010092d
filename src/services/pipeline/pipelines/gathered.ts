/** What a pipeline has gathered for its next batch. */
import type { Block } from "../../../kernel/events/model.ts";
import { BATCH_BYTES_MAX, BATCH_VALUES_MAX, valuesOf } from "../batch.ts";

export class Gathered {
  blocks: Block[] = [];
  events = 0;
  /** When the first of them came, on the monotonic clock. */
  startMs = 0;
  #values = 0;
  #bytes = 0;

  /** Adds blocks that take about so many bytes. */
  add(blocks: readonly Block[], bytes: number, nowMs: number): void {
    if (blocks.length === 0) return;
    if (this.events === 0) this.startMs = nowMs;
    for (const block of blocks) {
      this.blocks.push(block);
      this.events += block.sequences.length;
      this.#values += valuesOf(block);
    }
    this.#bytes += bytes;
  }

  /** Tells whether a batch is full, or would be with so many values and bytes more. */
  isFull(eventsMax: number, values = 0, bytes = 0): boolean {
    return (
      this.events >= eventsMax || this.#values + values > BATCH_VALUES_MAX || this.#bytes + bytes > BATCH_BYTES_MAX
    );
  }
}
