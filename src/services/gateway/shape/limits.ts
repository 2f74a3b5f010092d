/**
 * All limits that count, by name: the same limiter through every change of the routes, since a client that changes nothing
 * earns nothing by it. What the door's other processes let through counts here, too.
 */
import type { Clock } from "../../../kernel/clock.ts";
import type { Count, Debt } from "../siblings.api.ts";
import { Limiter, type LimiterOptions } from "./limiter.ts";

interface Entry {
  readonly limiter: Limiter;
  /** The routes of which number ask for it. */
  generation: number;
}

export class Limits {
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();
  #generation = 0;
  /** Told of each request that was let through here, and how many more would be. */
  onCount: (limit: string, key: string, remaining: number) => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Answers the limiter of a name; two of a name and different terms are two. */
  of(name: string, terms: Omit<LimiterOptions, "clock" | "onTake">): Limiter {
    const id = `${name} ${terms.requestsPerS}/${terms.burst}`;
    let entry = this.#entries.get(id);
    if (!entry) {
      const onTake = (key: string, remaining: number) => this.onCount(id, key, remaining);
      entry = { limiter: new Limiter({ ...terms, clock: this.#clock, onTake }), generation: this.#generation };
      this.#entries.set(id, entry);
    }
    if (entry.generation < this.#generation) entry.generation = this.#generation;
    return entry.limiter;
  }

  /** As `of`, for a limit that is there whatever the routes are. */
  always(name: string, terms: Omit<LimiterOptions, "clock" | "onTake">): Limiter {
    const limiter = this.of(name, terms);
    for (const entry of this.#entries.values()) if (entry.limiter === limiter) entry.generation = Infinity;
    return limiter;
  }

  /** Makes routes anew: limits that they ask for no more are forgotten. */
  renew(make: () => void): void {
    this.#generation++;
    make();
    for (const [id, { generation }] of this.#entries) if (generation < this.#generation) this.#entries.delete(id);
  }

  /** Notes what another process let through. */
  learn(counts: readonly Count[], debts: readonly Debt[]): void {
    for (const { limit, key, count } of counts) this.#entries.get(limit)?.limiter.learn(key, count);
    for (const { limit, key, ms } of debts) this.#entries.get(limit)?.limiter.owe(key, ms);
  }

  /** All that any key has left to pay. */
  *debts(): Generator<Debt> {
    for (const [limit, { limiter }] of this.#entries) for (const [key, ms] of limiter.debts()) yield { limit, key, ms };
  }
}
