import { BLOCK_HEADER_BYTES, BLOCK_RECORDS, openBlock, tagOf } from "./block.ts";
import { BlockCache, type OpenedBlock } from "./cache.ts";
import { errnoOf } from "./disk.ts";
import type { Ledger } from "./ledger.ts";
import { unpack, type JournalRecord, type UnpackLimits } from "./records.ts";
import { SEGMENT_HEADER_BYTES } from "./segment.ts";
import type { Handle, Segment, Segments } from "./segments.ts";
import { findBlock, placeAfter, Window, type Found, type Place } from "./walk.ts";
import type { DurableBlock, Writer } from "./writer.ts";

const READ_BYTES_DEFAULT = 1024 * 1024;
const READ_RECORDS_DEFAULT = 10_000;
/** A read looks through so many bytes and then answers, whatever it found: a rare match must not hold up the event loop. */
const SCAN_BYTES_MAX = 8 * 1024 * 1024;
/** Places kept where reads have ended: a follower's next read goes on there. */
const CURSORS_MAX = 256;
/** A follower may know this many positions that the journal has lost; one further ahead talks of another journal. */
const POSITION_JUMP_MAX = 2 ** 24;

export interface ReadOptions {
  bytesMax?: number;
  recordsMax?: number;
  match?: (kind: number, key: string) => boolean;
}

export interface ReadResult {
  records: JournalRecord[];
  next: number;
  gap?: { from: number; to: number };
}

/** One call of `read` under way. */
class Run {
  readonly records: JournalRecord[] = [];
  readonly limits: UnpackLimits;
  readonly #from: number;
  want: number;
  scanLeft = SCAN_BYTES_MAX;
  gap: { from: number; to: number } | undefined;

  constructor(from: number, options: ReadOptions) {
    this.#from = from;
    this.want = from;
    this.limits = {
      from,
      bytesLeft: Math.max(1, options.bytesMax ?? READ_BYTES_DEFAULT),
      recordsLeft: Math.max(1, options.recordsMax ?? READ_RECORDS_DEFAULT),
      match: options.match,
    };
  }

  get isDone(): boolean {
    return this.limits.bytesLeft <= 0 || this.limits.recordsLeft <= 0 || this.scanLeft <= 0;
  }

