import { randomFillSync } from "node:crypto";
import { fail, type Failure } from "../error.ts";
import {
  BLOCK_END,
  BLOCK_HEADER_BYTES,
  BLOCK_RECORDS,
  NONCE_PREFIX_BYTES,
  sealBlock,
  tagOf,
  type BlockHeader,
} from "./block.ts";
import { close, errnoOf, isDiskFull, sync, truncate, writeAt } from "./disk.ts";
import {
  JOURNAL_CLOSED,
  JOURNAL_DIRECTORY_UNUSABLE,
  JOURNAL_DISK_FULL,
  JOURNAL_FULL,
  JOURNAL_SYNC_FAILED,
} from "./errors.ts";
import type { Ledger } from "./ledger.ts";
import { Queue, type OpenBlock, type Settle } from "./queue.ts";
import type { Entry } from "./records.ts";
import { createSegment, SEGMENT_HEADER_BYTES, type SegmentEnd, type SegmentKeys } from "./segment.ts";
import { segmentOf, type Segment, type Segments } from "./segments.ts";
import { BlockIndex, type Found } from "./walk.ts";

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
  readonly #queue: Queue;
  #chores: (() => Promise<void>)[] = [];
  #isRunning = false;
  #refusal: Failure | undefined;
  #closed: Failure | undefined;

  constructor(
    segments: Segments,
    tail: Tail,
    limits: Limits,
    ledger: Ledger,
    onDurable: (blocks: readonly DurableBlock[]) => void,
  ) {
    this.#segments = segments;
    this.#tail = tail;
    this.#limits = limits;
    this.#ledger = ledger;
    this.#onDurable = onDurable;
    this.#queue = new Queue(limits, (queuedBytes) => this.#refusalOf(queuedBytes));
    this.last = tail.next - 1;
    randomFillSync(this.#prefix);
  }

  /** Every position below it may be on its way to the disk. */
  get next(): number {
    return this.#tail.next;
  }

  /** Takes entries that belong together, to be settled once they are on the disk; the queue being full, they wait outside, in order. */
  append(entries: readonly Entry[], settle: Settle): void {
    if (this.#closed) return settle(Promise.reject(this.#closed));
    this.#queue.add(entries, settle);
    this.#wake();
  }

  #refusalOf(queuedBytes: number): Failure | undefined {
    if (this.#refusal || this.#segments.sizeBytes + queuedBytes <= this.#limits.sizeBytesMax) return this.#refusal;
    const about = `the journal in ${this.#segments.directory} has reached its ${this.#limits.sizeBytesMax} bytes`;
    return fail(JOURNAL_FULL, `${about}; nothing was dropped`);
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
      else if (this.#queue.isEmpty) break;
      else await this.#commit();
    }
    this.#isRunning = false;
  }

  /** Writes and syncs one group: as many of the queued blocks as one write and the active segment take. */
  async #commit(): Promise<void> {
    const segment = this.#segments.active;
    const room = this.#limits.segmentBytesMax - (segment.bytes - SEGMENT_HEADER_BYTES);
    // A block larger than a whole segment gets a segment to itself.
    const group = this.#queue.take(room, this.#tail.blocks === 0);
    try {
      if (this.#refusal) throw this.#refusal;
      if (group.length === 0) await this.roll();
      else await this.#write(group, segment);
    } catch (caught) {
      // Where no new segment could be begun nothing was written: the journal is as it was, and the next append tries again.
      if (group.length === 0) this.#queue.reject(this.#queue.takeAll(), this.#failureOf(caught, false));
      else this.#queue.reject(group, this.#failureOf(caught, true));
    }
    this.#queue.letIn();
  }

  async #write(group: readonly OpenBlock[], segment: Segment): Promise<void> {
    const buffers: Buffer[] = [];
    const blocks: DurableBlock[] = [];
    let { next, blocks: number } = this.#tail;
    let offset = segment.bytes;
    for (const { packer } of group) {
      const plain = packer.bytes;
      const block: BlockHeader = {
        bodyBytes: plain.byteLength,
        number: number++,
        first: next,
        type: BLOCK_RECORDS,
        count: packer.count,
      };
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
    for (const [i, block] of group.entries()) this.#queue.resolve(block, blocks[i]?.first ?? 0);
  }

  async #sync(segment: Segment): Promise<void> {
    this.syncs++;
    try {
      await sync(this.#tail.fd);
    } catch (caught) {
      // After a failed fsync the kernel forgets the dirty pages and the next fsync "succeeds": nothing written since the last
      // good one can be trusted, nor anything after it. So the journal stops here, and leaves only what was confirmed.
      this.#refusal = fail(
        JOURNAL_SYNC_FAILED,
        `the disk did not confirm a write to ${segment.name}; nothing is accepted until the journal is opened again`,
        { cause: caught },
      );
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
      if (isDiskFull(cause) || this.#refusal) return;
    } catch (caught) {
      cause = caught;
    }
    this.#refusal ??= fail(
      JOURNAL_SYNC_FAILED,
      `writing to ${segment.name} failed; nothing is accepted until the journal is opened again`,
      { cause },
    );
  }

  #failureOf(caught: unknown, isLasting: boolean): Failure {
    if (this.#refusal) return this.#refusal;
    const errno = errnoOf(caught);
    const { directory } = this.#segments;
    if (isDiskFull(caught)) {
      const about = `the disk under ${directory} is full; nothing that was acknowledged is affected`;
      return fail(JOURNAL_DISK_FULL, about, { cause: caught });
    }
    if (!isLasting) {
      return fail(JOURNAL_DIRECTORY_UNUSABLE, `no new segment can be begun in ${directory} (${errno})`, {
        cause: caught,
      });
    }
    this.#refusal = fail(JOURNAL_SYNC_FAILED, `writing to the journal in ${directory} failed`, { cause: caught });
    return this.#refusal;
  }

  /** Goes on in a new segment; only within the loop. Rejects with the errno of the disk, and then nothing has changed. */
  async roll(): Promise<void> {
    const old = this.#segments.active;
    const { blocks, tag, next } = this.#tail;
    const end: SegmentEnd = { first: old.first, last: next - 1, blocks, bytes: old.bytes, tag };
    const { fd, keys } = await createSegment(this.#segments.directory, this.#segments.keys, {
      number: old.number + 1,
      first: next,
      previous: end,
    });
    const closing = { fd: this.#tail.fd, keys: this.#tail.keys };
    old.end = end;
    this.#segments.push(segmentOf(old.number + 1, next, SEGMENT_HEADER_BYTES));
    this.#tail.fd = fd;
    this.#tail.keys = keys;
    this.#tail.blocks = 0;
    this.#tail.tag = Buffer.alloc(16);
    // Durable before anything in the new file is acknowledged: from now on the loss of that file would be seen.
    const seal = sealBlock(
      closing.keys.block,
      old.number,
      this.#prefix,
      { number: blocks, first: next, type: BLOCK_END, count: 0 },
      new Uint8Array(0),
    );
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
    while (this.#isRunning)
      await this.chore(async () => undefined).then(() => new Promise((resolve) => setImmediate(resolve)));
    await close(this.#tail.fd);
  }
}
