/** Drains the outbox to one destination: what is new first, what waits beside it; offline is a position that stands still. */
import type { Clock } from "../../../kernel/clock.ts";
import { asFailure, type Failure } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import type { Tracer } from "../../../kernel/trace.ts";
import type { Destination } from "../api.ts";
import type { Lane, Sender } from "../destinations/sender.ts";
import type { Gaps } from "../outbox/gaps.ts";
import type { Outbox } from "../outbox/outbox.ts";
import type { QueueClass } from "../pacing/priority.ts";
import type { PipelineStore } from "../store.ts";
import { Drain } from "./drain.ts";
import { Lanes } from "./lanes.ts";
import { Sending } from "./sending.ts";
import { FairShare } from "./share.ts";
import { Totals } from "./totals.ts";
import { Waking } from "./waking.ts";

/** Pauses after failures: full jitter between nothing and this, doubling from the first to the second. */
const RETRY_MS = { first: 250, most: 10_000 };
/** Totals go to the disk so often while something is sent: a kill may cost so much of them, and nothing else. */
const SAVE_EVERY_MS = 10_000;

export interface UplinkOptions {
  /** The destination's name. */
  readonly name: string;
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly gaps: Gaps;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly signal: AbortSignal;
}

/** What a destination needs besides its sender. */
export interface Way {
  readonly sender: Sender;
  /** Finds out what it has; runs before anything is sent, and after every failure. */
  begin?(isWanted: () => boolean, signal: AbortSignal): Promise<void>;
  /** Does what is due besides sending; runs now and then, and before each request of what is new. */
  tend?(signal: AbortSignal): Promise<void>;
  /** Is told what is sent, before it is. */
  sending?(name: QueueClass, sequence: number): void;
  /** Why it fails, for people, where the failure does not say it. */
  explain?(failure: Failure): string;
}

export class Uplink {
  readonly name: string;
  readonly totals: Totals;
  readonly #o: UplinkOptions;
  readonly #waking: Waking;
  readonly #lanes: readonly Lanes[];
  readonly #drain: Drain;
  readonly #sending: Sending;
  #way: Way | undefined;
  /** Ends the session with the way that is taken. */
  #session = new AbortController();
  #state: Destination["state"] = "not-enrolled";
  #reason: string | undefined;
  #failures = 0;
  #savedMs: number;
  #isDirty = false;

