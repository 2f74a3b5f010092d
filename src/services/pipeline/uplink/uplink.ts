/** Drains the outbox to one destination: what is new first, what waits beside it; offline is a position that stands still. */
import type { Clock } from "../../../kernel/clock.ts";
import { asFailure, type Failure } from "../../../kernel/error.ts";
import type { Log } from "../../../kernel/log.ts";
import type { Tracer } from "../../../kernel/trace.ts";
import type { Destination } from "../api.ts";
import type { Lane } from "../destinations/sender.ts";
import type { Gaps } from "../outbox/gaps.ts";
import type { Outbox } from "../outbox/outbox.ts";
import type { QueueClass } from "../pacing/priority.ts";
import type { PipelineStore } from "../store.ts";
import { Drain } from "./drain.ts";
import { Lanes } from "./lanes.ts";
import type { Route } from "./route.ts";
import { Sending } from "./sending.ts";
import { FairShare } from "./share.ts";
import { Totals } from "./totals.ts";
import { Waking } from "./waking.ts";

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

export class Uplink {
  readonly name: string;
  readonly totals: Totals;
  readonly #o: UplinkOptions;
  readonly #waking: Waking;
  readonly #lanes: readonly Lanes[];
  readonly #drain: Drain;
  readonly #sending: Sending;
  #route: Route | undefined;
  /** Until when a class is held back by the pace, on the monotonic clock. */
  readonly #heldUntilMs = new Map<QueueClass, number>();
  /** Where the breaker is not closed one request goes, and all else waits for its answer. */
  #isProbing = false;
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

  /** Sends by these ways from now on. */
  use(route: Route): void {
    void this.#closeRoute();
    this.#route = route;
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
      const route = this.#route;
      this.#session = new AbortController();
      try {
        if (!route) await this.#waking.sleep();
        // New batches wake it, too; they are no reason to try again.
        else if (route.waitMs > 0) await this.#waking.sleep(route.waitMs);
        else await this.#serve(route, this.#session);
      } catch (error) {
        if (signal.aborted) break;
        if (route && route === this.#route) this.#fail(route, asFailure(error));
      }
    }
    this.save();
    await this.#closeRoute();
  }

