/**
 * The outbox: encoded batches in a journal of the pipeline's own, until the far side has said "durable". Each record carries
 * how far the bus was followed when it was made, so that a batch and that position are one thing on the disk.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../kernel/clock.ts";
import { type Journal, openJournal } from "../../kernel/journal/journal.ts";
import type { Log } from "../../kernel/log.ts";
import type { EncodedBatch } from "./batch.ts";
import { keepStream, loadStream, nextStream, type Stream } from "./stream.ts";

/** What is known of a batch without opening it. */
export interface BatchNote {
  /** Position of the bus that is followed up to with this batch. */
  readonly through: number;
  readonly queuedNs: bigint;
  readonly events: number;
  readonly readings: number;
}

export interface QueuedBatch extends BatchNote {
  /** Its position in the outbox: its sequence in the stream. */
  readonly sequence: number;
  readonly blocks: Uint8Array;
}

export interface OutboxOptions {
  readonly directory: string;
  readonly key: Uint8Array;
  readonly sizeBytesMax: number;
  readonly clock: Clock;
  readonly log: Log;
  /** What is known from elsewhere, for when the outbox cannot tell it. */
  readonly known: { readonly followed: number; readonly stream: Stream | undefined };
}

export interface Batches {
  readonly batches: QueuedBatch[];
  /** Read on after this one. */
  readonly next: number;
  readonly gap?: { from: number; to: number };
}

const KIND_BATCH = 1;

export class Outbox {
  readonly journal: Journal;
  /** Position of the bus up to which batches are here, or nothing was to be sent. */
  followed: number;
  /** True once `followed` was compared with what the bus was told. */
  isCompared = false;
  /** The last batch that was here when it was opened: what came later nobody can have seen before. */
  readonly openedWith: number;
  readonly #options: OutboxOptions;
  #stream: Stream;
  #recorded: number;

  private constructor(options: OutboxOptions, journal: Journal, stream: Stream, recorded: number) {
    this.#options = options;
    this.journal = journal;
    this.#stream = stream;
    this.#recorded = recorded;
    this.followed = Math.max(options.known.followed, recorded);
    this.openedWith = journal.last;
  }

  /** Opens the outbox. Errors are the journal's. */
  static async open(options: OutboxOptions): Promise<Outbox> {
    const { directory, key, sizeBytesMax, log, clock, known } = options;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const journal = await openJournal({ directory: join(directory, "outbox"), key, sizeBytesMax, log });
    try {
      const stream = loadStream(directory) ?? known.stream ?? nextStream(directory, clock, 0);
      await keepStream(directory, stream);
      return new Outbox(options, journal, stream, await lastThrough(journal));
    } catch (error) {
      await journal.close();
      throw error;
    }
  }

  /** Which count of sequences this is, and from where on. */
  get stream(): Stream {
    return this.#stream;
  }

  /** Position of the bus that the last batch here tells. */
  get recorded(): number {
    return this.#recorded;
  }

  /**
   * Counts anew, after the far side has shown that the end of the outbox was lost: it has batches that are not here any
   * more. What came since has their numbers and would be taken for them. All that was here at the opening came before.
   */
  async countAnew(): Promise<void> {
    const { directory, clock } = this.#options;
    const stream = nextStream(directory, clock, this.openedWith);
    await keepStream(directory, stream);
    this.#stream = stream;
  }

  /** Adds batches as one: all of them are on the disk when it resolves, or none ever. JOURNAL_FULL, JOURNAL_DISK_FULL. */
  async add(batches: readonly (BatchNote & EncodedBatch)[]): Promise<void> {
    if (batches.length === 0) return;
    await this.journal.appendMany(
      batches.map(({ blocks, ...note }) => ({ kind: KIND_BATCH, key: writeNote(note), payload: blocks })),
    );
    const { through } = batches.at(-1)!;
    this.#recorded = through;
    this.followed = Math.max(this.followed, through);
  }

  /** Reads batches after a sequence; `gap` where some are not there any more. */
  async read(after: number, limits: { bytesMax: number; recordsMax: number }): Promise<Batches> {
    const { records, next, gap } = await this.journal.read(after, limits);
    const batches = records.map((r) => ({ sequence: r.position, blocks: r.payload, ...readNote(r.key) }));
    return gap ? { batches, next, gap } : { batches, next };
  }

  /** The far side keeps all up to here. The last record stays: it tells the position of the bus after a restart. */
  async done(through: number): Promise<void> {
    await this.journal.trim(Math.max(0, Math.min(through, this.journal.last - 1)));
  }
}

/** What the last record says that can be read; damage at the end leaves an earlier one. */
async function lastThrough(journal: Journal): Promise<number> {
  for (let back = 1; ; back *= 8) {
    let after = Math.max(journal.first - 1, journal.last - back);
    const isAll = after <= journal.first - 1;
    let key: string | undefined;
    while (after < journal.last) {
      const { records, next } = await journal.read(after);
      key = records.at(-1)?.key ?? key;
      if (next <= after) break;
      after = next;
    }
    if (key !== undefined) return readNote(key).through;
    if (isAll) return 0;
  }
}

const writeNote = (n: BatchNote): string => `${n.through} ${n.queuedNs} ${n.events} ${n.readings}`;

function readNote(key: string): BatchNote {
  const [through, queuedNs, events, readings] = key.split(" ");
  return { through: Number(through), queuedNs: BigInt(queuedNs), events: Number(events), readings: Number(readings) };
}
