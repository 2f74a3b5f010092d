import type { Failure } from "../error.ts";
import { BLOCK_HEADER_BYTES } from "./block.ts";
import { packedBytesMax, Packer, type Entry } from "./records.ts";

/** What one write and one fdatasync carry at most (a single larger block goes alone): bounds the memory of sealing. */
const GROUP_BYTES_MAX = 4 * 1024 * 1024;

/** Called with the first position, or with a rejected promise: resolving with one rejects, so one function per append is enough. */
export type Settle = (first: number | Promise<never>) => void;

/** A block still open: records, and who waits for them. */
export interface OpenBlock {
  readonly packer: Packer;
  readonly settles: Settle[];
  /** Index in the block of the first record of each. */
  readonly offsets: number[];
}

interface Waiting {
  readonly entries: readonly Entry[];
  readonly bytes: number;
  readonly settle: Settle;
}

/** What was appended and is not on the disk yet: packed into blocks at once, or waiting outside when there is too much of it. */
export class Queue {
  readonly #queueBytesMax: number;
  readonly #blockBytesMax: number;
  /** Says why so many bytes more than what is queued may not come in. */
  readonly #refuse: (queuedBytes: number) => Failure | undefined;
  readonly #blocks: OpenBlock[] = [];
  readonly #waiting: Waiting[] = [];
  #bytes = 0;
  #usedBlockBytes = 0;

  constructor(
    limits: { readonly queueBytesMax: number; readonly blockBytesMax: number },
    refuse: (queuedBytes: number) => Failure | undefined,
  ) {
    this.#queueBytesMax = limits.queueBytesMax;
    this.#blockBytesMax = limits.blockBytesMax;
    this.#refuse = refuse;
  }

  get isEmpty(): boolean {
    return this.#blocks.length === 0 && this.#waiting.length === 0;
  }

  /** Takes entries that belong together into one block; those that come while the queue is full wait their turn. */
  add(entries: readonly Entry[], settle: Settle): void {
    let bytes = 0;
    for (const entry of entries) bytes += packedBytesMax(entry);
    if (this.#waiting.length > 0 || !this.#hasRoomFor(bytes)) this.#waiting.push({ entries, bytes, settle });
    else this.#admit(entries, bytes, settle);
  }

  // A group larger than the queue comes in when it is alone.
  #hasRoomFor(bytes: number): boolean {
    return this.#bytes === 0 || this.#bytes + bytes <= this.#queueBytesMax;
  }

  #admit(entries: readonly Entry[], bytes: number, settle: Settle): void {
    const refusal = this.#refuse(this.#bytes + (this.#blocks.length + 1) * BLOCK_HEADER_BYTES + bytes);
    if (refusal) return settle(Promise.reject(refusal));
    let block = this.#blocks.at(-1);
    if (!block || block.packer.usedBytes + bytes > this.#blockBytesMax) {
      // As large as the last one turned out: neither 64 KiB for one small record nor five doublings for a full block.
      block = { packer: new Packer(Math.max(bytes, this.#usedBlockBytes)), settles: [], offsets: [] };
      this.#blocks.push(block);
    }
    block.settles.push(settle);
    block.offsets.push(block.packer.count);
    const before = block.packer.usedBytes;
    for (const entry of entries) block.packer.add(entry);
    this.#bytes += block.packer.usedBytes - before;
  }

  /** Lets in those who wait, as far as there is room. */
  letIn(): void {
    let count = 0;
    for (const { entries, bytes, settle } of this.#waiting) {
      if (!this.#hasRoomFor(bytes)) break;
      count++;
      this.#admit(entries, bytes, settle);
    }
    this.#waiting.splice(0, count);
  }

  /** Takes out as many blocks as one write, and a segment with so much room, can carry; one at least if `isForced`. */
  take(roomBytes: number, isForced: boolean): OpenBlock[] {
    let count = 0;
    let bytes = 0;
    for (const block of this.#blocks) {
      bytes += BLOCK_HEADER_BYTES + block.packer.usedBytes;
      if (bytes > roomBytes && !(isForced && count === 0)) break;
      if (bytes > GROUP_BYTES_MAX && count > 0) break;
      count++;
    }
    return this.#blocks.splice(0, count);
  }

  takeAll(): OpenBlock[] {
    return this.#blocks.splice(0);
  }

  /** Tells everyone who waits for a block that was taken at which position it begins. */
  resolve({ packer, settles, offsets }: OpenBlock, first: number): void {
    this.#bytes -= packer.usedBytes;
    this.#usedBlockBytes = packer.usedBytes;
    for (let i = 0; i < settles.length; i++) settles[i]?.(first + (offsets[i] ?? 0));
  }

  /** Tells everyone who waits for blocks that were taken that they are not kept. */
  reject(blocks: readonly OpenBlock[], failure: Failure): void {
    for (const { packer } of blocks) this.#bytes -= packer.usedBytes;
    for (const { settles } of blocks) for (const settle of settles) settle(Promise.reject(failure));
  }
}
