/** Where the cloud stands: what it has of each class, what of that the outbox has lost, and what is in neither place. */
import type { Clock } from "../../../kernel/clock.ts";
import { fail, UNAVAILABLE } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import { type SequenceRange, SequenceSet } from "../../../kernel/sequences.ts";
import type { Outbox } from "../outbox/outbox.ts";
import type { ClassQueue } from "../outbox/queue.ts";
import type { QueuedBatch } from "../outbox/record.ts";
import type { QueueClass } from "../pacing/priority.ts";
import type { Enrollment, PipelineStore } from "../store.ts";
import type { CloudSender } from "./cloud.ts";
import type { Marked } from "./link.ts";
import type { Totals } from "./totals.ts";

export interface MarkOptions {
  /** The destination's name. */
  readonly name: string;
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly totals: Totals;
  readonly clock: Clock;
  readonly log: Log;
}

/** So often a process counts its batches anew. */
const COUNTS_ANEW_MAX = 64;
const READ = { bytesMax: 1_048_576, recordsMax: 256 };

export class Mark {
  readonly #o: MarkOptions;
  readonly #asked = Promise.withResolvers<void>();
  /** The highest sequence of each class that this process has sent. */
  readonly #sent = new Map<QueueClass, number>();
  #countsAnew = 0;

  constructor(options: MarkOptions) {
    this.#o = options;
  }

  /** Resolves when a cloud has said where it stands. */
  get asked(): Promise<void> {
    return this.#asked.promise;
  }

  sending(name: QueueClass, sequence: number): void {
    this.#sent.set(name, Math.max(this.#sent.get(name) ?? 0, sequence));
  }

  /** Asks the cloud what it has of every class; `isWanted` tells whether its answer still matters. */
  async ask(sender: CloudSender, enrollment: Enrollment, isWanted: () => boolean, signal: AbortSignal): Promise<void> {
    const { outbox } = this.#o;
    for (const queue of Object.values(outbox.queues)) {
      let marked = await sender.ask(queue, signal);
      let isAnew = false;
      // It cannot have more than was here at the opening, or was sent since.
      for (let most = Math.max(queue.openedWith, this.#sent.get(queue.name) ?? 0); highOf(marked) > most; most = 0) {
        if (!isWanted()) return;
        await this.#countAnew(queue, marked);
        isAnew = true;
        marked = await sender.ask(queue, signal);
      }
      if (!isWanted()) return;
      await this.#heed(queue, marked, enrollment, isAnew);
    }
    outbox.sure();
    this.#asked.resolve();
  }

  async #heed(queue: ClassQueue, marked: Marked, { settled }: Enrollment, isAnew: boolean): Promise<void> {
    const { name, totals } = this.#o;
    const counted = totals.counted(queue);
    // What it acknowledged once, and does not know any more, it gets again.
    const ours = queue.settled(name).without(counted);
    await this.#count(queue, marked.settled);
    await this.#recallRefused(queue, marked);
    queue.resettle(name, [...ours, ...queue.stream.before, ...(settled?.[queue.name] ?? []), ...marked.settled]);
    if (isAnew || (this.#o.outbox.isUnsure && queue.isDamaged)) await this.#settleTwice(queue, marked);
  }

  /** The cloud has batches that were never here since the opening: the end of the journal was lost. */
  async #countAnew(queue: ClassQueue, { settled }: Marked): Promise<void> {
    const { log } = this.#o;
    // Once is enough where the clock has moved on since; a cloud that never stops is not to be believed.
    if (++this.#countsAnew > COUNTS_ANEW_MAX)
      throw fail(UNAVAILABLE, `the cloud says that it has batches up to ${settled.at(-1)?.to}, which were never sent`);
    await queue.countAnew(new SequenceSet([...queue.stream.before, ...settled]).ranges());
    const { openedWith, stream } = queue;
    log.error(
      { class: queue.name, settled, openedWith, epoch: stream.epoch },
      "the cloud has batches that the outbox has lost; it is counted anew",
    );
  }

  /** The outbox was damaged: what the cloud has got of a pipeline is not gathered again, and not sent where it was. */
  async #settleTwice(queue: ClassQueue, { pipelines }: Marked): Promise<void> {
    const { log, name, outbox } = this.#o;
    const through = new Map(pipelines.map((p) => [p.name, p.through]));
    // Where the bus is followed already, it may have begun anew: then positions say nothing.
    if (queue.journal.last === queue.openedWith) for (const [pipeline, at] of through) outbox.learn(pipeline, at);
    const settled = queue.settled(name);
    for (let after = queue.openedWith; after < queue.journal.last;) {
      const { batches, next } = await queue.read(name, after, READ);
      const twice = batches.filter((b) => b.through !== undefined && b.through <= (through.get(b.pipeline) ?? 0));
      for (const { sequence } of twice) settled.add(sequence, sequence);
      if (twice.length > 0) log.warn({ class: queue.name, count: twice.length }, "the cloud has these batches already");
      if (next <= after) break;
      after = next;
    }
  }

  /** Counts what the cloud has from answers that never arrived. */
  async #count(queue: ClassQueue, has: readonly SequenceRange[]): Promise<void> {
    const { name, store, totals } = this.#o;
    for (const { from, to } of new SequenceSet(has).without(totals.counted(queue))) {
      const kept: QueuedBatch[] = [];
      for (let after = from - 1; after < to;) {
        const { batches, next } = await queue.read(name, after, { ...READ, before: to + 1 });
        kept.push(...batches.filter((b) => !store.deadLetters.has(name, queue, b.sequence)));
        if (next <= after) break;
        after = next;
      }
      totals.count(queue, from, kept);
    }
  }

  /** Sets batches aside whose refusal was told in an answer that never arrived. */
  async #recallRefused(queue: ClassQueue, { refused }: Marked): Promise<void> {
    const { name, store, clock, log } = this.#o;
    for (const { sequence, reason } of refused) {
      if (sequence > queue.journal.last || store.deadLetters.has(name, queue, sequence)) continue;
      const { batches } = await queue.read(name, sequence - 1, { bytesMax: 1, recordsMax: 1 });
      if (batches[0]?.sequence !== sequence) continue;
      log.error({ class: queue.name, sequence, reason }, "the cloud can never keep a batch; it is set aside");
      store.deadLetters.add({ destination: name, queue, batch: batches[0], reason, atMs: clock.wallMs() });
    }
  }
}

const highOf = ({ settled }: Marked): number => settled.at(-1)?.to ?? 0;
