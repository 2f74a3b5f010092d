/** An encrypted, append-only, segmented log with group commit. README.md has the whole story on one screen. */
import { chmodSync, statSync } from "node:fs";
import { resolve as resolvePath } from "node:path";
import { asFailure, fail, Failure, INPUT_INVALID } from "../error.ts";
import { errnoOf, isDiskFull, makeDirectory } from "./disk.ts";
import { refusalOf } from "./entry.ts";
import { JOURNAL_CLOSED, JOURNAL_DIRECTORY_UNUSABLE, JOURNAL_RECORD_TOO_LARGE } from "./errors.ts";
import { Ledger, type Log, type Loss } from "./ledger.ts";
import type { PurposeKey } from "../seal/store-keys.ts";
import { JournalKeys } from "./keys.ts";
import { lockDirectory } from "./lock.ts";
import { Reader, type ReadOptions, type ReadResult } from "./reader.ts";
import type { Entry, JournalRecord } from "./records.ts";
import { recover } from "./recovery.ts";
import type { Segments } from "./segments.ts";
import { Writer, type Limits, type Tail } from "./writer.ts";

export type { Entry, JournalRecord, Loss, ReadOptions, ReadResult };

const MIB = 1024 * 1024;
/** More payload in one `appendMany` is refused with JOURNAL_RECORD_TOO_LARGE: it is sealed and written as one. */
export const GROUP_BYTES_MAX = 16 * MIB;
/** Small segments would be all header; large ones give their space back late. */
const SEGMENT_BYTES_MIN = 4096;
const SEGMENT_BYTES_MAX = 1024 * MIB;

export interface JournalOptions {
  directory: string;
  /** The data key, 32 bytes; or those that there are, the newest last. */
  key: Uint8Array | readonly PurposeKey[];
  /** A new file is begun at this size; default 16 MiB, at most an eighth of `sizeBytesMax`. */
  segmentBytesMax?: number;
  /** Unit of sealing, default 64 KiB; a larger record or group makes a larger block. */
  blockBytesMax?: number;
  /** Default 256 MiB; reached: `append` rejects with JOURNAL_FULL, and nothing is dropped. */
  sizeBytesMax?: number;
  /** Appended and not yet on the disk, default 16 MiB; above it appends wait outside, in order. */
  queueBytesMax?: number;
  log?: Log;
}

export interface Journal {
  /** The first position that is still there. */
  readonly first: number;
  /** The last durable position; `first - 1` when empty. */
  readonly last: number;
  readonly sizeBytes: number;
  /** What was found lost since this opening and not reported at an earlier one. */
  readonly losses: readonly Loss[];
  /** What earlier openings reported, the newest 100. */
  readonly lossesBefore: readonly Loss[];
  /** Number of fdatasync calls that carried appends. */
  readonly syncs: number;
  /**
   * Appends a record and resolves with its position once it is on the disk. Kind 0..255, key up to 1024 bytes, payload up to
   * 4 MiB; leave the payload as it is until then. JOURNAL_FULL, JOURNAL_DISK_FULL, JOURNAL_SYNC_FAILED, JOURNAL_RECORD_TOO_LARGE, JOURNAL_CLOSED.
   */
  append(kind: number, key: string, payload: Uint8Array): Promise<number>;
  /** Appends records with positions in a row, of which a crash leaves all or none; up to 16 MiB together. Errors as `append`. */
  appendMany(entries: readonly Entry[]): Promise<{ first: number; last: number }>;
  /**
   * Reads records after a position, up to 1 MiB and 10,000 unless told; `next` is the `after` of the next call even when
   * nothing matched. `gap` says which positions before the first record are lost or trimmed. Payloads are views of
   * shared memory: do not write into them. `match` must answer the same for the same kind and key.
   */
  read(after: number, options?: ReadOptions): Promise<ReadResult>;
  /** Resolves when `last > after`; rejects with the signal's reason, or JOURNAL_CLOSED. */
  wait(after: number, signal?: AbortSignal): Promise<void>;
  /**
   * Says that nobody needs positions up to `through` any more: segments with nothing else in them are deleted. The one being
   * written gives way to a new one where most of it is done with, from `rollBytesMin` on; a quarter of a segment unless told.
   */
  trim(through: number, rollBytesMin?: number): Promise<void>;
  /** Goes on in a new segment under a new key; what is there is read with the old ones. Resolves with the time that appends stood still, in ms. */
  rekey(next: PurposeKey): Promise<number>;
  /** Waits for the appends under way, then gives the directory back. */
  close(): Promise<void>;
}

