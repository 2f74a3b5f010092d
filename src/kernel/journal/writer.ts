import { randomFillSync } from "node:crypto";
import { fail, type Failure } from "../error.ts";
import { BLOCK_END, BLOCK_HEADER_BYTES, BLOCK_RECORDS, NONCE_PREFIX_BYTES, sealBlock, tagOf, type BlockHeader } from "./block.ts";
import { close, errnoOf, sync, truncate, writeAt } from "./disk.ts";
import { JOURNAL_CLOSED, JOURNAL_DISK_FULL, JOURNAL_FULL, JOURNAL_SYNC_FAILED } from "./errors.ts";
import type { Ledger } from "./ledger.ts";
import { packedBytesMax, Packer, type Entry } from "./records.ts";
import { createSegment, SEGMENT_HEADER_BYTES, type SegmentEnd, type SegmentKeys } from "./segment.ts";
import { segmentOf, type Segment, type Segments } from "./segments.ts";
import { BlockIndex, type Found } from "./walk.ts";

/** What one write and one fdatasync carry at most (a single larger block goes alone): bounds the memory of sealing. */
const GROUP_BYTES_MAX = 4 * 1024 * 1024;

export interface Limits {
  readonly segmentBytesMax: number;
  readonly blockBytesMax: number;
  readonly sizeBytesMax: number;
  readonly queueBytesMax: number;
}

/** The end of the log, ready to be written on. */
export interface Tail {
  fd: number;
  keys: SegmentKeys;
  /** Number of the next block in the active segment. */
  blocks: number;
  tag: Buffer;
  /** The next position to hand out. */
  next: number;
}

/** Called with the first position, or with a rejected promise: resolving with one rejects, so one function per append is enough. */
export type Settle = (first: number | Promise<never>) => void;

/** A block still open: records, and who waits for them. */
interface Pending {
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

export interface DurableBlock extends Found {
  readonly segment: Segment;
  readonly plain: Buffer;
}

/**
 * Writes the log: what is appended while a sync runs goes into the next write and sync together. All changes to the files
 * happen in one loop, one after the other.
 */
export class Writer {
  syncs = 0;
  last: number;
  readonly #segments: Segments;
  readonly #tail: Tail;
  readonly #limits: Limits;
  readonly #ledger: Ledger;
  readonly #onDurable: (blocks: readonly DurableBlock[]) => void;
  readonly #prefix = Buffer.alloc(NONCE_PREFIX_BYTES);
  #pending: Pending[] = [];
  #queuedBytes = 0;
  #usedBlockBytes = 0;
  #waiting: Waiting[] = [];
  #chores: (() => Promise<void>)[] = [];
  #isRunning = false;
  #refusal: Failure | undefined;
  #closed: Failure | undefined;

  constructor(segments: Segments, tail: Tail, limits: Limits, ledger: Ledger, onDurable: (blocks: readonly DurableBlock[]) => void) {
    this.#segments = segments;
    this.#tail = tail;
    this.#limits = limits;
    this.#ledger = ledger;
    this.#onDurable = onDurable;
    this.last = tail.next - 1;
    randomFillSync(this.#prefix);
  }

  /** Every position below it may be on its way to the disk. */
  get next(): number {
    return this.#tail.next;
  }

  /** Takes entries that belong together, to be settled once they are on the disk; the queue being full, they wait outside, in order. */
  append(entries: readonly Entry[], settle: Settle): void {
    const refusal = this.#closed ?? this.#refusal;
    if (refusal) return settle(Promise.reject(refusal));
    let bytes = 0;
    for (const entry of entries) bytes += packedBytesMax(entry);
    if (this.#waiting.length > 0 || (this.#queuedBytes > 0 && this.#queuedBytes + bytes > this.#limits.queueBytesMax)) {
      this.#waiting.push({ entries, bytes, settle });
      return;
    }
    this.#admit(entries, bytes, settle);
  }

  #admit(entries: readonly Entry[], bytes: number, settle: Settle): void {
    const size = this.#segments.sizeBytes + this.#queuedBytes + this.#pending.length * BLOCK_HEADER_BYTES;
    if (size + bytes + BLOCK_HEADER_BYTES > this.#limits.sizeBytesMax) {
      return settle(Promise.reject(fail(JOURNAL_FULL, `the journal in ${this.#segments.directory} has reached its ${this.#limits.sizeBytesMax} bytes; nothing was dropped`)));
    }
    let block = this.#pending.at(-1);
    if (!block || block.packer.usedBytes + bytes > this.#limits.blockBytesMax) {
      // As large as the last one turned out: neither 64 KiB for one small record nor five doublings for a full block.
      block = { packer: new Packer(Math.max(bytes, this.#usedBlockBytes)), settles: [], offsets: [] };
      this.#pending.push(block);
    }
    block.settles.push(settle);
    block.offsets.push(block.packer.count);
    const before = block.packer.usedBytes;
    for (const entry of entries) block.packer.add(entry);
    this.#queuedBytes += block.packer.usedBytes - before;
    this.#wake();
  }

  /** Runs something in the loop: no write, sync or other chore runs at the same time. */
  chore<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#chores.push(() => work().then(resolve, reject));
      this.#wake();
    });
  }