  /** Learns that the next position there is is `first`; false when that leaves a gap which only the next read can tell, at its beginning. */
  arriveAt(first: number): boolean {
    if (first <= this.want) return true;
    if (this.want !== (this.gap ? this.gap.to + 1 : this.#from)) return false;
    this.gap = { from: this.gap?.from ?? this.want, to: first - 1 };
    this.want = first;
    return true;
  }
}

/** Reads the log from any position on. */
export class Reader {
  readonly #segments: Segments;
  readonly #writer: Writer;
  readonly #ledger: Ledger;
  readonly #cache = new BlockCache();
  readonly #cursors = new Map<number, { segment: Segment; place: Place }>();

  constructor(segments: Segments, writer: Writer, ledger: Ledger) {
    this.#segments = segments;
    this.#writer = writer;
    this.#ledger = ledger;
  }

  async read(after: number, options: ReadOptions): Promise<ReadResult> {
    if (after > this.#writer.last) return { records: [], next: this.heed(after) };
    const run = new Run(after + 1, options);
    let { segment, place } = this.#locate(run.want);
    while (run.arriveAt(segment.first)) {
      const stopped = await this.#readSegment(run, segment, place);
      const following = this.#segments.after(segment);
      if (stopped || run.want > this.#writer.last || run.isDone) break;
      if (!following) {
        run.arriveAt(this.#writer.last + 1);
        break;
      }
      segment = following;
      place = startOf(segment);
    }
    if (this.#ledger.isDirty) this.#saveLedger();
    return run.gap
      ? { records: run.records, next: run.want - 1, gap: run.gap }
      : { records: run.records, next: run.want - 1 };
  }

  /** Learns from a follower who has read further than the journal reaches, and answers from where that one should go on. */
  heed(after: number): number {
    const last = this.#writer.last;
    if (after < this.#writer.next) return after;
    if (after - last > POSITION_JUMP_MAX) return last;
    // It was acknowledged once, so the end of the log is lost, cut off where no trace is left. The positions must not be given out
    // a second time: this follower would take the new records for those that it has.
    this.#ledger.lose({
      reason: `a follower has read up to position ${after}, but the journal ended at ${last}: its end was cut off`,
      segment: this.#segments.active.name,
      firstPosition: last + 1,
      lastPosition: after,
      bytes: 0,
    });
    this.#writer.skipTo(after + 1);
    return after;
  }

  #locate(position: number): { segment: Segment; place: Place } {
    const cursor = this.#cursors.get(position);
    if (cursor && !cursor.segment.isDead && this.#segments.byNumber(cursor.segment.number) === cursor.segment)
      return cursor;
    const segment = this.#segments.at(position);
    return { segment, place: segment.index?.before(position) ?? startOf(segment) };
  }

  /** Reads on in one segment; answers true when the run has to end here, false when the segment did. */
  async #readSegment(run: Run, segment: Segment, start: Place): Promise<boolean> {
    let handle: Handle | undefined;
    let window: Window | undefined;
    let place = start;
    try {
      for (;;) {
        let block = this.#cache.get(segment, place.offset);
        if (!block) {
          handle ??= await this.#segments.acquire(segment);
          window ??= new Window(handle.fd, segment.bytes);
          const found = await findBlock(window, place);
          this.#tellDamage(segment, place, found);
          if (!found) return this.#keepPlace(run, segment, place, false);
          segment.index?.note(found);
          place = placeAfter(found);
          if (found.type === BLOCK_RECORDS && place.first <= run.want) continue;
          block = await this.#open(handle, window, found);
          if (!block) continue;
        }
        const { found, plain } = block;
        place = placeAfter(found);
        if (!run.arriveAt(found.first)) return this.#keepPlace(run, segment, found, true);
        if (found.type === BLOCK_RECORDS) {
          run.limits.from = run.want;
          run.want = Math.max(run.want, unpack(plain, found.first, found.count, run.limits, run.records));
          run.scanLeft -= plain.byteLength;
          if (run.want < place.first) return this.#keepPlace(run, segment, found, true);
        }
        if (run.isDone) return this.#keepPlace(run, segment, place, true);
      }
    } catch (caught) {
      const errno = errnoOf(caught);
      if (errno !== "ENOENT" && errno !== "EIO") throw caught;
      this.#giveUp(segment);
      return false;
    } finally {
      if (handle) this.#segments.release(handle);
    }
  }

  #keepPlace(run: Run, segment: Segment, place: Place, answer: boolean): boolean {
    this.#cursors.delete(run.want);
    this.#cursors.set(run.want, { segment, place });
    if (this.#cursors.size > CURSORS_MAX)
      for (const oldest of this.#cursors.keys()) {
        this.#cursors.delete(oldest);
        break;
      }
    return answer;
  }

  async #open(handle: Handle, window: Window, found: Found): Promise<OpenedBlock | undefined> {
    const { segment } = handle;
    const bytes = BLOCK_HEADER_BYTES + found.bodyBytes;
    const sealed = window.get(found.offset, bytes) ?? (await window.load(found.offset, bytes));
    const plain = openBlock(handle.keys.block, segment.number, sealed, 0, found.bodyBytes);
    // The last block must be the very one that the next segment's header names, not an earlier try with the same number.
    const isOther =
      segment.end !== undefined && found.number === segment.end.blocks - 1 && !tagOf(sealed).equals(segment.end.tag);
    if (!plain || isOther) {
      this.#ledger.lose(
        {
          reason: "a block is damaged",
          segment: segment.name,
          firstPosition: found.first,
          lastPosition: found.first + found.count - 1,
          bytes,
        },
        segment.number,
        found.offset,
      );
      return undefined;
    }
    const block = { segment, found, plain };
    if (found.type === BLOCK_RECORDS) this.#cache.keep(block);
    return block;
  }

  #tellDamage(segment: Segment, place: Place, found: Found | undefined): void {
    if (found) {
      // First position alone further on: positions that were skipped on purpose, and told then.
      if (found.first <= place.first || (found.number === place.number && found.offset === place.offset)) return;
      this.#ledger.lose(
        {
          reason: "blocks are damaged",
          segment: segment.name,
          firstPosition: place.first,
          lastPosition: found.first - 1,
          bytes: found.offset - place.offset,
        },
        segment.number,
        place.offset,
      );
    } else if (segment.end && place.number < segment.end.blocks && place.first <= segment.end.last) {
      const bytes = Math.max(0, segment.end.bytes - place.offset);
      this.#ledger.lose(
        {
          reason: "the end of a segment is damaged or cut off",
          segment: segment.name,
          firstPosition: place.first,
          lastPosition: segment.end.last,
          bytes,
        },
        segment.number,
        place.offset,
      );
    }
  }

  /** The file has vanished, or its header has become unreadable, while the journal is open. */
  #giveUp(segment: Segment): void {
    if (segment.isDead || !this.#segments.list.includes(segment)) return; // trimmed in the meantime
    const isActive = segment === this.#segments.active;
    const lastPosition = (this.#segments.after(segment)?.first ?? this.#writer.next) - 1;
    segment.isDead = true;
    if (lastPosition >= segment.first) {
      this.#ledger.lose(
        {
          reason: "a segment's file was deleted or has become unreadable",
          segment: segment.name,
          firstPosition: segment.first,
          lastPosition,
          bytes: segment.bytes,
        },
        segment.number,
        0,
      );
    }
    // What is written into a file without a name is lost when it is closed: go on in another one.
    if (isActive)
      this.#writer
        .chore(() => this.#writer.roll())
        .catch((caught: unknown) => this.#ledger.warn({ err: caught }, "no new segment could be started"));
  }

  #saveLedger(): void {
    this.#writer
      .chore(() => this.#ledger.save())
      .catch((caught: unknown) =>
        this.#ledger.warn(
          { err: caught },
          "the journal's ledger could not be written; its losses will be reported again",
        ),
      );
  }

  /** Takes over what was just written. */
  remember(blocks: readonly DurableBlock[]): void {
    for (const { segment, plain, ...found } of blocks) {
      segment.index?.note(found);
      this.#cache.keep({ segment, found, plain });
    }
  }

  /** Lets go of everything from segments that are gone. */
  forgetBelow(number: number): void {
    for (const [position, cursor] of this.#cursors) if (cursor.segment.number < number) this.#cursors.delete(position);
    this.#cache.forgetBelow(number);
  }
}

const startOf = (segment: Segment): Place => ({ number: 0, first: segment.first, offset: SEGMENT_HEADER_BYTES });
