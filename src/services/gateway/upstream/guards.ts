/** What spares an upstream in trouble: a breaker, a bulkhead, a budget of retries and of second requests. */
import type { Clock } from "../../../kernel/clock.ts";
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_BREAKER_OPEN, GATEWAY_BUSY } from "../api.ts";
import type { Ticket } from "../ticket.ts";
import type { UpstreamSettings } from "../upstream.api.ts";

/** Parts of a breaker's window: what is older than the window is forgotten by a tenth at a time. */
const SLOTS = 10;

/** Opens where too many requests fail; after a while lets one try at a time through, and closes when that one is answered. */
export class Breaker {
  readonly #settings: NonNullable<UpstreamSettings["breaker"]>;
  readonly #name: string;
  readonly #clock: Clock;
  readonly #slots = Array.from({ length: SLOTS }, () => ({ number: -1, count: 0, failed: 0 }));
  #openUntilMs = 0;
  #open = false;
  #trying = false;
  /** Told when it opens, stays open for longer, or closes, by what was seen here. */
  onChange: (open: boolean) => void = () => undefined;

  constructor(name: string, settings: NonNullable<UpstreamSettings["breaker"]>, clock: Clock) {
    this.#name = name;
    this.#settings = settings;
    this.#clock = clock;
  }

  get open(): boolean {
    return this.#open;
  }

  /** Lets a request through, or refuses it with GATEWAY_BREAKER_OPEN. */
  admit(): void {
    if (!this.#open) return;
    const leftMs = this.#openUntilMs - this.#clock.monotonicMs();
    if (leftMs > 0 || this.#trying)
      throw fail(GATEWAY_BREAKER_OPEN, `too many requests to ${this.#name} failed: it is spared for a while`, {
        retryAfterS: Math.max(1, Math.ceil(leftMs / 1_000)),
      });
    this.#trying = true;
  }

  /** Notes how a request that was let through ended; undefined where that says nothing of the upstream. */
  note(good: boolean | undefined): void {
    if (this.#open) {
      this.#trying = false;
      if (good === undefined) return;
      this.learn(!good);
      return this.onChange(!good);
    }
    if (good === undefined) return;
    const nowMs = this.#clock.monotonicMs();
    const slot = this.#slotAt(nowMs);
    slot.count++;
    if (!good) slot.failed++;
    if (good || !this.#tooMany(nowMs)) return;
    this.learn(true);
    this.onChange(true);
  }

  /** Opens from now on, or closes: somebody has seen how the upstream is. */
  learn(open: boolean): void {
    this.#open = open;
    if (open) return void (this.#openUntilMs = this.#clock.monotonicMs() + this.#settings.openMs);
    for (const slot of this.#slots) Object.assign(slot, { number: -1, count: 0, failed: 0 });
  }

  #slotAt(nowMs: number) {
    const number = Math.floor(nowMs / (this.#settings.windowMs / SLOTS));
    const slot = this.#slots[number % SLOTS];
    if (slot.number !== number) Object.assign(slot, { number, count: 0, failed: 0 });
    return slot;
  }

  #tooMany(nowMs: number): boolean {
    const oldest = Math.floor(nowMs / (this.#settings.windowMs / SLOTS)) - SLOTS + 1;
    let count = 0;
    let failed = 0;
    for (const slot of this.#slots) {
      if (slot.number < oldest) continue;
      count += slot.count;
      failed += slot.failed;
    }
    return count >= this.#settings.requestsMin && failed >= count * this.#settings.failedShare;
  }
}

/** Lets so many requests in at once, divided by the processes of the door; some more wait in order, not for long. One slow upstream does not take the gateway with it. */
export class Bulkhead {
  readonly #settings: NonNullable<UpstreamSettings["bulkhead"]>;
  readonly #name: string;
  readonly #processes: () => number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(name: string, settings: NonNullable<UpstreamSettings["bulkhead"]>, processes: () => number) {
    this.#name = name;
    this.#settings = settings;
    this.#processes = processes;
  }

  /** At least one: a door that lets nobody in is none. */
  get #runningMax(): number {
    return Math.max(1, Math.floor(this.#settings.runningMax / this.#processes()));
  }

  /** Takes a place, or waits for one; GATEWAY_BUSY, or what ends the ticket. */
  async enter(ticket: Ticket): Promise<void> {
    const { waitingMax, waitMs } = this.#settings;
    if (this.#running < this.#runningMax) return void this.#running++;
    if (this.#waiting.length >= waitingMax) throw this.#busy();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    const timer = setTimeout(() => reject(this.#busy()), waitMs);
    try {
      await ticket.wait(promise);
    } catch (error) {
      const at = this.#waiting.indexOf(resolve);
      if (at >= 0) this.#waiting.splice(at, 1);
      // The place came at the very moment that nobody waited any more.
      else this.leave();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Gives the place to who waits longest. */
  leave(): void {
    // Another process has come up since: its share is not ours any more.
    const next = this.#running > this.#runningMax ? undefined : this.#waiting.shift();
    if (next) next();
    else this.#running--;
  }

  #busy() {
    return fail(GATEWAY_BUSY, `as many requests to ${this.#name} are under way as may be`, { retryAfterS: 1 });
  }
}

/** So many more than all the others: each request adds a share of one, each extra takes a whole one. */
export class Budget {
  readonly #share: number;
  readonly #reserve: number;
  #left: number;

  constructor(share: number, reserve: number) {
    this.#share = share;
    this.#reserve = reserve;
    this.#left = reserve;
  }

  earn(): void {
    if (this.#left < this.#reserve) this.#left = Math.min(this.#reserve, this.#left + this.#share);
  }

  /** Tells whether one more may be sent. */
  spend(): boolean {
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}

/** The last answers' times, from which a quantile is read. */
export class Latencies {
  readonly #ms = new Float64Array(LATENCIES);
  #count = 0;
  #sorted: Float64Array | undefined;
  #sortedAt = 0;

  note(ms: number): void {
    this.#ms[this.#count++ % LATENCIES] = ms;
  }

  /** The time within which this share of the answers came; undefined until there are enough. */
  quantile(share: number): number | undefined {
    if (this.#count < LATENCIES_MIN) return undefined;
    // Not for each request: so few more change little.
    if (!this.#sorted || this.#count - this.#sortedAt >= LATENCIES_NEW) {
      this.#sorted = this.#ms.slice(0, Math.min(this.#count, LATENCIES)).sort();
      this.#sortedAt = this.#count;
    }
    return this.#sorted[Math.min(this.#sorted.length - 1, Math.floor(this.#sorted.length * share))];
  }
}

const LATENCIES = 256;
const LATENCIES_MIN = 20;
const LATENCIES_NEW = 16;
