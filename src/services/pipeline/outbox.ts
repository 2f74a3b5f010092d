/**
 * The outbox: encoded batches in a journal of the pipeline's own, until the far side has said "durable". Each record carries
 * how far the bus was followed when it was made, so that a batch and that position are one thing on the disk.
 */
import { existsSync } from "node:fs";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../kernel/clock.ts";
import { nextEpoch } from "../../kernel/epoch.ts";
import { type Journal, openJournal } from "../../kernel/journal/journal.ts";
import type { Log } from "../../kernel/log.ts";

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
}

const KIND_BATCH = 1;
const EPOCH_FILE = "epoch";

export class Outbox {
  /** Of the outbox as a whole: grows only when it is made anew, since its positions begin at 1 again then. */
  readonly epoch: number;
  readonly journal: Journal;
  /** Position of the bus up to which batches are here. */
  followed: number;

  private constructor(journal: Journal, epoch: number, followed: number) {
    this.journal = journal;
    this.epoch = epoch;
    this.followed = followed;
  }

  /** Opens the outbox; `known` is the position of the bus as it was noted elsewhere. Errors are the journal's. */
  static async open(options: OutboxOptions, known: number): Promise<Outbox> {
    const { directory, key, sizeBytesMax, log, clock } = options;
    const journal = await openJournal({ directory, key, sizeBytesMax, log });
    const epoch = existsSync(join(directory, EPOCH_FILE)) ? readEpoch(directory, clock) : nextEpoch(directory, clock, EPOCH_FILE);
    const last = journal.last >= journal.first ? (await journal.read(journal.last - 1)).records.at(-1) : undefined;
    return new Outbox(journal, epoch, Math.max(known, last ? readNote(last.key).through : 0));
  }

  /** Adds batches as one: all of them are on the disk when it resolves, or none ever. */
  async add(batches: readonly (BatchNote & { readonly blocks: Uint8Array })[]): Promise<void> {
    if (batches.length === 0) return;
    await this.journal.appendMany(batches.map(({ blocks, ...note }) => ({ kind: KIND_BATCH, key: writeNote(note), payload: blocks })));
    this.followed = Math.max(this.followed, batches.at(-1)!.through);
  }

  /** Reads batches after a sequence; `gap` where some are lost to damage. */
  async read(after: number, limits: { bytesMax: number; recordsMax: number }): Promise<{ batches: QueuedBatch[]; gap?: { from: number; to: number } }> {
    const { records, gap } = await this.journal.read(after, limits);
    const batches = records.map((r) => ({ sequence: r.position, blocks: r.payload, ...readNote(r.key) }));
    return gap ? { batches, gap } : { batches };
  }

  /** The far side keeps all up to here. The last record stays: it is what tells the position of the bus after a restart. */
  async done(through: number): Promise<void> {
    await this.journal.trim(Math.min(through, this.journal.last - 1));
  }
}

const writeNote = (n: BatchNote): string => `${n.through} ${n.queuedNs} ${n.events} ${n.readings}`;

function readNote(key: string): BatchNote {
  const [through, queuedNs, events, readings] = key.split(" ");
  return { through: Number(through), queuedNs: BigInt(queuedNs), events: Number(events), readings: Number(readings) };
}

function readEpoch(directory: string, clock: Clock): number {
  const text = readFileSync(join(directory, EPOCH_FILE), "utf8").trim();
  // A torn epoch file: a new epoch sends what is here once more, which the cloud's audit shows; it never loses.
  return /^\d{1,10}$/.test(text) ? Number(text) : nextEpoch(directory, clock, EPOCH_FILE);
}