/**
 * Opens the journal in a directory, made if need be (0700), and repairs by itself whatever a crash or a disk has done to it.
 * JOURNAL_LOCKED, JOURNAL_KEY_WRONG, JOURNAL_VERSION_NEWER, JOURNAL_DISK_FULL, JOURNAL_DIRECTORY_UNUSABLE.
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const directory = resolvePath(options.directory);
  const keys = new JournalKeys(options.key);
  const sizeBytesMax = options.sizeBytesMax ?? 256 * MIB;
  const segmentBytes = Math.min(options.segmentBytesMax ?? 16 * MIB, Math.floor(sizeBytesMax / 8), SEGMENT_BYTES_MAX);
  const limits: Limits = {
    sizeBytesMax,
    segmentBytesMax: Math.max(segmentBytes, SEGMENT_BYTES_MIN),
    blockBytesMax: options.blockBytesMax ?? 64 * 1024,
    queueBytesMax: options.queueBytesMax ?? 16 * MIB,
  };
  let unlock: (() => void) | undefined;
  try {
    await makeDirectory(directory);
    if ((statSync(directory).mode & 0o077) !== 0) chmodSync(directory, 0o700);
    unlock = lockDirectory(directory);
    const ledger = new Ledger(directory, keys.first, options.log);
    await ledger.load();
    const { segments, tail } = await recover(directory, keys, ledger, limits);
    await segments.reserve.keep();
    return new OpenJournal(segments, tail, limits, ledger, unlock);
  } catch (caught) {
    unlock?.();
    if (caught instanceof Failure) throw caught;
    if (errnoOf(caught) === "") throw asFailure(caught);
    throw fail(JOURNAL_DIRECTORY_UNUSABLE, `the journal in ${directory} cannot be opened (${errnoOf(caught)})`, {
      cause: caught,
    });
  }
}

interface Sleeper {
  readonly after: number;
  readonly wake: (failure?: Failure) => void;
}

class OpenJournal implements Journal {
  readonly #segments: Segments;
  readonly #limits: Limits;
  readonly #ledger: Ledger;
  readonly #writer: Writer;
  readonly #reader: Reader;
  readonly #unlock: () => void;
  readonly #sleepers = new Set<Sleeper>();
  #closing: Promise<void> | undefined;

  constructor(segments: Segments, tail: Tail, limits: Limits, ledger: Ledger, unlock: () => void) {
    this.#segments = segments;
    this.#limits = limits;
    this.#ledger = ledger;
    this.#unlock = unlock;
    this.#writer = new Writer(segments, tail, limits, ledger, (blocks) => {
      this.#reader.remember(blocks);
      for (const sleeper of this.#sleepers) if (this.last > sleeper.after) sleeper.wake();
    });
    this.#reader = new Reader(segments, this.#writer, ledger);
  }

  get first(): number {
    return this.#segments.first;
  }
  get last(): number {
    return this.#writer.last;
  }
  get sizeBytes(): number {
    return this.#segments.sizeBytes;
  }
  get losses(): readonly Loss[] {
    return this.#ledger.losses;
  }
  get lossesBefore(): readonly Loss[] {
    return this.#ledger.lossesBefore;
  }
  get syncs(): number {
    return this.#writer.syncs;
  }

  append(kind: number, key: string, payload: Uint8Array): Promise<number> {
    const entry = { kind, key, payload };
    const refusal = refusalOf(entry);
    if (refusal) return Promise.reject(refusal);
    return new Promise((resolve) => this.#writer.append([entry], resolve));
  }

  appendMany(entries: readonly Entry[]): Promise<{ first: number; last: number }> {
    let bytes = 0;
    for (const entry of entries) {
      const refusal = refusalOf(entry);
      if (refusal) return Promise.reject(refusal);
      bytes += entry.payload.byteLength;
    }
    if (bytes > GROUP_BYTES_MAX)
      return Promise.reject(
        fail(JOURNAL_RECORD_TOO_LARGE, `a group of ${bytes} bytes is over the limit of ${GROUP_BYTES_MAX}`),
      );
    if (entries.length === 0) return Promise.resolve({ first: this.last + 1, last: this.last });
    return new Promise((resolve) =>
      this.#writer.append(entries, (first) =>
        resolve(typeof first === "number" ? { first, last: first + entries.length - 1 } : first),
      ),
    );
  }

  async read(after: number, options: ReadOptions = {}): Promise<ReadResult> {
    this.#check(after);
    return this.#reader.read(after, options);
  }

  async wait(after: number, signal?: AbortSignal): Promise<void> {
    this.#check(after);
    signal?.throwIfAborted();
    if (this.last > after) return;
    await new Promise<void>((resolve, reject) => {
      const done = (): void => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        done();
        reject(signal?.reason);
      };
      const sleeper: Sleeper = {
        after,
        wake: (failure) => {
          done();
          if (failure) reject(failure);
          else resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  async trim(through: number, rollBytesMin = this.#limits.segmentBytesMax / 4): Promise<void> {
    this.#check(through);
    if (through > this.last) this.#reader.heed(through);
    // Nothing to delete is the usual answer, and costs no turn of the loop.
    if (!this.#isSpent(through, rollBytesMin) && this.#segments.countThrough(through) === 0) return;
    await this.#writer.chore(() => this.#trim(through, rollBytesMin));
  }

  /** Most of the segment being written is done with, and it is worth a new file: its space comes back with the rest of it. */
  #isSpent(through: number, rollBytesMin: number): boolean {
    const { active } = this.#segments;
    const records = this.last - active.first + 1;
    return records > 0 && active.bytes >= rollBytesMin && (through - active.first + 1) * 4 >= records * 3;
  }

  async #trim(through: number, rollBytesMin: number): Promise<void> {
    await this.#remove(this.#segments.countThrough(through));
    if (!this.#isSpent(through, rollBytesMin)) return;
    try {
      await this.#segments.reserve.within(() => this.#writer.roll());
    } catch (caught) {
      this.#ledger.warn(
        { err: caught },
        "no new segment could be started, so the last one is kept until the next trim",
      );
      return;
    }
    await this.#remove(this.#segments.countThrough(through));
    await this.#segments.reserve.keep();
  }

  async rekey(next: PurposeKey): Promise<number> {
    return this.#writer.chore(async () => {
      const startMs = performance.now();
      this.#segments.keys.add(next);
      await this.#segments.reserve.within(() => this.#writer.roll());
      await this.#segments.reserve.keep();
      return performance.now() - startMs;
    });
  }

  async #remove(count: number): Promise<void> {
    const lowest = this.#segments.list[count];
    if (count === 0 || !lowest) return;
    // First say so, then do it: a file that a crash leaves behind is then removed at the next opening, and a missing one is no loss.
    this.#ledger.setLowest(lowest.number, lowest.first);
    try {
      await this.#ledger.save();
    } catch (caught) {
      // A full disk cannot take the ledger before the segments have gone; trimming is what helps.
      if (!isDiskFull(caught)) throw caught;
    }
    this.#reader.forgetBelow(lowest.number);
    await this.#segments.remove(count);
    await this.#ledger.save();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const failure = fail(JOURNAL_CLOSED, `the journal in ${this.#segments.directory} is closed`);
    for (const sleeper of this.#sleepers) sleeper.wake(failure);
    await this.#writer.close();
    await this.#ledger
      .save()
      .catch((caught: unknown) => this.#ledger.warn({ err: caught }, "the journal's ledger could not be written"));
    this.#segments.closeAll();
    this.#unlock();
  }

  #check(position: number): void {
    if (this.#closing) throw fail(JOURNAL_CLOSED, `the journal in ${this.#segments.directory} is closed`);
    if (!Number.isSafeInteger(position) || position < 0)
      throw fail(INPUT_INVALID, `${position} is no position of a journal`);
  }
}
