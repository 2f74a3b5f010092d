/** How long to wait before a service is started again: twice as long at most each time, drawn at random, forgiven after a while. */
import type { Clock } from "../kernel/clock.ts";
import { fullJitterMs } from "../kernel/jitter.ts";

const PAUSE = { firstMs: 100, mostMs: 30_000 };
/** A process that lived so long crashed for another reason than the last time. */
export const STABLE_MS = 30_000;
/** So many ends without a stable life between are a crash loop, which is shown as such. */
export const LOOP_MIN = 4;

export class Backoff {
  readonly #clock: Clock;
  readonly #random: () => number;
  #startedMs = 0;
  /** Ends since the last stable life. */
  ends = 0;

  constructor(clock: Clock, random: () => number = Math.random) {
    this.#clock = clock;
    this.#random = random;
  }

  started(): void {
    this.#startedMs = this.#clock.monotonicMs();
  }

  /** Tells how long to wait after an end, in milliseconds. */
  ended(): number {
    if (this.#clock.monotonicMs() - this.#startedMs >= STABLE_MS) this.ends = 0;
    return fullJitterMs(this.ends++, PAUSE, this.#random);
  }

  get looping(): boolean {
    return this.ends >= LOOP_MIN;
  }
}