  /** Makes sure that the next record has at least this position: somebody holds earlier ones that the disk has lost. */
  skipTo(position: number): void {
    this.#tail.next = Math.max(this.#tail.next, position);
  }

  #wake(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    // Not at once: all that this turn of the event loop still appends belongs into the same group.
    setImmediate(() => void this.#run());
  }

  async #run(): Promise<void> {
    for (;;) {
      const chore = this.#chores.shift();
      if (chore) await chore();
      else if (this.#pending.length > 0) await this.#commit();
      else if (this.#waiting.length > 0) this.#letIn();
      else break;
    }
    this.#isRunning = false;
  }

  #letIn(): void {
    let count = 0;
    for (const { entries, bytes, settle } of this.#waiting) {
      if (this.#queuedBytes > 0 && this.#queuedBytes + bytes > this.#limits.queueBytesMax) break;
      count++;
      if (this.#refusal) settle(Promise.reject(this.#refusal));
      else this.#admit(entries, bytes, settle);
    }
    this.#waiting.splice(0, count);
  }

  /** Writes and syncs one group: as many of the pending blocks as one write and the active segment take. */
  async #commit(): Promise<void> {
    const group: Pending[] = [];
    try {
      if (this.#refusal) throw this.#refusal;
      const segment = this.#segments.active;
      const room = this.#limits.segmentBytesMax - (segment.bytes - SEGMENT_HEADER_BYTES);
      let bytes = 0;
      for (const block of this.#pending) {
        const blockBytes = BLOCK_HEADER_BYTES + block.packer.usedBytes;
        // A block larger than a whole segment gets a segment to itself.
        const isFirst = group.length === 0 && this.#tail.blocks === 0;
        if (!isFirst && bytes + blockBytes > room) break;
        if (group.length > 0 && bytes + blockBytes > GROUP_BYTES_MAX) break;
        bytes += blockBytes;
        group.push(block);
      }
      if (group.length === 0) return await this.roll();
      this.#pending.splice(0, group.length);
      await this.#write(group, segment);
    } catch (caught) {
      const failed = group.length > 0 ? group : this.#pending.splice(0);
      const failure = this.#failureOf(caught);
      for (const block of failed) this.#queuedBytes -= block.packer.usedBytes;
      for (const block of failed) for (const settle of block.settles) settle(Promise.reject(failure));
    }
    if (this.#waiting.length > 0) this.#letIn();
  }

  async #write(group: readonly Pending[], segment: Segment): Promise<void> {
    const buffers: Buffer[] = [];
    const blocks: DurableBlock[] = [];
    let { next, blocks: number } = this.#tail;
    let offset = segment.bytes;
    for (const { packer } of group) {
      const plain = packer.bytes;
      const block: BlockHeader = { bodyBytes: plain.byteLength, number: number++, first: next, type: BLOCK_RECORDS, count: packer.count };
      const { header, body } = sealBlock(this.#tail.keys.block, segment.number, this.#prefix, block, plain);
      buffers.push(header, body);
      blocks.push({ ...block, offset, segment, plain });
      next += packer.count;
      offset += BLOCK_HEADER_BYTES + body.byteLength;
    }
    // While the write is under way `next` covers it: a follower cannot know these positions, and `skipTo` must not mistake them.
    const before = this.#tail.next;
    this.#tail.next = next;
    try {
      await writeAt(this.#tail.fd, buffers, segment.bytes);
    } catch (caught) {
      await this.#cutBack(segment, caught);
      if (this.#tail.next === next) this.#tail.next = before;
      throw caught;
    }
    await this.#sync(segment);
    const header = buffers.at(-2);
    if (header) this.#tail.tag = tagOf(header);
    this.#tail.blocks = number;
    this.#segments.setBytes(segment, offset);
    segment.index ??= new BlockIndex();
    this.last = next - 1;
    this.#onDurable(blocks);
    for (const [i, block] of group.entries()) this.#settle(block, blocks[i]?.first ?? 0);
  }

  #settle(block: Pending, first: number): void {
    this.#queuedBytes -= block.packer.usedBytes;
    this.#usedBlockBytes = block.packer.usedBytes;
    for (let i = 0; i < block.settles.length; i++) block.settles[i]?.(first + (block.offsets[i] ?? 0));
  }

  async #sync(segment: Segment): Promise<void> {
    this.syncs++;
    try {
      await sync(this.#tail.fd);
    } catch (caught) {
      // After a failed fsync the kernel forgets the dirty pages and the next fsync "succeeds": nothing written since the last
      // good one can be trusted, nor anything after it. So the journal stops here, and leaves only what was confirmed.
      this.#refusal = fail(JOURNAL_SYNC_FAILED, `the disk did not confirm a write to ${segment.name}; nothing is accepted until the journal is opened again`, { cause: caught });
      await this.#cutBack(segment, caught);
      throw this.#refusal;
    }
  }

  /** Removes what a failed write has left, so that the file ends with its last good block. */
  async #cutBack(segment: Segment, cause: unknown): Promise<void> {
    // The cut-off blocks may have reached the disk: their numbers must not meet the same nonces again.
    randomFillSync(this.#prefix);
    try {
      await truncate(this.#tail.fd, segment.bytes);
      const errno = errnoOf(cause);
      if (errno === "ENOSPC" || errno === "EDQUOT" || this.#refusal) return;
    } catch (caught) {
      cause = caught;
    }
    this.#refusal ??= fail(JOURNAL_SYNC_FAILED, `writing to ${segment.name} failed; nothing is accepted until the journal is opened again`, { cause });
  }

  #failureOf(caught: unknown): Failure {
    if (this.#refusal) return this.#refusal;
    const errno = errnoOf(caught);
    if (errno === "ENOSPC" || errno === "EDQUOT") {
      return fail(JOURNAL_DISK_FULL, `the disk under ${this.#segments.directory} is full; nothing that was acknowledged is affected`, { cause: caught });
    }
    this.#refusal = fail(JOURNAL_SYNC_FAILED, `writing to the journal in ${this.#segments.directory} failed`, { cause: caught });
    return this.#refusal;
  }

  /** Goes on in a new segment; only within the loop. Rejects with the errno of the disk, and then nothing has changed. */
  async roll(): Promise<void> {
    const old = this.#segments.active;
    const { blocks, tag, next } = this.#tail;
    const end: SegmentEnd = { first: old.first, last: next - 1, blocks, bytes: old.bytes, tag };
    const { fd, keys } = await createSegment(this.#segments.directory, this.#segments.key, { number: old.number + 1, first: next, previous: end });
    const closing = { fd: this.#tail.fd, keys: this.#tail.keys };
    old.end = end;
    this.#segments.push(segmentOf(old.number + 1, next, SEGMENT_HEADER_BYTES));
    this.#tail.fd = fd;
    this.#tail.keys = keys;
    this.#tail.blocks = 0;
    this.#tail.tag = Buffer.alloc(16);
    // Durable before anything in the new file is acknowledged: from now on the loss of that file would be seen.
    const seal = sealBlock(closing.keys.block, old.number, this.#prefix, { number: blocks, first: next, type: BLOCK_END, count: 0 }, new Uint8Array(0));
    try {
      await writeAt(closing.fd, [seal.header], end.bytes);
      await sync(closing.fd);
      this.#segments.setBytes(old, end.bytes + BLOCK_HEADER_BYTES);
    } catch (caught) {
      // Nothing that was acknowledged depends on it: the next header says the same.
      this.#ledger.warn({ err: caught, segment: old.name }, "the end of a journal segment could not be marked");
    }
    await close(closing.fd);
  }

  /** Refuses new appends, waits for those under way, and closes the file. */
  async close(): Promise<void> {
    this.#closed = fail(JOURNAL_CLOSED, `the journal in ${this.#segments.directory} is closed`);
    while (this.#isRunning) await this.chore(async () => undefined).then(() => new Promise((resolve) => setImmediate(resolve)));
    await close(this.#tail.fd);
  }
}
