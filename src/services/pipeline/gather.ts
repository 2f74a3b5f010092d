/** Follows the bus, filters, and gathers events into batches for the outbox: by count, bytes or time, whichever comes first. */
import { makeCall } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { asFailure } from "../../kernel/error.ts";
import { mergeBlocks, sliceBlock } from "../../kernel/events/blocks.ts";
import { decodeBlocks, encodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { forever } from "../../kernel/forever.ts";
import type { Log } from "../../kernel/log.ts";
import type { Range, Tracer } from "../../kernel/trace.ts";
import type { Bus, FollowItem } from "../bus/api.ts";
import type { Outbox } from "./outbox.ts";

const FOLLOWER = "pipeline";
const ITEM_BYTES_MAX = 512 * 1024;
const CONFIRM_EVERY_MS = 1_000;
/** Values (rows times columns) of one batch: the codec, the cloud and memory all stay far from their limits. */
const BATCH_VALUES_MAX = 262_144;

export interface GatherOptions {
  readonly bus: Bus;
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
export function gather(options: GatherOptions): Promise<void> {
  const { clock, log, signal } = options;
  return forever({ what: "gathering batches", clock, log, signal }, () => new Gathering(options).run());
}

/** One run over the stream: what it holds in memory ends with it, the outbox knows where to go on. */
class Gathering {
  readonly #o: GatherOptions;
  #blocks: Block[] = [];
  #events = 0;
  #values = 0;
  #through: number;
  #startMs = 0;
  #flushing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #confirmedMs = 0;
  #broken: unknown;

  constructor(options: GatherOptions) {
    this.#o = options;
    this.#through = options.outbox.followed;
  }

  async run(): Promise<void> {
    const { bus, outbox, signal } = this.#o;
    // Ends the stream when a timed flush failed: the run must not go on past a batch that is in no outbox.
    const ending = new AbortController();
    const call = makeCall({ caller: FOLLOWER, timeoutMs: Number.POSITIVE_INFINITY, signal: AbortSignal.any([signal, ending.signal]) });
    try {
      for await (const item of bus.follow({ follower: FOLLOWER, after: outbox.followed, bytesMax: ITEM_BYTES_MAX }, call)) {
        this.#take(item);
        if (this.#events >= this.#o.batchEvents || this.#values >= BATCH_VALUES_MAX) await this.#flush();
        else if (this.#events > 0) this.#timer ??= setTimeout(() => void this.#flush().catch(() => ending.abort()), this.#o.batchMs);
        else this.#advance();
        if (this.#broken) throw this.#broken;
        await this.#confirm();
      }
      if (this.#broken) throw this.#broken;
    } finally {
      clearTimeout(this.#timer);
      await this.#flushing.catch(() => undefined);
    }
  }

  #take(item: FollowItem): void {
    const { clock, filter, log } = this.#o;
    if (item.gap) log.warn({ from: item.gap.from, to: item.gap.to }, "records of the bus are gone before the pipeline had them");
    if (this.#events === 0) this.#startMs = clock.monotonicMs();
    for (const record of item.records) {
      if (record.kind !== "events") continue;
      try {
        for (const block of decodeBlocks(record.payload)) {
          const kept = filter(block);
          if (!kept) continue;
          this.#blocks.push(kept);
          this.#events += kept.sequences.length;
          this.#values += kept.sequences.length * kept.columns.length;
        }
      } catch (error) {
        log.error({ position: record.position, code: asFailure(error).code, err: error }, "a record of the bus cannot be read and is passed by");
      }
    }
    this.#through = item.next;
  }

  /** Nothing waits: what was followed held nothing that leaves, and the next start need not read it again. */
  #advance(): void {
    this.#o.outbox.followed = Math.max(this.#o.outbox.followed, this.#through);
  }

  /** Puts what is gathered into the outbox, one flush after the other. */
  #flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const gathered = { blocks: this.#blocks, through: this.#through, startMs: this.#startMs };
    this.#blocks = [];
    this.#events = 0;
    this.#values = 0;
    this.#flushing = this.#flushing
      .then(() => this.#queue(gathered))
      .catch((error: unknown) => {
        this.#broken ??= error;
        throw error;
      });
    return this.#flushing;
  }

  async #queue({ blocks, through, startMs }: { blocks: Block[]; through: number; startMs: number }): Promise<void> {
    const { batchEvents, clock, outbox, tracer } = this.#o;
    const queuedNs = clock.wallNs();
    const parts = splitBatches(mergeBlocks(blocks), batchEvents);
    const encodeMs = clock.monotonicMs();
    const batches = parts.map((part, i) => ({
      blocks: encodeBlocks(part),
      // Only with the last part is the bus followed up to `through`.
      through: i === parts.length - 1 ? through : outbox.followed,
      queuedNs,
      events: part.reduce((n, b) => n + b.sequences.length, 0),
      readings: part.reduce((n, b) => n + b.sequences.length * b.columns.length, 0),
    }));
    const ranges = rangesOf(blocks);
    tracer.batch("encode", startMs, ranges, `${batches.length} batches, ${batches.reduce((n, b) => n + b.blocks.length, 0)} bytes, gathered in ${Math.round(encodeMs - startMs)} ms`);
    const queueMs = clock.monotonicMs();
    await outbox.add(batches);
    tracer.batch("queue", queueMs, ranges);
  }

  async #confirm(): Promise<void> {
    const { bus, clock, outbox, signal } = this.#o;
    if (clock.monotonicMs() - this.#confirmedMs < CONFIRM_EVERY_MS) return;
    this.#confirmedMs = clock.monotonicMs();
    await bus.confirm({ body: { follower: FOLLOWER, position: outbox.followed } }, makeCall({ caller: FOLLOWER, timeoutMs: 5_000, signal }));
  }
}

/** Cuts merged blocks into batches of at most so many events (a single block may be cut too). */
function splitBatches(blocks: readonly Block[], eventsMax: number): Block[][] {
  const batches: Block[][] = [[]];
  let room = eventsMax;
  for (const block of blocks) {
    const rowsMax = Math.max(1, Math.floor(BATCH_VALUES_MAX / Math.max(1, block.columns.length)));
    for (let from = 0; from < block.sequences.length; ) {
      if (room === 0) {
        batches.push([]);
        room = eventsMax;
      }
      const to = Math.min(block.sequences.length, from + Math.min(room, rowsMax));
      batches.at(-1)!.push(from === 0 && to === block.sequences.length ? block : sliceBlock(block, from, to));
      room -= to - from;
      from = to;
    }
  }
  return batches.filter((batch) => batch.length > 0);
}

/** What blocks span, per publisher and epoch. */
export function rangesOf(blocks: readonly Block[]): Range[] {
  const ranges = new Map<string, { publisher: string; epoch: number; from: number; to: number }>();
  for (const { publisher, sequences } of blocks) {
    const key = `${publisher.epoch} ${publisher.name}`;
    const range = ranges.get(key);
    const [first, last] = [sequences[0], sequences.at(-1)!];
    if (range) Object.assign(range, { from: Math.min(range.from, first), to: Math.max(range.to, last) });
    else ranges.set(key, { publisher: publisher.name, epoch: publisher.epoch, from: first, to: last });
  }
  return [...ranges.values()];
}
