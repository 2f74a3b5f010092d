/** Waits that end early: when something else turns up, or at the end. */

export class Waking {
  readonly #signal: AbortSignal;
  readonly #listeners = new Set<() => void>();
  #present: (() => void) | undefined;
  /** Woken while nobody slept: the next sleep is none. */
  #isWoken = false;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    // One listener for all waits: one for each would pile up on a signal that lives as long as the process.
    signal.addEventListener("abort", () => this.wake(), { once: true });
  }

  wake(): void {
    this.#isWoken = true;
    this.#present?.();
    for (const listener of this.#listeners) listener();
  }

  /** Has something else woken as well; answers how to end that. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Sleeps so long, or until woken; not at all where it was woken since the last sleep. */
  async sleep(ms = Number.POSITIVE_INFINITY): Promise<void> {
    if (!this.#signal.aborted && !this.#isWoken)
      await new Promise<void>((resolve) => {
        // Longer than a timer can: some 24 days.
        const timer = ms < 2 ** 31 ? setTimeout(resolve, Math.max(0, ms)) : undefined;
        this.#present = () => (clearTimeout(timer), resolve());
      });
    this.#present = undefined;
    this.#isWoken = false;
  }
}
