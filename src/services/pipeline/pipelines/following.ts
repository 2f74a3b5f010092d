/**
 * Follows the bus for one pipeline: takes record after record through its functions and gathers what they give into batches
 * for the outbox. What comes out is the same every time, so that its events can be counted: after a restart what the outbox
 * has of them is dropped by that count. What the time brings forth is not made again, and so kept with the checkpoint.
 */
import { makeCall } from "../../../kernel/call.ts";
import { asFailure } from "../../../kernel/error.ts";
import { decodeBlocks } from "../../../kernel/events/codec.ts";
import type { Block } from "../../../kernel/events/model.ts";
import type { BusRecord, FollowItem } from "../../bus/api.ts";
import { valuesOf } from "../batch.ts";
import { Chain } from "./chain.ts";
import { Checkpoints, type Moment } from "./checkpoints.ts";
import { batchLimitsOf, type PipelineDefinition } from "./definition.ts";
import { Gathered } from "./gathered.ts";
import { eventsIn, Given } from "./given.ts";
import type { Parts } from "./parts.ts";
import { queueBatches } from "./queueing.ts";
import type { Mark } from "./tables.ts";

export const FOLLOWER = "pipeline";
const ITEM_BYTES_MAX = 512 * 1024;
/** Functions are told the time so often. */
const TICK_EVERY_MS = 1_000;

/** What goes to the outbox as one. */
interface Cut extends Moment {
  readonly gathered: Gathered;
}

export class Following {
  readonly #p: Parts;
  readonly #name: string;
  readonly #definition: PipelineDefinition;
  readonly #limits: { readonly events: number; readonly ms: number };
  readonly chain: Chain;
  /** Ends the stream when a timed flush failed: the run must not go on past a batch that is in no outbox. */
  readonly #ending = new AbortController();
  #gathered = new Gathered();
  #through = 0;
  readonly #given = new Given();
  /** The outbox has all of what comes up to this position. */
  #dropThrough = 0;
  /** Before the functions have seen what is on the bus, it is too early to tell them the time. */
  #isLive = false;
  /** Since when nothing came; infinite while something is taken. */
  #takenMs: number;
  /** Flushes, one after the other; rejected for good when one failed. */
  #flushing: Promise<void> = Promise.resolve();
  readonly #onTheirWay = new Set<Gathered>();
  #flushTimer: NodeJS.Timeout | undefined;
  readonly #checkpoints: Checkpoints;
  /** All of it up to here is in the outbox, or never will be. */
  #followed: Mark = { position: 0, emitted: 0 };
  /** What the disk knows: from here on the bus is needed. */
  #safe = 0;
  #noted = 0;

  constructor(parts: Parts, name: string, definition: PipelineDefinition) {
    this.#p = parts;
    this.#name = name;
    this.#definition = definition;
    this.#limits = batchLimitsOf(definition.functions);
    this.chain = new Chain(definition.functions, { pipeline: name, pseudonymKey: parts.pseudonymKey });
    this.#checkpoints = new Checkpoints(parts, name, this.#limits.events);
    this.#takenMs = parts.clock.monotonicMs();
  }

  /** Position of the bus from which on this pipeline needs it. */
  get safe(): number {
    return this.#safe;
  }

  /** Position of the bus up to which all is in the outbox, or never will be. */
  get followed(): number {
    return this.#followed.position;
  }

