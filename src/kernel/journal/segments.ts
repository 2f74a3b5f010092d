import { unlink } from "node:fs/promises";
import { join } from "node:path";
import { close, errnoOf, open, syncDirectory } from "./disk.ts";
import type { JournalKeys } from "./keys.ts";
import { Reserve } from "./reserve.ts";
import { readHeader, segmentName, type SegmentEnd, type SegmentKeys } from "./segment.ts";
import { BlockIndex } from "./walk.ts";

/** Files kept open for readers, with their keys and indexes: a few KiB each. */
const HANDLES_MAX = 4;

/** What is known of a file of the log. */
export interface Segment {
  readonly number: number;
  readonly name: string;
  first: number;
  /** So far it may be read: everything before is on the disk. */
  bytes: number;
  /** How it ended, as the next one's header says; undefined for the last one, or when that header is lost. */
  end: SegmentEnd | undefined;
  /** Its header is lost, and with it all that was sealed; it only waits for its deletion. */
  isDead: boolean;
  index: BlockIndex | undefined;
}

export const segmentOf = (number: number, first: number, bytes: number, isDead = false): Segment => ({
  number,
  name: segmentName(number),
  first,
  bytes,
  end: undefined,
  isDead,
  index: undefined,
});

/** A segment opened for reading; give it back with `release`. */
export interface Handle {
  readonly segment: Segment;
  readonly fd: number;
  readonly keys: SegmentKeys;
}

interface Shelf {
  readonly opening: Promise<Handle>;
  users: number;
  isGone: boolean;
}

/** The files of the log, in order; the last one is being written. */
export class Segments {
  readonly directory: string;
  readonly keys: JournalKeys;
  readonly list: Segment[];
  readonly reserve: Reserve;
  #sizeBytes = 0;
  readonly #shelves = new Map<Segment, Shelf>();

  constructor(directory: string, keys: JournalKeys, list: Segment[]) {
    this.directory = directory;
    this.keys = keys;
    this.list = list;
    this.reserve = new Reserve(directory);
    for (const segment of list) this.#sizeBytes += segment.bytes;
  }

  get active(): Segment {
    const last = this.list.at(-1);
    if (!last) throw new Error("a journal has at least one segment");
    return last;
  }

  /** The first position that any file may hold. */
  get first(): number {
    return (this.list.find((segment) => !segment.isDead) ?? this.active).first;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Says that a segment is durable up to so many bytes. */
  setBytes(segment: Segment, bytes: number): void {
    this.#sizeBytes += bytes - segment.bytes;
    segment.bytes = bytes;
  }

  /** Finds the readable segment in which a position would be, or the first one after it. */
  at(position: number): Segment {
    for (let i = this.list.length - 1; i >= 0; i--) {
      const segment = this.list[i];
      if (segment && !segment.isDead && segment.first <= position) return segment;
    }
    return this.list.find((segment) => !segment.isDead) ?? this.active;
  }

  byNumber(number: number): Segment | undefined {
    return this.list.find((segment) => segment.number === number && !segment.isDead);
  }

  /** The next readable segment; undefined behind the last one. */
  after(segment: Segment): Segment | undefined {
    return this.list.find((one) => one.number > segment.number && !one.isDead);
  }

  /** Opens a segment for reading, or shares it with those who have it open; rejects with ENOENT when the file is gone. */
  async acquire(segment: Segment): Promise<Handle> {
    let shelf = this.#shelves.get(segment);
    if (shelf) this.#shelves.delete(segment);
    else shelf = { opening: this.#open(segment), users: 0, isGone: false };
    this.#shelves.set(segment, shelf); // last in the map is last used
    shelf.users++;
    for (const [old, candidate] of this.#shelves) {
      if (this.#shelves.size <= HANDLES_MAX) break;
      if (candidate.users === 0) this.#drop(old, candidate);
    }
    try {
      return await shelf.opening;
    } catch (caught) {
      shelf.users--;
      if (this.#shelves.get(segment) === shelf) this.#shelves.delete(segment);
      throw caught;
    }
  }

  release(handle: Handle): void {
    const shelf = this.#shelves.get(handle.segment);
    if (!shelf) return;
    shelf.users--;
    if (shelf.isGone && shelf.users === 0) this.#drop(handle.segment, shelf);
  }

  async #open(segment: Segment): Promise<Handle> {
    const fd = await open(join(this.directory, segment.name), "r");
    const verdict = await readHeader(fd, segment.number, this.keys);
    if (verdict.state !== "good") {
      await close(fd);
      throw Object.assign(new Error(`the header of ${segment.name} has become unreadable`), { code: "EIO" });
    }
    segment.index ??= new BlockIndex();
    return { segment, fd, keys: verdict.keys };
  }

  #drop(segment: Segment, shelf: Shelf): void {
    this.#shelves.delete(segment);
    if (segment !== this.active) segment.index = undefined;
    // A failed opening was thrown to the one who asked for it.
    shelf.opening.then(
      (handle) => close(handle.fd),
      () => undefined,
    );
  }

  /** Adds the segment that is written from now on. */
  push(segment: Segment): void {
    const old = this.list.at(-1);
    this.list.push(segment);
    this.#sizeBytes += segment.bytes;
    if (old && !this.#shelves.has(old)) old.index = undefined;
  }

  /** Counts the leading segments that hold nothing after `through`; the active one is never among them. */
  countThrough(through: number): number {
    let count = 0;
    while (count < this.list.length - 1 && (this.list[count + 1]?.first ?? Infinity) - 1 <= through) count++;
    return count;
  }

  /** Deletes the first `count` files; readers who have one open still finish with it. */
  async remove(count: number): Promise<void> {
    for (const segment of this.list.splice(0, count)) {
      this.#sizeBytes -= segment.bytes;
      const shelf = this.#shelves.get(segment);
      if (shelf) {
        shelf.isGone = true;
        if (shelf.users === 0) this.#drop(segment, shelf);
      }
      try {
        await unlink(join(this.directory, segment.name));
      } catch (caught) {
        if (errnoOf(caught) !== "ENOENT") throw caught;
      }
    }
    await syncDirectory(this.directory);
  }

  /** Closes what readers have left open. */
  closeAll(): void {
    for (const [segment, shelf] of this.#shelves) {
      shelf.isGone = true;
      if (shelf.users === 0) this.#drop(segment, shelf);
    }
  }
}
