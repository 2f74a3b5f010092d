/** Records of the bus that were decoded lately: pipelines and rules follow the bus side by side, and one decodes for all. */
import { decodeBlocks } from "../../../kernel/events/codec.ts";
import type { Block } from "../../../kernel/events/model.ts";
import { valuesOf } from "../batch.ts";

/** Values that are kept; the oldest record goes first, and one that is larger is not kept at all. */
const VALUES_MAX = 131_072;

interface Kept {
  readonly blocks: readonly Block[];
  readonly payload: Uint8Array;
  readonly values: number;
}

export class Decoded {
  readonly #kept = new Map<number, Kept>();
  #values = 0;
  /** Followers of whole records; one alone has nothing to share. */
  followers = 0;

  /** Gives the blocks of a record, which nobody may change. EVENTS_MALFORMED. */
  of(position: number, payload: Uint8Array): readonly Block[] {
    const known = this.#kept.get(position);
    // A bus that has begun anew has other records under the same positions.
    if (known && Buffer.compare(known.payload, payload) === 0) return known.blocks;
    const blocks = decodeBlocks(payload);
    if (this.followers > 1) this.#keep(position, payload, blocks);
    return blocks;
  }

  #keep(position: number, payload: Uint8Array, blocks: readonly Block[]): void {
    const values = blocks.reduce((sum, block) => sum + valuesOf(block), 0);
    if (values > VALUES_MAX) return;
    this.#drop(position);
    this.#kept.set(position, { blocks, payload, values });
    this.#values += values;
    for (const oldest of this.#kept.keys()) {
      if (this.#values <= VALUES_MAX) break;
      this.#drop(oldest);
    }
  }

  #drop(position: number): void {
    this.#values -= this.#kept.get(position)?.values ?? 0;
    this.#kept.delete(position);
  }
}
