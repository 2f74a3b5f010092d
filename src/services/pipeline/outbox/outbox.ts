/**
 * The outbox: encoded batches in three journals of the pipeline's own, until each of their destinations has them. Each record
 * carries how far the bus was followed when it was made, so that a batch and that position are one thing on the disk.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../../kernel/clock.ts";
import { fail } from "../../../kernel/error.ts";
import type { JournalOptions } from "../../../kernel/journal/journal.ts";
import type { PurposeKey } from "../../../kernel/seal/store-keys.ts";
import type { Tombstone } from "../../../kernel/events/forgotten.ts";
import { RetentionClock } from "../../../kernel/retention-clock.ts";
import type { Log } from "../../../kernel/log.ts";
import type { SequenceRange } from "../../../kernel/sequences.ts";
import { PIPELINE_OUTBOX_FULL } from "../api.ts";
import { classOf, QUEUE_CLASSES, type QueueClass } from "../pacing/priority.ts";
import { makeRoom, sweep } from "./dropping.ts";
import type { Gaps } from "./gaps.ts";
import { Followed, type FollowedState, type PipelineMark } from "./followed.ts";
import { ClassQueue } from "./queue.ts";
import { type BatchNote, KIND_BATCH, type NewBatch, type Shipment, writeKey, writeRecord } from "./record.ts";
import type { Stream } from "./stream.ts";

/** What the outbox keeps elsewhere, now and then: a kill costs so much of it, and the journals tell it again. */
export interface OutboxState {
  readonly followed: FollowedState;
  readonly streams: Partial<Record<QueueClass, Stream>>;
  /** Of each destination and class, what it has no need of. */
  readonly settled: Record<string, Partial<Record<QueueClass, readonly SequenceRange[]>>>;
  /** What the clock of ages said. */
  readonly nowMs: number;
  readonly forgotten?: Partial<Record<QueueClass, readonly Tombstone[]>>;
}

export interface OutboxOptions {
  readonly directory: string;
  readonly key: JournalOptions["key"];
  readonly sizeBytesMax: number;
  /** At the limit: `refuse` batches, so that the bus holds what comes; or `drop` those of the lowest class, oldest first. */
  readonly whenFull: "refuse" | "drop";
  /** A batch that has waited for longer goes; infinite: it waits for ever. */
  readonly ageMsMax: number;
  /** Names of those who get batches. */
  readonly destinations: readonly string[];
  readonly clock: Clock;
  readonly log: Log;
  readonly gaps: Gaps;
  /** What was saved; undefined where nothing was. */
  readonly saved: OutboxState | undefined;
  readonly save: (state: OutboxState) => void;
}

export class Outbox {
  readonly queues: Readonly<Record<QueueClass, ClassQueue>>;
  readonly #options: OutboxOptions;
  readonly #followed: Followed;
  /** No jump of the wall clock makes everything too old at once. */
  readonly #age: RetentionClock;
  readonly #listeners: (() => void)[] = [];
  /** Bytes of batches that are on their way to the disk. */
  #addingBytes = 0;
  #isUnsure: boolean;

  private constructor(options: OutboxOptions, queues: Record<QueueClass, ClassQueue>, followed: Followed) {
    this.#options = options;
    this.queues = queues;
    this.#followed = followed;
    this.#isUnsure = Object.values(queues).some(({ isDamaged }) => isDamaged);
    this.#age = new RetentionClock(options.clock, options.saved?.nowMs);
  }

  /** Opens the outbox. Errors are the journal's. */
  static async open(options: OutboxOptions): Promise<Outbox> {
    const { key, sizeBytesMax, log, clock, saved } = options;
    const directory = join(options.directory, "outbox");
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const opened: ClassQueue[] = [];
    try {
      for (const name of QUEUE_CLASSES)
        opened.push(
          await ClassQueue.open({
            name,
            directory,
            key,
            sizeBytesMax,
            clock,
            log,
            stream: saved?.streams[name],
            told: saved?.followed.told[name] ?? 0,
            forgotten: saved?.forgotten?.[name],
          }),
        );
      const [high, normal, low] = opened;
      const queues = { high, normal, low };
      settleAll(opened, options);
      const outbox = new Outbox(options, queues, await Followed.read(queues, saved?.followed));
      // What was saved may be ahead of journals whose end was lost.
      outbox.save();
      return outbox;
    } catch (error) {
      for (const queue of opened) await queue.journal.close();
      throw error;
    }
  }

  /**
   * True from an opening that found it damaged until the cloud has told what it has: it may have batches that are not here.
   * Meanwhile each record of the bus must end its batches: so those that the cloud has turn out to be there twice as a whole.
   */
  get isUnsure(): boolean {
    return this.#isUnsure;
  }

  /** The cloud has told what it has. */
  sure(): void {
    this.#isUnsure = false;
  }

  /** Gives what waits of a device to no destination any more, from now on and after a kill. */
  forget(device: string): void {
    for (const { forgotten, journal } of Object.values(this.queues)) forgotten.add(device, journal.last);
    this.save();
  }

  /** Goes on under a new key; answers the longest time in ms that batches waited for it. */
  async rekey(next: PurposeKey): Promise<number> {
    let pauseMs = 0;
    // One after the other: each waits for its own files alone, not for those of all three.
    for (const { journal } of Object.values(this.queues)) pauseMs = Math.max(pauseMs, await journal.rekey(next));
    return pauseMs;
  }