  /** Notes how far things are. */
  save(): void {
    const { clock, outbox, store } = this.#o;
    this.#savedMs = clock.monotonicMs();
    this.#isDirty = false;
    store.transaction(() => {
      outbox.save();
      store.setTotals(this.name, this.totals.state(this.#route?.bytes));
      if (this.#route) store.set(`spent ${this.name}`, this.#route.save());
    });
  }

  /** What is known without reading anything. */
  counts() {
    const waiting = this.#lanes.map(({ queue: { name }, waiting: batches }) => ({ class: name, batches }));
    return { destination: this.name, state: this.#state, waiting, bytes: this.totals.bytes(this.#route?.bytes) };
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
      ...(this.#route && this.#route.ways.length > 1 ? { way: this.#route.way.name } : {}),
      ...(this.#reason ? { reason: this.#reason } : {}),
      waiting: {
        batches: waiting.reduce((a, b) => a + b),
        bytes: bytes.reduce((a, b) => a + b),
        ...(first === undefined ? {} : { oldestMs: Math.max(0, Number((clock.wallNs() - first) / 1_000_000n)) }),
      },
      acknowledged: this.totals.acknowledged,
      wireBytes: this.totals.bytes(this.#route?.bytes),
      deadLetters: store.deadLetters.count(this.name),
    };
  }

  /** Serves both lanes until one fails, the way changes, or the end comes. */
  async #serve(route: Route, session: AbortController): Promise<void> {
    const { signal } = session;
    const { way } = route;
    await way.begin?.(() => !signal.aborted, signal);
    if (signal.aborted) return;
    for (const lanes of this.#lanes) lanes.begin();
    // One that is asked has answered; of the others the first request tells.
    if (way.begin) this.#answered(route);
    this.#isProbing = false;
    let failure: Failure | undefined;
    const channels = (["live", "backlog"] as const).map((kind) =>
      this.#channel(kind, route, session).catch((error: unknown) => {
        if (signal.aborted) return;
        // The other one's request is given up: nobody knows what of it arrived, and the destination is asked.
        failure = asFailure(error);
        session.abort();
      }),
    );
    await Promise.all(channels);
    if (failure) throw failure;
  }

  async #channel(kind: Lane["kind"], route: Route, session: AbortController): Promise<void> {
    const { signal } = session;
    const { way } = route;
    const share = new FairShare();
    const waking = new Waking(signal);
    const unlisten = this.#waking.listen(() => waking.wake());
    try {
      while (!signal.aborted) {
        if (kind === "live") {
          await way.tend?.(signal);
          // The cheaper way works again: what is under way is given up, and the destination asked what of it arrived.
          if (route.probeInMs <= 0) void route.probe().then((isBetter) => isBetter && session.abort());
        }
        const lanes = this.#pick(kind, share);
        const asideMs = kind === "backlog" && lanes ? this.#drain.asideMs : 0;
        if (lanes && asideMs <= 0 && !this.#isProbing) await this.#step(kind, lanes, route, share, signal);
        else await waking.sleep(lanes && asideMs > 0 ? asideMs : this.#restMs(kind, route));
      }
    } finally {
      unlisten();
    }
  }

  /** The lanes whose turn it is; undefined where nothing waits, or may not go now. */
  #pick(kind: Lane["kind"], share: FairShare): Lanes | undefined {
    const nowMs = this.#o.clock.monotonicMs();
    const ready = this.#lanes.filter(
      (lanes) => lanes.at(kind) !== undefined && (this.#heldUntilMs.get(lanes.queue.name) ?? 0) <= nowMs,
    );
    const name = share.pick(ready.map(({ queue }) => queue.name));
    return ready.find(({ queue }) => queue.name === name);
  }

  /** Milliseconds until something is due, though nothing comes. */
  #restMs(kind: Lane["kind"], route: Route): number {
    const nowMs = this.#o.clock.monotonicMs();
    const held = [...this.#heldUntilMs.values()].filter((untilMs) => untilMs > nowMs);
    const heldMs = Math.min(...held, Number.POSITIVE_INFINITY) - nowMs;
    if (kind === "backlog") return heldMs;
    if (held.length === 0) this.#idle();
    const tendMs = Math.max(0, route.way.tendInMs?.() ?? Number.POSITIVE_INFINITY);
    return Math.min(heldMs, this.#saveInMs(), route.probeInMs, tendMs);
  }

  async #step(kind: Lane["kind"], lanes: Lanes, route: Route, share: FairShare, signal: AbortSignal): Promise<void> {
    const isProbe = route.breaker.state !== "closed";
    const batches = await this.#sending.next(kind, lanes, isProbe);
    // Nothing of it is to be sent, or it is the backlog's now.
    if (batches.length === 0) return this.#waking.wake();
    if (signal.aborted || this.#hold(lanes, route, batches[0].priority)) return;
    const bytes = batches.reduce((sum, { blocks }) => sum + blocks.length, 0);
    share.sent(lanes.queue.name, batches[0].priority, bytes);
    this.#state = "sending";
    this.#isProbing = isProbe;
    route.way.sending?.(lanes.queue.name, batches.at(-1)!.sequence);
    await this.#sending.send(kind, lanes, route.way.sender, batches, signal);
    this.#isProbing = false;
    this.#isDirty = true;
    this.#answered(route);
    route.spend();
    await this.#o.outbox.trim();
    if (this.#saveInMs() <= 0) this.save();
    // What was waited for may be the end of a gap.
    this.#waking.wake();
  }

  /** Holds a class back where the pace wants it. */
  #hold({ queue }: Lanes, route: Route, priority: number): boolean {
    const { waitMs, reason } = route.turn(priority);
    if (waitMs <= 0) return false;
    this.#heldUntilMs.set(queue.name, this.#o.clock.monotonicMs() + waitMs);
    this.#state = "holding";
    this.#reason = reason;
    return true;
  }

  #idle(): void {
    if (this.#state !== "offline" && this.#lanes.every((lanes) => lanes.at("backlog") === undefined))
      this.#state = "idle";
    if (this.#isDirty && this.#saveInMs() <= 0) this.save();
  }

  #saveInMs(): number {
    const dueMs = this.#savedMs + SAVE_EVERY_MS - this.#o.clock.monotonicMs();
    return this.#isDirty ? Math.max(0, dueMs) : Number.POSITIVE_INFINITY;
  }

  #answered(route: Route): void {
    route.succeeded();
    if (this.#failures > 0)
      this.#o.log.info({ destination: this.name, failures: this.#failures }, "the destination answers again");
    this.#failures = 0;
    this.#reason = undefined;
    if (this.#state === "offline") this.#state = "idle";
  }

  #fail(route: Route, failure: Failure): void {
    const { log } = this.#o;
    this.#state = "offline";
    this.#reason = route.way.explain?.(failure) ?? failure.message;
    if (this.#failures++ === 0)
      log.warn(
        { destination: this.name, code: failure.code, err: this.#reason },
        "the destination does not answer; readings wait in the outbox",
      );
    route.spend();
    route.failed(failure);
  }

  async #closeRoute(): Promise<void> {
    const route = this.#route;
    if (!route) return;
    this.#route = undefined;
    await route.close();
    this.totals.addBytes(route.bytes);
  }
}

async function oldestNs(lanes: Lanes): Promise<bigint | undefined> {
  const at = lanes.at("backlog") ?? lanes.at("live");
  if (!at) return undefined;
  const { batches } = await lanes.read(at, { bytesMax: 1, recordsMax: 1 });
  return batches[0]?.queuedNs;
}
