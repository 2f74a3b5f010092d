/**
 * Sends what the cloud has asked for in full: page by page from core-data through the pipelines into the outbox, at the
 * lowest priority. A batch and how far core-data was read with it are one record of the outbox, as with pipelines: after a
 * kill it goes on from there, and nothing goes twice.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../../../kernel/call.ts";
import type { Clock } from "../../../kernel/clock.ts";
import { mergeBlocks } from "../../../kernel/events/blocks.ts";
import { decodeBlocks } from "../../../kernel/events/codec.ts";
import { forever } from "../../../kernel/forever.ts";
import type { Log } from "../../../kernel/log.ts";
import type { Tracer } from "../../../kernel/trace.ts";
import { BACKFILL_PREFIX } from "../../cloud/backfill.api.ts";
import type { CoreData } from "../../core-data/api.ts";
import { makeBatches } from "../batch.ts";
import type { Outbox } from "../outbox/outbox.ts";
import { BATCH_DEFAULT, type PipelineDefinition } from "../pipelines/definition.ts";
import type { Departures } from "../pipelines/departures.ts";
import { rangesOf } from "../ranges.ts";
import { Waking } from "../uplink/waking.ts";
import type { Backfill, BackfillBook } from "./book.ts";
import { isPseudonymous, type Passed, passOriginals } from "./originals.ts";

const PRIORITY = 0;
/** Pages that wait in the outbox at once: more would take its room from what is new. */
const PAGES_WAITING_MAX = 2;
/** So often it is looked whether the cloud has a page. */
const LOOK_EVERY_MS = 100;
const CALL_TIMEOUT_MS = 30_000;

export interface BackfillsParts {
  readonly book: BackfillBook;
  readonly coreData: Pick<CoreData, "originals">;
  readonly outbox: Outbox;
  readonly departures: Departures;
  /** The pipelines that go to the cloud, and the destination's name. */
  readonly pipelines: () => readonly (readonly [name: string, definition: PipelineDefinition])[];
  readonly destination: string;
  /** False: the config wants none to be given. */
  readonly isAllowed: boolean;
  readonly pseudonymKey: Uint8Array;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly signal: AbortSignal;
}

export class Backfills {
  readonly #p: BackfillsParts;
  readonly #waking: Waking;
  /** Sequences of the last batch of each page that waits. */
  #waiting: number[] = [];

  constructor(parts: BackfillsParts) {
    this.#p = parts;
    this.#waking = new Waking(parts.signal);
    parts.book.onChanged(() => this.#waking.wake());
  }

  /** Works until the signal aborts. */
  async run(): Promise<void> {
    const { clock, log, signal } = this.#p;
    await forever({ what: "a backfill", clock, log, signal }, async () => {
      while (!signal.aborted) {
        const { book, outbox } = this.#p;
        // What of it the outbox has lost, and the cloud has, is known when the cloud has been asked.
        if (outbox.isUnsure) await this.#waking.sleep(LOOK_EVERY_MS);
        else if (book.current) await this.#step(book.current);
        else await this.#waking.sleep();
      }
    });
  }

  /** One page. Errors are those of core-data and the outbox: it is tried again. */
  async #step(backfill: Backfill): Promise<void> {
    const { book, isAllowed } = this.#p;
    const { id } = backfill;
    if (!isAllowed)
      return book.note(id, { state: "failed", reason: "the node's config says pipeline.backfill: refuse" });
    const after = Math.max(backfill.after, this.#p.outbox.followed(BACKFILL_PREFIX + id)?.through ?? 0);
    const page = await this.#page(backfill, after);
    const readings = page.blocks ? await this.#queue(backfill, page.blocks, { after, next: page.next }) : 0;
    book.note(id, { after: page.next, readings: backfill.readings + readings, share: page.share });
    if (page.share < 1) return this.#untilFewWait();
    await this.#untilAllIsThere();
    book.note(id, { state: "done" });
  }

  async #page({ devices, fromNs, toNs }: Backfill, after: number): ReturnType<CoreData["originals"]> {
    const { coreData, pipelines, signal } = this.#p;
    // Other names than core-data knows are found in what comes out of the pipelines.
    const asked = pipelines().some(([, definition]) => isPseudonymous(definition)) ? [] : [...devices];
    const call = makeCall({ caller: "pipeline", timeoutMs: CALL_TIMEOUT_MS, signal });
    const body = { after, start: BigInt(fromNs), end: BigInt(toNs), devices: asked };
    return coreData.originals({ body }, call).finally(() => call.end(false));
  }

  /** Puts what may leave of a page into the outbox, all of it or nothing; answers how many readings that is. */
  async #queue(
    backfill: Backfill,
    bytes: Uint8Array,
    { after, next }: { after: number; next: number },
  ): Promise<number> {
    const { clock, departures, log, outbox, pipelines, pseudonymKey, tracer } = this.#p;
    const startMs = clock.monotonicMs();
    const passed = passOriginals(decodeBlocks(bytes), pipelines(), backfill, pseudonymKey);
    const queuedNs = clock.wallNs();
    const lost = () => log.error({ backfill: backfill.id }, "an event fits no batch and is passed by");
    const made = passed.map(({ pipeline, blocks }: Passed) => ({
      pipeline,
      batches: makeBatches(mergeBlocks(blocks), BATCH_DEFAULT.events, lost),
    }));
    const all = made.flatMap(({ batches }) => batches);
    if (all.length === 0) return 0;
    await outbox.add(
      { pipeline: BACKFILL_PREFIX + backfill.id, destinations: [this.#p.destination], priority: PRIORITY },
      // Only with the last one the page is whole; they are on the disk all or none.
      all.map(({ blocks, events, readings }, i) => {
        return { blocks, events, readings, queuedNs, through: i === all.length - 1 ? next : after };
      }),
    );
    this.#waiting.push(outbox.queues.low.journal.last);
    for (const { pipeline, batches } of made) for (const { parts } of batches) departures.add(pipeline, parts);
    const ranges = rangesOf(passed.flatMap(({ blocks }) => blocks));
    tracer.batch("backfill", startMs, ranges, `${backfill.id}: ${all.length} batches`);
    return all.reduce((sum, { readings }) => sum + readings, 0);
  }

  async #untilFewWait(): Promise<void> {
    const { destination, outbox } = this.#p;
    await this.#until(() => {
      const settled = outbox.queues.low.settled(destination);
      this.#waiting = this.#waiting.filter((sequence) => !settled.has(sequence));
      return this.#waiting.length <= PAGES_WAITING_MAX;
    });
  }

  /** Also what was queued before a restart. */
  async #untilAllIsThere(): Promise<void> {
    const { destination, outbox } = this.#p;
    const { last } = outbox.queues.low.journal;
    await this.#until(() => outbox.queues.low.settled(destination).through(0) >= last);
  }

  async #until(holds: () => boolean): Promise<void> {
    const { signal } = this.#p;
    while (!holds()) await sleep(LOOK_EVERY_MS, undefined, { signal, ref: false });
  }
}
