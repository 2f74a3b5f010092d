/** What one who started a service hears of it, as it comes. */
import type { GuestTold } from "./api.ts";

/** A listener that takes nothing any more: the oldest lines go, and are in the log book. */
const WAITING_MAX = 1_000;

export class Feed {
  readonly #waiting: GuestTold[] = [];
  #wake: (() => void) | undefined;
  #ended = false;

  push(told: GuestTold): void {
    this.#waiting.push(told);
    if (this.#waiting.length > WAITING_MAX) this.#waiting.shift();
    this.#wake?.();
  }

  /** The last is told, and then no more. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** Tells until the end, or until nobody listens. */
  async *until(signal: AbortSignal): AsyncGenerator<GuestTold> {
    signal.addEventListener("abort", () => this.end(), { once: true });
    while (true) {
      for (let told = this.#waiting.shift(); told; told = this.#waiting.shift()) yield told;
      if (this.#ended || signal.aborted) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
