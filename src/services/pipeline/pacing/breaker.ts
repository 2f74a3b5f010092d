/** When a destination that fails is tried again: with backoff while it may be a hiccup, by single probes once it is not. */
import type { Clock } from "../../../kernel/clock.ts";
import { fullJitterMs, type JitterRange } from "../../../kernel/jitter.ts";

/** Waits while the breaker is closed: a lost packet costs little. */
const HICCUP: JitterRange = { firstMs: 250, mostMs: 4_000 };
/** Waits before a probe: long enough that a thousand nodes do not hold a cloud down. */
const OUTAGE: JitterRange = { firstMs: 2_000, mostMs: 60_000 };
/** Failures in a row that open it. */
const FAILURES_MAX = 5;
/** A destination may ask for so long a wait at the most (Retry-After): beyond it, it is asked whether it still means it. */
export const ASKED_MS_MAX = 3_600_000;

export type BreakerState = "closed" | "open" | "half-open";

/** What may be sent now: nothing before `waitMs`, then all, or a probe (the least that there is) alone. */
export interface Leave {
  readonly waitMs: number;
  readonly isProbe: boolean;
}

export class Breaker {
  readonly #clock: Clock;
  readonly #random: () => number;
  #state: BreakerState = "closed";
  #failures = 0;
  #againMs = 0;

  constructor(clock: Clock, random: () => number = Math.random) {
    this.#clock = clock;
    this.#random = random;
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Tells what may be sent. Where it is a probe, the next answer is that of the probe. */
  leave(): Leave {
    const waitMs = Math.max(0, this.#againMs - this.#clock.monotonicMs());
    if (waitMs === 0 && this.#state === "open") this.#state = "half-open";
    return { waitMs, isProbe: this.#state !== "closed" };
  }

  succeeded(): void {
    this.#state = "closed";
    this.#failures = 0;
    this.#againMs = 0;
  }

  /** Counts a failure; `askedMs` is what the destination asked to be left alone for, at most ASKED_MS_MAX are obeyed. */
  failed(askedMs = 0): void {
    const isOutage = this.#state !== "closed" || this.#failures + 1 >= FAILURES_MAX;
    const tries = isOutage ? this.#failures + 1 - FAILURES_MAX : this.#failures;
    this.#failures++;
    this.#state = isOutage ? "open" : "closed";
    const waitMs = fullJitterMs(Math.max(0, tries), isOutage ? OUTAGE : HICCUP, this.#random);
    // After the moment that was asked for, not at it: the others have been asked the same.
    this.#againMs = this.#clock.monotonicMs() + Math.min(Math.max(0, askedMs), ASKED_MS_MAX) + waitMs;
  }

  /** Lets the next try go at once: something changed that may have mended it (another way, another enrollment). */
  retryNow(): void {
    this.#againMs = 0;
  }
}
