/** Keeps a line that a stranger can cause from filling the log. */
import type { Clock } from "../../kernel/clock.ts";

const EVERY_MS = 1_000;

export class Occasional {
  readonly #clock: Clock;
  #lastMs = Number.NEGATIVE_INFINITY;
  #unsaid = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Once a second at most: how many were left unsaid since the last time; undefined when this one is to be, too. */
  mayHappen(): number | undefined {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#lastMs < EVERY_MS) {
      this.#unsaid++;
      return undefined;
    }
    const unsaid = this.#unsaid;
    this.#lastMs = nowMs;
    this.#unsaid = 0;
    return unsaid;
  }
}