  /**
   * Follows until the signal aborts; or, for the last time with this definition (`isLast`), until all is made again that
   * the outbox has.
   */
  async run(signal: AbortSignal, isLast = false): Promise<void> {
    const { bus } = this.#p;
    const until = this.#begin();
    if (isLast && this.#through >= until) return;
    const ended = AbortSignal.any([signal, this.#ending.signal]);
    const call = makeCall({ caller: FOLLOWER, timeoutMs: Number.POSITIVE_INFINITY, signal: ended });
    const ticking = setInterval(() => this.#guarded(() => this.#tick()), TICK_EVERY_MS).unref();
    try {
      const { topics } = this.#definition;
      const filter = topics.length > 0 ? { topics: [...topics] } : {};
      const after = this.#through;
      for await (const item of bus.follow({ follower: FOLLOWER, after, bytesMax: ITEM_BYTES_MAX, ...filter }, call)) {
        this.#takenMs = Number.POSITIVE_INFINITY;
        await this.#take(item, after);
        this.#takenMs = this.#p.clock.monotonicMs();
        if (isLast && this.#through >= until) break;
        if (this.#gathered.events > 0) this.#flushSoon();
        else this.#guarded(() => this.#flush());
      }
      // The reason why it ended, where a timed flush failed.
      await this.#flushing;
    } finally {
      clearInterval(ticking);
      clearTimeout(this.#flushTimer);
      await this.#flushing.catch(() => undefined); // Thrown above, or overtaken by another failure.
      call.end(false);
    }
  }

  /** Where to begin, and what of it is in the outbox already; answers the position that this reaches to. */
  #begin(): number {
    const { outbox, tables } = this.#p;
    const kept = tables.load(this.#name)!;
    const queued = outbox.followed(this.#name);
    const isAhead =
      queued && (queued.emitted === undefined ? queued.through > kept.position : queued.emitted > kept.emitted);
    const ahead = isAhead ? { position: queued.through, emitted: queued.emitted ?? kept.emitted } : kept;
    const start = this.chain.isStateful ? kept : ahead;
    if (this.chain.isStateful) {
      if (kept.state) this.chain.load(kept.state);
      this.#given.drop = ahead.emitted - kept.emitted;
      // The cloud has told the position, and not how many events that are.
      if (queued && queued.emitted === undefined) this.#dropThrough = queued.through;
    }
    this.#followed = { position: start.position, emitted: start.emitted };
    this.#through = this.#safe = start.position;
    this.#noted = kept.position;
    this.#given.events = start.emitted;
    const hasPending = isAhead || queued?.emitted === kept.emitted;
    this.#resume(
      kept.pending.flatMap((bytes) => decodeBlocks(bytes)),
      hasPending ? 0 : kept.emitted - (queued?.emitted ?? 0),
    );
    return ahead.position;
  }

  /** Gathers the last of what was given before the checkpoint, as far as the outbox has not got it. */
  #resume(pending: readonly Block[], missing: number): void {
    this.#followed = { ...this.#followed, emitted: this.#given.events - eventsIn(pending) };
    this.#gathered.add(this.#given.again(pending, missing), 0, this.#p.clock.monotonicMs());
    if (this.#gathered.events > 0) this.#flushSoon();
  }

  async #take(item: FollowItem, after: number): Promise<void> {
    if (item.gap)
      this.#p.log.warn(
        { ...item.gap, pipeline: this.#name },
        "records of the bus are gone before the pipeline had them",
      );
    const first = item.records[0]?.position ?? item.next;
    if (this.#through === after && first <= after) this.#beginAnew(first - 1);
    for (const record of item.records) {
      if (record.kind === "events") await this.#add(record);
      this.#through = record.position;
      // After damage to the outbox the cloud may have some of them: whole batches, once it has told.
      const isCut = this.#p.outbox.isUnsure && this.#gathered.events > 0;
      if (isCut || this.#gathered.isFull(this.#limits.events)) await this.#flush();
    }
    this.#through = Math.max(this.#through, item.next);
  }

  /** The bus counts from the beginning again: its journal was lost. What it has now, nobody has seen. */
  #beginAnew(position: number): void {
    this.#p.log.error(
      { followed: this.#through, position, pipeline: this.#name },
      "the bus has begun anew, behind what was followed of it; it is followed from there",
    );
    this.#given.drop = this.#dropThrough = 0;
    this.#through = position;
    this.#checkpoint({ position, emitted: this.#given.events, state: this.#stateNow() });
  }

  /** Takes a record through the functions; what is gathered goes first where both are too much. */
  async #add({ payload, position }: BusRecord): Promise<void> {
    const { decoded, log } = this.#p;
    let blocks: readonly Block[];
    try {
      // What comes of a topic filter is a part of the record.
      blocks = this.#definition.topics.length > 0 ? decodeBlocks(payload) : decoded.of(position, payload);
    } catch (error) {
      const { code } = asFailure(error);
      return log.error({ position, code, err: error }, "a record of the bus cannot be read and is passed by");
    }
    const values = valuesIn(blocks);
    if (this.#gathered.events > 0 && this.#gathered.isFull(this.#limits.events, values, payload.length))
      await this.#flush();
    const given = this.chain.push(blocks);
    if (position <= this.#dropThrough) this.#given.drop = Math.max(this.#given.drop, eventsIn(given));
    this.#emit(given, Math.round((payload.length * valuesIn(given)) / Math.max(1, values)));
  }

  /** Gathers what the functions gave, but for what the outbox has of it. */
  #emit(blocks: readonly Block[], bytes: number): void {
    this.#gathered.add(this.#given.fresh(blocks), bytes, this.#p.clock.monotonicMs());
  }

  #flushSoon(): void {
    this.#flushTimer ??= setTimeout(() => this.#guarded(() => this.#flush()), this.#limits.ms);
  }

  /** Runs what a timer wants; a failure ends the run. */
  #guarded(work: () => Promise<void> | void): void {
    void (async () => work())().catch((error: unknown) => {
      this.#flushing = Promise.reject(asFailure(error));
      this.#flushing.catch(() => undefined);
      this.#ending.abort();
    });
  }

  /** Tells the functions the time, once they have seen what is on the bus: what is due by it leaves though nothing came. */
  #tick(): void {
    const nowMs = this.#p.clock.monotonicMs();
    // When nothing has come for a while, there is nothing.
    this.#isLive ||= nowMs - this.#takenMs >= TICK_EVERY_MS;
    if (!this.#isLive || this.#given.drop > 0 || !this.#isCheckpointDue()) return;
    const due = this.chain.tick(BigInt(Math.round(nowMs * 1e6)));
    if (!due) return;
    this.#emit(due, 0);
    this.#checkpoint({ position: this.#through, emitted: this.#given.events, state: this.#stateNow() });
    this.#flushSoon();
  }

  /** Has the functions give all that they hold, for good: what comes from here on is the matter of another definition. */
  async finish(next: PipelineDefinition): Promise<void> {
    this.#emit(this.chain.flush(), 0);
    this.#checkpoint({ position: this.#through, emitted: this.#given.events, state: undefined }, next);
    await this.#flush();
  }

  /** Puts what is gathered into the outbox, one flush after the other; where there is nothing, the position moves on. */
  #flush(): Promise<void> {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    const gathered = this.#gathered;
    const state = this.#isCheckpointDue() ? this.#stateNow() : undefined;
    const cut = { gathered, position: this.#through, emitted: this.#given.events, state };
    this.#gathered = new Gathered();
    this.#onTheirWay.add(gathered);
    this.#flushing = this.#reach(this.#flushing, cut);
    return this.#flushing;
  }

  async #reach(before: Promise<void>, { gathered, position, emitted, state }: Cut): Promise<void> {
    await before;
    if (gathered.events > 0)
      await queueBatches(this.#p, {
        pipeline: this.#name,
        definition: this.#definition,
        eventsMax: this.#limits.events,
        gathered,
        before: this.#followed,
        after: { position, emitted },
      });
    this.#onTheirWay.delete(gathered);
    this.#followed = { position, emitted };
    if (!this.chain.isStateful) this.#safe = position;
    // What was gathered since is given after this moment: the functions will give it again.
    else if (state && position > this.#safe) this.#keep({ position, emitted, state }, []);
  }

  #stateNow(): unknown[] | undefined {
    return this.chain.isStateful ? this.chain.save() : undefined;
  }

  #isCheckpointDue(): boolean {
    return this.chain.isStateful && this.#checkpoints.isDue;
  }

  /** Keeps how things are now, with all that is not in the outbox yet. */
  #checkpoint(now: Moment, next = this.#definition): void {
    const blocks = [...this.#onTheirWay, this.#gathered].flatMap((gathered) => gathered.blocks);
    this.#keep(now, blocks, next);
  }

  #keep(now: Moment, blocks: readonly Block[], next = this.#definition): void {
    this.#checkpoints.keep(now, blocks, next);
    this.#safe = this.#noted = now.position;
  }

  /** Sees to it that the disk knows how far this is, before the bus may drop what is behind. */
  settle(): void {
    const { outbox, tables } = this.#p;
    if (this.chain.isStateful) {
      if (this.#through > this.#safe && this.#gathered.events === 0 && this.#isCheckpointDue())
        this.#guarded(() => this.#flush());
      return;
    }
    const { position, emitted } = this.#followed;
    const queued = outbox.followed(this.#name);
    // What the filter left out is in no batch that would tell the position.
    if (position <= this.#noted || (queued?.emitted === emitted && queued.through >= position)) return;
    tables.note(this.#name, this.#followed);
    this.#noted = position;
  }
}

const valuesIn = (blocks: readonly Block[]): number => blocks.reduce((sum, block) => sum + valuesOf(block), 0);
