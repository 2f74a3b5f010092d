/** Waits that end early: when something else turns up, or at the end. */

export class Waking {
  readonly #signal: AbortSignal;
  #present: AbortController | undefined;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    // One listener for all waits: `AbortSignal.any` for each would pile up on a signal that lives as long as the process.
    signal.addEventListener("abort", () => this.wake(), { once: true });
  }

  wake(): void {
    this.#present?.abort();
  }

  /** Waits for `work`, which ends (or rejects) when the signal that it is given aborts; being woken is no failure. */
  async until(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    if (this.#signal.aborted) return;
    const { signal } = (this.#present = new AbortController());
    await work(signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }

  /** Sleeps so long, or until woken. */
  sleep(ms = Number.POSITIVE_INFINITY): Promise<void> {
    return this.until(
      (signal) =>
        new Promise((resolve) => {
          const timer = Number.isFinite(ms) ? setTimeout(resolve, ms) : undefined;
          signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
        }),
    );
  }
}
