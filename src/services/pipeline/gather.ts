/** Follows the bus, filters, and gathers events into batches for the outbox: by count, bytes or time, whichever comes first. */
import { makeCall } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { asFailure } from "../../kernel/error.ts";
import { mergeBlocks } from "../../kernel/events/blocks.ts";
import { decodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { forever } from "../../kernel/forever.ts";
import type { Log } from "../../kernel/log.ts";
import type { Tracer } from "../../kernel/trace.ts";
import type { Bus, BusRecord, FollowItem } from "../bus/api.ts";
import { BATCH_BYTES_MAX, BATCH_VALUES_MAX, makeBatches, valuesOf } from "./batch.ts";
import type { Outbox } from "./outbox/outbox.ts";
import { rangesOf } from "./ranges.ts";
import type { PipelineStore } from "./store.ts";

const FOLLOWER = "pipeline";
const ITEM_BYTES_MAX = 512 * 1024;
/** The bus is told so often how far the pipeline is; it only trims by it. */
const CONFIRM_EVERY_MS = 1_000;
const CALL_TIMEOUT_MS = 5_000;

/** How far the bus is followed. */
export class Place {
  readonly outbox: Outbox;
  readonly #store: PipelineStore;
  followed: number;
  isCompared = false;

  constructor(outbox: Outbox, store: PipelineStore) {
    this.outbox = outbox;
    this.#store = store;
    this.followed = Math.max((store.get("followed") as number | undefined) ?? 0, this.recorded);
  }

  get recorded(): number {
    return this.outbox.followed(PIPELINE)?.through ?? 0;
  }

  note(): void {
    this.#store.set("followed", this.followed);
  }
}

const PIPELINE = "all";
const SHIPMENT = { pipeline: PIPELINE, destinations: ["cloud"], priority: 5 };

export interface GatherOptions {
  readonly bus: Bus;
  readonly place: Place;
  readonly outbox: Outbox;
  readonly filter: (block: Block) => Block | undefined;
  readonly batchEvents: number;
  readonly batchMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly signal: AbortSignal;
}

/** Gathers until the signal aborts; what is not in the outbox by then is followed again at the next start. */
export async function gather(options: GatherOptions): Promise<void> {
  const { clock, log, signal } = options;
  await forever({ what: "gathering batches", clock, log, signal }, () => new Gathering(options).run());
}

/** One run over the stream: what it holds in memory ends with it, the outbox knows where to go on. */
class Gathering {
  readonly #o: GatherOptions;
  /** Ends the stream when a timed flush failed: the run must not go on past a batch that is in no outbox. */
  readonly #ending = new AbortController();
  #blocks: Block[] = [];
  #events = 0;
  #values = 0;
  #bytes = 0;
  /** Where this run began, and how far it is. */
  #after = 0;
  #through = 0;
  #startMs = 0;
  /** Flushes, one after the other; rejected for good when one failed. */
  #flushing: Promise<void> = Promise.resolve();
  #flushTimer: NodeJS.Timeout | undefined;
  #confirmTimer: NodeJS.Timeout | undefined;
  #confirmed = -1;

  constructor(options: GatherOptions) {
    this.#o = options;
  }

  async run(): Promise<void> {
    const { bus, signal } = this.#o;
    const { place } = this.#o;
    if (!place.isCompared) place.followed = Math.max(place.followed, place.recorded);
    await this.#resume();
    const ended = AbortSignal.any([signal, this.#ending.signal]);
    const call = makeCall({ caller: FOLLOWER, timeoutMs: Number.POSITIVE_INFINITY, signal: ended });
    try {
      this.#after = place.followed;
      for await (const item of bus.follow({ follower: FOLLOWER, after: this.#after, bytesMax: ITEM_BYTES_MAX }, call)) {
        await this.#take(item);
        if (this.#events > 0)
          this.#flushTimer ??= setTimeout(() => void this.#flush().catch(() => this.#ending.abort()), this.#o.batchMs);
        else this.#pass();
        this.#confirmSoon();
      }
      // The reason why it ended, where a timed flush failed.
      await this.#flushing;
    } finally {
      clearTimeout(this.#flushTimer);
      clearTimeout(this.#confirmTimer);
      await this.#flushing.catch(() => undefined); // Thrown above, or overtaken by another failure.
      call.end(false);
    }
  }

  /** Where the bus has a later confirmation of ours than we have, the outbox was lost: what it held is not sent twice. */
  async #resume(): Promise<void> {
    const { bus, place, log, signal } = this.#o;
    if (place.isCompared) return;
    const call = makeCall({ caller: FOLLOWER, timeoutMs: CALL_TIMEOUT_MS, signal });
    const { followers } = await bus.backlog({}, call).finally(() => call.end(false));
    const position = followers.find(({ name }) => name === FOLLOWER)?.position ?? 0;
    if (position > place.followed) {
      log.warn({ from: place.followed + 1, to: position }, "the outbox lost what it had of these records of the bus");
      place.followed = position;
    }
    place.isCompared = true;
  }

  async #take(item: FollowItem): Promise<void> {
    const { log, place } = this.#o;
    if (item.gap)
      log.warn({ from: item.gap.from, to: item.gap.to }, "records of the bus are gone before the pipeline had them");
    const first = item.records[0]?.position ?? item.next;
    if (this.#through === 0 && first <= this.#after) this.#beginAnew(first - 1);
    for (const record of item.records) {
      // The cloud has told meanwhile that it has this one.
      if (record.position <= place.followed) continue;
      if (record.kind === "events") await this.#add(record);
      this.#through = record.position;
      if (this.#isFull(0, 0) || (this.#o.outbox.isUnsure && this.#events > 0)) await this.#flush();
    }
    this.#through = item.next;
  }

  /** The bus counts from the beginning again: its journal was lost. What it has now, nobody has seen. */
  #beginAnew(position: number): void {
    const { log, place } = this.#o;
    log.error(
      { followed: place.followed, position },
      "the bus has begun anew, behind what was followed of it; it is followed from there",
    );
    place.followed = position;
    place.note();
    this.#confirmed = -1;
  }

  /** Adds the events of a record that leave the node; what is gathered goes first where both are too much. */
  async #add({ payload, position }: BusRecord): Promise<void> {
    const { clock, filter, log } = this.#o;
    let blocks: Block[];
    try {
      blocks = decodeBlocks(payload)
        .map(filter)
        .filter((block) => block !== undefined);
    } catch (error) {
      const { code } = asFailure(error);
      return log.error({ position, code, err: error }, "a record of the bus cannot be read and is passed by");
    }
    if (blocks.length === 0) return;
    const values = blocks.reduce((sum, block) => sum + valuesOf(block), 0);
    if (this.#events > 0 && this.#isFull(values, payload.length)) await this.#flush();
    if (this.#events === 0) this.#startMs = clock.monotonicMs();
    for (const block of blocks) {
      this.#blocks.push(block);
      this.#events += block.sequences.length;
    }
    this.#values += values;
    this.#bytes += payload.length;
  }

  #isFull(values: number, bytes: number): boolean {
    return (
      this.#events >= this.#o.batchEvents ||
      this.#values + values > BATCH_VALUES_MAX ||
      this.#bytes + bytes > BATCH_BYTES_MAX
    );
  }

  /** Nothing waits: what was followed held nothing that leaves. But a flush before it may be on its way, or fail. */
  #pass(): void {
    const { place } = this.#o;
    const through = this.#through;
    this.#flushing = this.#afterFlush(async () => {
      place.followed = Math.max(place.followed, through);
    });
    this.#flushing.catch(() => this.#ending.abort());
  }

  /** Puts what is gathered into the outbox, one flush after the other. */
  #flush(): Promise<void> {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    const gathered = { blocks: this.#blocks, through: this.#through, startMs: this.#startMs };
    this.#blocks = [];
    this.#events = 0;
    this.#values = 0;
    this.#bytes = 0;
    this.#flushing = this.#afterFlush(() => this.#queue(gathered));
    return this.#flushing;
  }

  async #afterFlush(work: () => Promise<void>): Promise<void> {
    await this.#flushing;
    await work();
  }

  async #queue({ blocks, through, startMs }: { blocks: Block[]; through: number; startMs: number }): Promise<void> {
    const { batchEvents, clock, log, outbox, place, tracer } = this.#o;
    if (through <= place.followed) return;
    const queuedNs = clock.wallNs();
    const encodeMs = clock.monotonicMs();
    const lost = ({ series, sequences }: Block) =>
      log.error({ device: series.deviceName, sequence: sequences[0] }, "an event fits no batch and is passed by");
    const made = makeBatches(mergeBlocks(blocks), batchEvents, lost);
    // Only with the last part is the bus followed up to `through`; they are on the disk all or none.
    const batches = made.map((batch, i) => ({
      ...batch,
      queuedNs,
      through: i === made.length - 1 ? through : place.followed,
    }));
    const ranges = rangesOf(blocks);
    const bytes = made.reduce((sum, batch) => sum + batch.blocks.length, 0);
    tracer.batch(
      "encode",
      encodeMs,
      ranges,
      `${made.length} batches, ${bytes} bytes, gathered in ${Math.round(encodeMs - startMs)} ms`,
    );
    const queueMs = clock.monotonicMs();
    if (batches.length > 0) await outbox.add(SHIPMENT, batches);
    place.followed = Math.max(place.followed, through);
    tracer.batch("queue", queueMs, ranges);
  }

  /** Tells the bus before long how far we are: also when nothing comes any more, since it may be full and wait for that. */
  #confirmSoon(): void {
    this.#confirmTimer ??= setTimeout(() => {
      this.#confirmTimer = undefined;
      void this.#confirm().catch((error: unknown) => {
        this.#o.log.debug({ err: error }, "the bus could not be told how far the pipeline is; it is told again");
        if (!this.#o.signal.aborted) this.#confirmSoon();
      });
    }, CONFIRM_EVERY_MS).unref();
  }

  async #confirm(): Promise<void> {
    const { bus, place, signal } = this.#o;
    const position = place.followed;
    if (position <= this.#confirmed) return this.#events > 0 ? this.#confirmSoon() : undefined;
    // What the filter left out is in no batch that would tell the position: it is noted before the bus may drop it.
    if (position > place.recorded) place.note();
    const call = makeCall({ caller: FOLLOWER, timeoutMs: CALL_TIMEOUT_MS, signal });
    await bus.confirm({ body: { follower: FOLLOWER, position } }, call).finally(() => call.end(false));
    this.#confirmed = position;
    if (this.#through > position) this.#confirmSoon();
  }
}
