/** Where the cloud stands in the stream of batches, and what of it is not here any more. */
import type { Clock } from "../../kernel/clock.ts";
import { fail, UNAVAILABLE } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import type { Tracer } from "../../kernel/trace.ts";
import type { Link, Marked } from "./link.ts";
import type { Outbox } from "./outbox.ts";
import type { PipelineStore } from "./store.ts";

export interface MarkOptions {
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly signal: AbortSignal;
}

/** So often a process counts its batches anew. */
const COUNTS_ANEW_MAX = 64;

export class Mark {
  readonly #o: MarkOptions;
  readonly #asked = Promise.withResolvers<void>();
  /** All up to here is durable at the cloud; undefined until it has said so. */
  #durable: number | undefined;
  /** Batches up to here are not for this cloud. */
  #floor = 0;
  /** The highest sequence that this process has sent. */
  #sent = 0;
  #acknowledged: number;
  #countsAnew = 0;
  /** What was lost of the outbox is gathered again, as far as the bus has it. */
  #isGatheredAgain = false;
  /** Read on after this batch. */
  readAfter = 0;

  constructor(options: MarkOptions) {
    this.#o = options;
    this.#acknowledged = options.store.acknowledged;
  }

  /** Resolves when a cloud has said where it stands. */
  get asked(): Promise<void> {
    return this.#asked.promise;
  }

  get isKnown(): boolean {
    return this.#durable !== undefined;
  }

  get durable(): number {
    return this.#durable ?? 0;
  }

  /** The last batch that a cloud has acknowledged, as far as is known. */
  get acknowledged(): number {
    return Math.max(this.#acknowledged, this.#floor, this.#o.outbox.stream.floor);
  }

  /** Begins with another cloud. */
  begin(floor: number): void {
    this.#floor = floor;
    this.forget();
  }

  /** The cloud is to be asked again. */
  forget(): void {
    this.#durable = undefined;
  }

  sending(sequence: number): void {
    this.#sent = Math.max(this.#sent, sequence);
  }

  acknowledge(durable: number): void {
    this.#durable = durable;
    this.#acknowledged = durable;
    this.readAfter = Math.max(this.readAfter, durable);
  }

  /** Asks the cloud; `isWanted` tells whether its answer still matters. */
  async ask(link: Link, isWanted: () => boolean): Promise<void> {
    const { outbox, signal } = this.#o;
    let marked = await link.mark(outbox.stream.epoch, signal);
    // It cannot have more than was here at the opening, or was sent since.
    for (let limit = Math.max(outbox.openedWith, this.#sent); isWanted() && marked.durable > limit; limit = 0) {
      await this.#countAnew(marked);
      marked = await link.mark(outbox.stream.epoch, signal);
    }
    if (!isWanted()) return;
    this.#followFrom(marked);
    await this.#recallRefused(marked);
    const { floor } = outbox.stream;
    this.#durable = marked.durable;
    this.readAfter = Math.max(marked.durable, this.#floor, floor);
    // A cloud that knows less than it has acknowledged is told of when what is missing is found missing here, too.
    this.#acknowledged = Math.max(this.#acknowledged, marked.durable);
    this.#asked.resolve();
  }

  /** The cloud has batches that were never here since the opening: the end of the outbox was lost. */
  async #countAnew({ durable, through }: Marked): Promise<void> {
    const { log, outbox } = this.#o;
    // Once is enough where the clock has moved on since; a cloud that never stops is not to be believed.
    if (++this.#countsAnew > COUNTS_ANEW_MAX)
      throw fail(UNAVAILABLE, `the cloud says that it has batches up to ${durable}, which were never sent`);
    await outbox.countAnew();
    this.#acknowledged = 0;
    const { openedWith, journal, stream } = outbox;
    log.error(
      { durable, openedWith, epoch: stream.epoch },
      "the cloud has batches that the outbox has lost; it is counted anew",
    );
    // Nothing came since: the bus is followed from where the cloud has it, and nothing is lost or comes twice.
    if (through === undefined || journal.last !== openedWith) return;
    outbox.followed = through;
    outbox.isCompared = true;
  }

  /**
   * After damage to the outbox: what the cloud has is not gathered again, and what was lost here is, as far as the bus
   * still has it.
   */
  #followFrom({ through }: Marked): void {
    const { outbox } = this.#o;
    const { journal, openedWith, recorded } = outbox;
    if (through === undefined || journal.losses.length === 0 || journal.last !== openedWith) return;
    // Where the bus is followed already, it is too late to go back.
    this.#isGatheredAgain ||= !outbox.isCompared;
    outbox.followed = Math.max(outbox.isCompared ? outbox.followed : recorded, through);
    outbox.isCompared = true;
  }

  /** Sets batches aside whose refusal was told in an answer that never arrived. */
  async #recallRefused({ refused }: Marked): Promise<void> {
    const { outbox, store, clock, log } = this.#o;
    for (const { sequence, reason } of refused) {
      if (sequence > outbox.journal.last || store.hasDeadLetter(sequence)) continue;
      const { batches } = await outbox.read(sequence - 1, { bytesMax: 1, recordsMax: 1 });
      if (batches[0]?.sequence !== sequence) continue;
      log.error({ sequence, reason }, "the cloud can never keep a batch; it is set aside");
      store.addDeadLetter(batches[0], reason, clock.wallMs());
    }
  }

  /** Tells of batches that are not there any more. */
  tellGap({ from, to }: { from: number; to: number }): void {
    const { log, store } = this.#o;
    const wasThere = to <= this.acknowledged;
    const reason = wasThere
      ? "the cloud lost batches that it had acknowledged (restored from an older copy?), and they are gone here, too"
      : this.#isGatheredAgain
        ? "batches of the outbox were lost to damage; what the bus still had of them was sent anew"
        : "batches of the outbox were lost to damage before the cloud had them";
    if (store.addMissing({ reason, firstPosition: from, lastPosition: to })) log.error({ from, to }, reason);
  }
}
