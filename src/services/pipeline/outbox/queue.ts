/** One class of the outbox: a journal of batches, and of each destination which of them it has no need of any more. */
import { join } from "node:path";
import type { Clock } from "../../../kernel/clock.ts";
import { decodeBlocks } from "../../../kernel/events/codec.ts";
import type { Block } from "../../../kernel/events/model.ts";
import { readingsOf } from "../../../kernel/events/rows.ts";
import { Forgotten, type Tombstone } from "../../../kernel/events/forgotten.ts";
import { type Journal, openJournal, type JournalOptions } from "../../../kernel/journal/journal.ts";
import type { Log } from "../../../kernel/log.ts";
import { type SequenceRange, SequenceSet } from "../../../kernel/sequences.ts";
import type { QueueClass } from "../pacing/priority.ts";
import { batchOf, isFor, type QueuedBatch } from "./record.ts";
import { keepStream, loadStream, nextStream, type Stream } from "./stream.ts";

export interface QueueOptions {
  readonly name: QueueClass;
  /** Where the journals of all classes are. */
  readonly directory: string;
  readonly key: JournalOptions["key"];
  readonly sizeBytesMax: number;
  readonly clock: Clock;
  readonly log: Log;
  /** From elsewhere, for when the files cannot tell it. */
  readonly stream: Stream | undefined;
  /** The last batch that there was when it was saved: its end was lost where the journal ends before it. */
  readonly told: number;
  readonly forgotten?: readonly Tombstone[] | undefined;
}

export interface ReadLimits {
  readonly bytesMax: number;
  readonly recordsMax: number;
  /** Only batches below this sequence. */
  readonly before?: number;
}

export interface Batches {
  readonly batches: readonly QueuedBatch[];
  /** Read on after this one. */
  readonly next: number;
  /** Sequences that are not there any more. */
  readonly gap?: SequenceRange;
}

export class ClassQueue {
  readonly name: QueueClass;
  readonly journal: Journal;
  /** The last batch that was here when it was opened: what came later nobody can have seen before. */
  readonly openedWith: number;
  /** Batches are missing that were on the disk: where whole blocks are gone from its end, the files alone look sound. */
  readonly isDamaged: boolean;
  readonly #options: QueueOptions;
  readonly #settled = new Map<string, SequenceSet>();
  readonly forgotten: Forgotten;
  #stream: Stream;

  private constructor(options: QueueOptions, journal: Journal, stream: Stream) {
    this.#options = options;
    this.forgotten = new Forgotten(options.forgotten);
    this.name = options.name;
    this.journal = journal;
    this.openedWith = journal.last;
    this.isDamaged = journal.losses.length > 0 || journal.last < options.told;
    this.#stream = stream;
  }

  /** Opens the journal of a class. Errors are the journal's. */
  static async open(options: QueueOptions): Promise<ClassQueue> {
    const { name, directory, key, sizeBytesMax, log, clock } = options;
    const journal = await openJournal({ directory: join(directory, name), key, sizeBytesMax, log });
    try {
      const stream = loadStream(directory, name) ?? options.stream ?? nextStream(directory, name, clock, []);
      await keepStream(directory, name, stream);
      return new ClassQueue(options, journal, stream);
    } catch (error) {
      await journal.close();
      throw error;
    }
  }

  /** Which count of sequences this is. */
  get stream(): Stream {
    return this.#stream;
  }

  /**
   * Counts anew, after the cloud has shown that the end of the journal was lost: it has batches that are not here any more.
   * What came since has their numbers and would be taken for them. `had`: which of those that are here the cloud has.
   */
  async countAnew(had: readonly SequenceRange[]): Promise<void> {
    const { directory, clock } = this.#options;
    const before = had
      .filter(({ from }) => from <= this.openedWith)
      .map(({ from, to }) => ({ from, to: Math.min(to, this.openedWith) }));
    const stream = nextStream(directory, this.name, clock, before);
    await keepStream(directory, this.name, stream);
    this.#stream = stream;
  }

  /** Which sequences a destination has, or does not get; what else is there waits for it. */
  settled(destination: string): SequenceSet {
    const found = this.#settled.get(destination);
    if (found) return found;
    const made = new SequenceSet();
    this.#settled.set(destination, made);
    return made;
  }

  /** Begins anew with what a destination has. */
  resettle(destination: string, ranges: Iterable<SequenceRange>): SequenceSet {
    const made = new SequenceSet(ranges);
    this.#settled.set(destination, made);
    return made;
  }

  get destinations(): IterableIterator<string> {
    return this.#settled.keys();
  }

  /** Forgets a destination: nothing waits for it any more. */
  forget(destination: string): void {
    this.#settled.delete(destination);
  }

  /** The last sequence up to which nobody waits for anything. */
  get doneThrough(): number {
    let least = this.journal.last;
    for (const settled of this.#settled.values()) least = Math.min(least, settled.through(0));
    return least;
  }

  /** Reads batches for a destination after a sequence; `gap` where some are not there any more. */
  async read(destination: string, after: number, limits: ReadLimits): Promise<Batches> {
    const { bytesMax, recordsMax, before = Number.POSITIVE_INFINITY } = limits;
    const { records, next, gap } = await this.journal.read(after, { bytesMax, recordsMax, match: isFor(destination) });
    const batches = records
      .filter(({ position }) => position < before)
      .map((record) => withoutForgotten(batchOf(record), this.forgotten));
    const end = Math.min(next, before - 1);
    if (!gap || gap.from >= before) return { batches, next: end };
    return { batches, next: end, gap: { from: gap.from, to: Math.min(gap.to, before - 1) } };
  }
}

/** Takes out of a batch what was forgotten; where nothing is left of it, its time is over. */
function withoutForgotten(batch: QueuedBatch, forgotten: Forgotten): QueuedBatch {
  const blocks = forgotten.strip(batch.sequence, batch.blocks);
  if (blocks === batch.blocks) return batch;
  if (!blocks) return { ...batch, expiresNs: 0n };
  const left = decodeBlocks(blocks);
  const count = (of: (block: Block) => number): number => left.reduce((sum, block) => sum + of(block), 0);
  return { ...batch, blocks, events: count(({ sequences }) => sequences.length), readings: count(readingsOf) };
}