  constructor(options: UplinkOptions) {
    const { name, outbox, store, signal, clock } = options;
    this.#o = options;
    this.name = name;
    this.totals = new Totals(clock, store.totals(name));
    this.#savedMs = clock.monotonicMs();
    this.#waking = new Waking(signal);
    this.#lanes = Object.values(outbox.queues).map((queue) => new Lanes(queue, name));
    this.#drain = new Drain(clock);
    this.#sending = new Sending(options, this.totals, this.#drain);
    outbox.onAdded(() => this.#waking.wake());
  }

  /** Sends this way from now on. */
  use(way: Way): void {
    void this.#closeSender();
    this.#way = way;
    this.#failures = 0;
    this.#reason = undefined;
    this.#state = "idle";
    this.#session.abort();
    this.#waking.wake();
  }

  /** Looks at once for something to do. */
  wake(): void {
    this.#waking.wake();
  }

  /** Says why nothing can be sent at all. */
  unusable(reason: string): void {
    this.#reason = reason;
  }

  /** Runs until the signal aborts. */
  async run(): Promise<void> {
    const { signal } = this.#o;
    signal.addEventListener("abort", () => this.#session.abort(), { once: true });
    while (!signal.aborted) {
      const way = this.#way;
      this.#session = new AbortController();
      try {
        if (way) await this.#serve(way, this.#session);
        else await this.#waking.sleep();
      } catch (error) {
        if (signal.aborted) break;
        if (way === this.#way) await this.#pauseAfter(asFailure(error));
      }
    }
    this.save();
    await this.#closeSender();
  }

  /** Notes how far things are. */
  save(): void {
    const { clock, outbox, store } = this.#o;
    this.#savedMs = clock.monotonicMs();
    this.#isDirty = false;
    store.transaction(() => {
      outbox.save();
      store.setTotals(this.name, this.totals.state(this.#way?.sender.bytes));
    });
  }

  async status(): Promise<Omit<Destination, "url" | "kind">> {
    const { clock, store } = this.#o;
    const waiting = this.#lanes.map((lanes) => lanes.waiting);
    const oldest = await Promise.all(this.#lanes.map((lanes) => oldestNs(lanes)));
    const first = oldest.reduce((a, b) => (a === undefined || (b !== undefined && b < a) ? b : a));
    const bytes = this.#lanes.map(({ queue: { journal } }, i) =>
      // Those acknowledged go segment by segment; batches are of like size over time.
      Math.round((journal.sizeBytes * waiting[i]) / Math.max(1, journal.last - journal.first + 1)),
    );
    return {
      name: this.name,
      state: this.#state,
      ...(this.#reason ? { reason: this.#reason } : {}),
      waiting: {
        batches: waiting.reduce((a, b) => a + b),
        bytes: bytes.reduce((a, b) => a + b),
        ...(first === undefined ? {} : { oldestMs: Math.max(0, Number((clock.wallNs() - first) / 1_000_000n)) }),
      },
      acknowledged: this.totals.acknowledged,
      wireBytes: this.totals.bytes(this.#way?.sender.bytes),
      deadLetters: store.deadLetters.count(this.name),
    };
  }

  /** Serves both lanes until one fails, the way changes, or the end comes. */
  async #serve(way: Way, session: AbortController): Promise<void> {
    const { signal } = session;
    const isWanted = () => !signal.aborted;
    await way.begin?.(isWanted, signal);
    if (signal.aborted) return;
    for (const lanes of this.#lanes) lanes.begin();
    this.#answered();
    let failure: unknown;
    const channels = (["live", "backlog"] as const).map((kind) =>
      this.#channel(kind, way, signal).catch((error: unknown) => {
        if (signal.aborted) return;
        // The other one's request is given up: nobody knows what of it arrived, and the destination is asked.
        failure = error;
        session.abort();
      }),
    );
    await Promise.all(channels);
    if (failure !== undefined) throw failure;
  }

  async #channel(kind: Lane["kind"], way: Way, signal: AbortSignal): Promise<void> {
    const share = new FairShare();
    // Its own: the two wake at the same time and sleep apart.
    const waking = new Waking(signal);
    const wake = () => waking.wake();
    const unlisten = this.#waking.listen(wake);
    try {
      while (!signal.aborted) {
        if (kind === "live") await way.tend?.(signal);
        const waiting = this.#lanes.filter((lanes) => lanes.at(kind) !== undefined).map(({ queue }) => queue.name);
        const name = share.pick(waiting);
        const lanes = this.#lanes.find(({ queue }) => queue.name === name);
        const asideMs = kind === "backlog" && lanes ? this.#drain.asideMs : 0;
        if (!lanes || asideMs > 0) {
          if (kind === "live") this.#idle();
          await waking.sleep(lanes ? asideMs : this.#saveInMs());
          continue;
        }
        await this.#step(kind, lanes, way, share, signal);
      }
    } finally {
      unlisten();
    }
  }

  async #step(kind: Lane["kind"], lanes: Lanes, way: Way, share: FairShare, signal: AbortSignal): Promise<void> {
    const batches = await this.#sending.next(kind, lanes);
    // Nothing of it is to be sent, or it is the backlog's now.
    if (batches.length === 0) return this.#waking.wake();
    if (signal.aborted) return;
    const { priority } = batches[0];
    share.sent(
      lanes.queue.name,
      priority,
      batches.reduce((sum, { blocks }) => sum + blocks.length, 0),
    );
    this.#state = "sending";
    way.sending?.(lanes.queue.name, batches.at(-1)!.sequence);
    await this.#sending.send(kind, lanes, way.sender, batches, signal);
    this.#isDirty = true;
    this.#answered();
    await this.#o.outbox.trim();
    if (this.#saveInMs() <= 0) this.save();
    // What was waited for may be the end of a gap.
    this.#waking.wake();
  }

  #idle(): void {
    if (this.#lanes.every((lanes) => lanes.at("backlog") === undefined)) this.#state = "idle";
    if (this.#isDirty && this.#saveInMs() <= 0) this.save();
  }

  #saveInMs(): number {
    const dueMs = this.#savedMs + SAVE_EVERY_MS - this.#o.clock.monotonicMs();
    return this.#isDirty ? Math.max(0, dueMs) : Number.POSITIVE_INFINITY;
  }

  #answered(): void {
    if (this.#failures > 0)
      this.#o.log.info({ destination: this.name, failures: this.#failures }, "the destination answers again");
    this.#failures = 0;
    this.#reason = undefined;
    if (this.#state === "offline") this.#state = "idle";
  }

  async #pauseAfter(failure: Failure): Promise<void> {
    const { log } = this.#o;
    this.#state = "offline";
    this.#reason = this.#way?.explain?.(failure) ?? failure.message;
    if (this.#failures++ === 0)
      log.warn(
        { destination: this.name, code: failure.code, err: this.#reason },
        "the destination does not answer; readings wait in the outbox",
      );
    const mostMs = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** Math.min(this.#failures, 16));
    // One that says when it wants to be asked again is obeyed; a broken connection (which has a cause) says nothing.
    const askedMs = failure.cause === undefined ? (failure.retryAfterS ?? 0) * 1000 : 0;
    const untilMs = this.#o.clock.monotonicMs() + Math.min(RETRY_MS.most, askedMs + Math.random() * mostMs);
    const way = this.#way;
    while (way === this.#way && !this.#o.signal.aborted) {
      const leftMs = untilMs - this.#o.clock.monotonicMs();
      if (leftMs <= 0) return;
      // New batches wake it, too; they are no reason to try again.
      await this.#waking.sleep(leftMs);
    }
  }

  async #closeSender(): Promise<void> {
    const sender = this.#way?.sender;
    if (!sender) return;
    this.#way = undefined;
    await sender.close();
    this.totals.addBytes(sender.bytes);
  }
}

async function oldestNs(lanes: Lanes): Promise<bigint | undefined> {
  const at = lanes.at("backlog") ?? lanes.at("live");
  if (!at) return undefined;
  const { batches } = await lanes.read(at, { bytesMax: 1, recordsMax: 1 });
  return batches[0]?.queuedNs;
}
