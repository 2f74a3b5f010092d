/**
 * Tells how old kept events are, by a clock of its own that no jump of the wall clock carries off: a wall clock that wakes
 * up ten years ahead (an empty battery, a bad time server) must not make everything too old at once.
 */
import type { Clock } from "./clock.ts";

/** It catches up with the wall clock so many times as fast as time goes by. */
const FASTER_MAX = 10;
/** Time the node was off that is believed at once; of more, the rest is caught up with. */
const OFF_MS_MAX = 7 * 86_400_000;

export class RetentionClock {
  readonly #clock: Pick<Clock, "monotonicMs" | "wallMs">;
  #nowMs: number;
  #seenMs: number;

  /** `savedMs` is what `nowMs` said when it was last saved; undefined at the first start. */
  constructor(clock: Pick<Clock, "monotonicMs" | "wallMs">, savedMs: number | undefined) {
    this.#clock = clock;
    this.#seenMs = clock.monotonicMs();
    const wallMs = clock.wallMs();
    this.#nowMs = savedMs === undefined ? wallMs : savedMs + Math.min(OFF_MS_MAX, Math.max(0, wallMs - savedMs));
  }

  /**
   * Milliseconds since 1970, nearly always; in any case as many more than at an earlier call as have gone by, or up to ten
   * times as many. Save it: it goes on from there after a restart.
   */
  nowMs(): number {
    const seenMs = this.#clock.monotonicMs();
    const passedMs = Math.max(0, seenMs - this.#seenMs);
    this.#seenMs = seenMs;
    const behindMs = this.#clock.wallMs() - this.#nowMs;
    // Where the wall clock is behind (it was set back), ages still grow.
    this.#nowMs += Math.min(passedMs * FASTER_MAX, Math.max(passedMs, behindMs));
    return Math.floor(this.#nowMs);
  }
}
