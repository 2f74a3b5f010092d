/** Follows the bus into the store, writes before memory is full or the newest are too long in it, and tells the bus how far. */
import { makeCall } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { asFailure } from "../../kernel/error.ts";
import { decodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { forever } from "../../kernel/forever.ts";
import type { Log } from "../../kernel/log.ts";
import type { Range, Tracer } from "../../kernel/trace.ts";
import type { Bus, BusRecord, FollowItem } from "../bus/api.ts";
import type { RetentionClock } from "../../kernel/retention-clock.ts";
import type { EventStore } from "./store.ts";

const FOLLOWER = "core-data";
/** Bytes per item of the stream: decoding it must not keep questions waiting. */
const ITEM_BYTES_MAX = 128 * 1024;
/** Events stay in memory no longer (a write a minute costs flash less than one a second; the bus has them meanwhile). */
export const SETTLE_MS = 10_000;
const CONFIRM_TIMEOUT_MS = 5_000;

export interface FollowerParts {
  readonly bus: Bus;
  readonly store: EventStore;
  readonly retentionClock: RetentionClock;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly signal: AbortSignal;
}

export class Follower {
  readonly #parts: FollowerParts;
  readonly #done: Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #confirming: Promise<void> = Promise.resolve();

  constructor(parts: FollowerParts) {
    this.#parts = parts;
    const { clock, log, signal } = parts;
    this.#done = forever({ what: "following the bus", clock, log, signal }, () => this.#follow());
  }

  /** Writes what is in memory. Errors are the database's; nothing is lost then, and it is tried again. */
  readonly settle = (): void => {
    const { store, retentionClock } = this.#parts;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const before = store.position;
    try {
      store.settle(retentionClock.nowMs());
    } catch (error) {
      this.#settleLater();
      throw error;
    }
    if (store.position > before) this.#confirm(store.position);
  };

  /** Resolves when the signal has aborted and what came is written. */
  async stopped(): Promise<void> {
    await this.#done;
    this.settle();
    await this.#confirming;
  }

  async #follow(): Promise<void> {
    const { bus, store, signal } = this.#parts;
    if (store.isDamaged) store.reopen();
    // What could not be written keeps more from coming.
    if (store.tail.isFull) this.settle();
    const call = makeCall({ caller: FOLLOWER, timeoutMs: Number.POSITIVE_INFINITY, signal });
    // Found by a question perhaps: follow anew, into a fresh database.
    store.whenDamaged = () => call.end(true);
    try {
      for await (const item of bus.follow(
        { follower: FOLLOWER, after: store.followed, bytesMax: ITEM_BYTES_MAX },
        call,
      )) {
        this.#take(item);
        if (store.tail.isFull) this.settle();
        else this.#settleLater();
      }
    } finally {
      call.end(true);
    }
  }

  #take(item: FollowItem): void {
    const { store, clock, log, tracer } = this.#parts;
    const startMs = clock.monotonicMs();
    if (item.gap)
      log.warn({ from: item.gap.from, to: item.gap.to }, "records of the bus were lost before core-data had them");
    const blocks: Block[] = [];
    let bytes = 0;
    for (const record of item.records) {
      if (record.kind !== "events") continue;
      bytes += record.payload.length;
      read(record, blocks, log);
    }
    store.add(blocks, item.next, bytes);
    if (blocks.length > 0) tracer.batch("keep", startMs, rangesOf(blocks), `positions to ${item.next}`);
  }

  #settleLater(): void {
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      try {
        this.settle();
      } catch (error) {
        this.#parts.log.warn(
          { code: asFailure(error).code, err: error },
          "events could not be written; they stay in memory and on the bus",
        );
      }
    }, SETTLE_MS).unref();
  }

  /** Tells the bus what it need not keep for us; what it does not hear now it hears the next time. */
  #confirm(position: number): void {
    const { bus, log } = this.#parts;
    const call = makeCall({ caller: FOLLOWER, timeoutMs: CONFIRM_TIMEOUT_MS });
    this.#confirming = bus.confirm({ body: { follower: FOLLOWER, position } }, call).then(
      () => call.end(false),
      (error: unknown) => log.debug({ position, err: error }, "the bus was not told how far core-data is"),
    );
  }
}

/** A record that cannot be read is said and passed by: it never blocks the queue. */
function read(record: BusRecord, blocks: Block[], log: Log): void {
  try {
    for (const block of decodeBlocks(record.payload)) blocks.push(block);
  } catch (error) {
    log.error(
      { position: record.position, code: asFailure(error).code, err: error },
      "a record of the bus cannot be read and is passed by",
    );
  }
}

/** Ranges per publisher and epoch that blocks span, for the trace. */
function rangesOf(blocks: readonly Block[]): Range[] {
  const ranges = new Map<string, { publisher: string; epoch: number; from: number; to: number }>();
  for (const { publisher, sequences } of blocks) {
    const key = `${publisher.epoch} ${publisher.name}`;
    const [first, last] = [sequences[0], sequences.at(-1)!];
    const known = ranges.get(key);
    if (!known) ranges.set(key, { publisher: publisher.name, epoch: publisher.epoch, from: first, to: last });
    else {
      known.from = Math.min(known.from, first);
      known.to = Math.max(known.to, last);
    }
  }
  return [...ranges.values()];
}