  /** Calls back after each batch that was added. */
  onAdded(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** True where the time of a batch is over: its own, or what the outbox allows. */
  isExpired({ expiresNs, queuedNs }: BatchNote): boolean {
    const nowMs = this.#age.nowMs();
    if (expiresNs !== undefined && expiresNs <= BigInt(nowMs) * 1_000_000n) return true;
    return Number(queuedNs / 1_000_000n) + this.#options.ageMsMax <= nowMs;
  }

  /** Lets go of what has waited too long. */
  async sweep(): Promise<void> {
    await sweep(this, this.#options.gaps);
  }

  get sizeBytes(): number {
    const { high, normal, low } = this.queues;
    return high.journal.sizeBytes + normal.journal.sizeBytes + low.journal.sizeBytes;
  }

  /** Tells how far a pipeline is by what is here, or was; undefined where that is not known. */
  followed(pipeline: string): PipelineMark | undefined {
    return this.#followed.of(pipeline);
  }

  /** Learns from the cloud that it has batches of a pipeline which go further than those that are here. */
  learn(pipeline: string, through: number): void {
    this.#followed.learn(pipeline, through);
  }

  /**
   * Adds batches as one: all of them are on the disk when it resolves, or none ever. PIPELINE_OUTBOX_FULL, JOURNAL_FULL,
   * JOURNAL_DISK_FULL, JOURNAL_RECORD_TOO_LARGE (over 16 MiB together).
   */
  async add(shipment: Shipment, batches: readonly NewBatch[]): Promise<void> {
    if (batches.length === 0) return;
    const { ttlMs } = shipment;
    const records = batches.map((batch) => {
      const expiresNs = ttlMs === undefined ? undefined : batch.queuedNs + BigInt(ttlMs) * 1_000_000n;
      return writeRecord({ ...batch, expiresNs }, batch.blocks);
    });
    await this.#append(shipment, records, batches.at(-1)!);
  }

  /** Adds a batch that was here before, for one destination. Errors as `add`. */
  async addAgain(note: BatchNote, blocks: Uint8Array): Promise<void> {
    const again = { ...note, through: undefined, expiresNs: undefined };
    await this.#append(note, [writeRecord(again, blocks)], again);
  }

  /** `last`: how far the bus is followed with the last of them. */
  async #append(
    shipment: Shipment,
    records: readonly Buffer[],
    last: Pick<BatchNote, "through" | "emitted">,
  ): Promise<void> {
    const name = classOf(shipment.priority);
    const key = writeKey(shipment);
    let bytes = 0;
    for (const { length } of records) bytes += length;
    if (this.#isOver(bytes)) await this.#admit(name, bytes);
    this.#addingBytes += bytes;
    try {
      const { journal } = this.queues[name];
      const entries = records.map((payload) => ({ kind: KIND_BATCH, key, payload }));
      this.#followed.note(shipment.pipeline, last, name, (await journal.appendMany(entries)).last);
      for (const listener of this.#listeners) listener();
    } finally {
      this.#addingBytes -= bytes;
    }
  }

  #isOver(bytes: number): boolean {
    return this.sizeBytes + this.#addingBytes + bytes > this.#options.sizeBytesMax;
  }

  /** Makes room for so many bytes. PIPELINE_OUTBOX_FULL. */
  async #admit(name: QueueClass, bytes: number): Promise<void> {
    const { sizeBytesMax, whenFull } = this.#options;
    const isOver = () => this.#isOver(bytes);
    await this.trim();
    if (isOver() && whenFull === "drop") await makeRoom(this, this.#options.gaps, name, isOver);
    if (!isOver()) return;
    throw fail(
      PIPELINE_OUTBOX_FULL,
      `the outbox has reached its ${sizeBytesMax} bytes: ${this.sizeBytes} wait for their destinations`,
    );
  }

  /**
   * Lets go of what nobody waits for; but a pipeline's last record stays until what it says is saved elsewhere.
   * `rollBytesMin` as the journal has it.
   */
  async trim(rollBytesMin?: number): Promise<void> {
    for (const queue of Object.values(this.queues)) {
      const through = Math.min(queue.doneThrough, this.#followed.unsavedIn(queue.name) - 1);
      if (through >= queue.journal.first) await queue.journal.trim(through, rollBytesMin);
    }
  }

  /** Has what the outbox knows kept elsewhere. */
  save(): void {
    const state = this.#state();
    this.#options.save(state);
    this.#followed.saved(state.followed);
  }

  #state(): OutboxState {
    const settled: Record<string, Partial<Record<QueueClass, SequenceRange[]>>> = {};
    const streams: Partial<Record<QueueClass, Stream>> = {};
    const forgotten: Partial<Record<QueueClass, Tombstone[]>> = {};
    for (const queue of Object.values(this.queues)) {
      queue.forgotten.trimmed(queue.journal.first);
      forgotten[queue.name] = queue.forgotten.list();
      streams[queue.name] = queue.stream;
      for (const destination of queue.destinations)
        (settled[destination] ??= {})[queue.name] = queue.settled(destination).ranges();
    }
    return { followed: this.#followed.state(this.queues), streams, settled, nowMs: this.#age.nowMs(), forgotten };
  }

  async close(): Promise<void> {
    for (const queue of Object.values(this.queues)) await queue.journal.close();
  }
}

/** Who is new gets what comes from now on; where nothing was saved at all everybody gets what is there. */
function settleAll(queues: readonly ClassQueue[], { destinations, saved }: OutboxOptions): void {
  for (const queue of queues) {
    const { name, openedWith } = queue;
    const all = openedWith > 0 ? [{ from: 1, to: openedWith }] : [];
    for (const destination of destinations) {
      const known = saved ? (saved.settled[destination]?.[name] ?? all) : [];
      // Where the end of the journal was lost, its numbers are given out again.
      const here = known
        .filter(({ from }) => from <= openedWith)
        .map(({ from, to }) => ({ from, to: Math.min(to, openedWith) }));
      queue.resettle(destination, here);
    }
  }
}
