/** Follows the bus into the store: events and the position after them in one transaction, so that nothing repeats or is skipped. */
import { makeCall } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { asFailure } from "../../kernel/error.ts";
import { decodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { forever } from "../../kernel/forever.ts";
import type { Log } from "../../kernel/log.ts";
import type { Range, Tracer } from "../../kernel/trace.ts";
import type { Bus, BusRecord, FollowItem } from "../bus/api.ts";
import type { EventStore } from "./store.ts";

const FOLLOWER = "core-data";
/** Bytes per item of the stream: one transaction, one sync. */
const ITEM_BYTES_MAX = 1_048_576;
/** The bus is told so often how far we are; it only trims by it. */
const CONFIRM_EVERY_MS = 1_000;

export interface FollowOptions {
  readonly bus: Bus;
  readonly store: EventStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly signal: AbortSignal;
}

/** Follows until the signal aborts. A record that cannot be read is logged and passed by: it never blocks the queue. */
export function followBus(options: FollowOptions): Promise<void> {
  const { bus, store, clock, log, signal } = options;
  let confirmedMs = 0;
  return forever({ what: "following the bus", clock, log, signal }, async () => {
    const call = makeCall({ caller: FOLLOWER, timeoutMs: Number.POSITIVE_INFINITY, signal });
    for await (const item of bus.follow(
      { follower: FOLLOWER, after: store.position, bytesMax: ITEM_BYTES_MAX },
      call,
    )) {
      keep(options, item);
      if (clock.monotonicMs() - confirmedMs < CONFIRM_EVERY_MS) continue;
      confirmedMs = clock.monotonicMs();
      const confirm = makeCall({ caller: FOLLOWER, timeoutMs: 5_000, signal });
      await bus.confirm({ body: { follower: FOLLOWER, position: item.next } }, confirm);
    }
  });
}

function keep({ store, clock, log, tracer }: FollowOptions, item: FollowItem): void {
  const startMs = clock.monotonicMs();
  if (item.gap)
    log.warn({ from: item.gap.from, to: item.gap.to }, "records of the bus are gone before core-data had them");
  const blocks: Block[] = [];
  for (const record of item.records) if (record.kind === "events") read(record, blocks, log);
  store.add(blocks, item.next);
  if (blocks.length > 0) tracer.batch("keep", startMs, rangesOf(blocks), `positions to ${item.next}`);
}

function read(record: BusRecord, blocks: Block[], log: Log): void {
  try {
    blocks.push(...decodeBlocks(record.payload));
  } catch (error) {
    log.error(
      { position: record.position, code: asFailure(error).code, err: error },
      "a record of the bus cannot be read and is passed by",
    );
  }
}

/** Ranges per publisher and epoch that blocks span, for the trace. */
export function rangesOf(blocks: readonly Block[]): Range[] {
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
