import type { Segment } from "./segments.ts";
import type { Found } from "./walk.ts";

/** Followers at the end of the log read what was just written from here, without disk or cipher; above it the oldest block goes. */
const CACHE_BYTES_MAX = 1024 * 1024;

/** A block with its records in plain. */
export interface OpenedBlock {
  readonly segment: Segment;
  readonly found: Found;
  readonly plain: Buffer;
}

/** Keeps the blocks that were opened or written last. */
export class BlockCache {
  readonly #blocks = new Map<number, OpenedBlock>();
  #bytes = 0;

  get(segment: Segment, offset: number): OpenedBlock | undefined {
    const block = this.#blocks.get(keyOf(segment, offset));
    return block?.segment === segment ? block : undefined;
  }

  keep(block: OpenedBlock): void {
    const key = keyOf(block.segment, block.found.offset);
    this.#drop(key);
    this.#blocks.set(key, block);
    // What it keeps alive, which is more than what is used of it.
    this.#bytes += block.plain.buffer.byteLength;
    for (const oldest of this.#blocks.keys()) {
      if (this.#bytes <= CACHE_BYTES_MAX) break;
      this.#drop(oldest);
    }
  }

  /** Lets go of the blocks of segments that are gone. */
  forgetBelow(number: number): void {
    for (const [key, block] of this.#blocks) if (block.segment.number < number) this.#drop(key);
  }

  #drop(key: number): void {
    const block = this.#blocks.get(key);
    if (!block) return;
    this.#bytes -= block.plain.buffer.byteLength;
    this.#blocks.delete(key);
  }
}

// Offsets are below 2^32 and the number's low 20 bits keep the product exact; the segment is compared on every hit.
const keyOf = (segment: Segment, offset: number): number => (segment.number % 2 ** 20) * 2 ** 32 + offset;
