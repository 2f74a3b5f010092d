/** Bytes a second, by a bucket that is paid after the fact: what went over the wire is known only then. */
import type { Clock } from "../../../kernel/clock.ts";

/** So many seconds' worth may go at once after a silence. */
export const BURST_S = 1;
/** Bytes that doubles may be off by: a wait that was long enough must be seen to be. */
const ROUNDING = 1e-3;

export class Rate {
  readonly #clock: Clock;
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  /** Below nothing after a request that was larger: then it is waited for. */
  #bytes: number;
  #atMs: number;

  constructor(clock: Clock, bytesPerS: number) {
    this.#clock = clock;
    this.#bytesPerMs = bytesPerS / 1_000;
    this.#burstBytes = bytesPerS * BURST_S;
    this.#bytes = this.#burstBytes;
    this.#atMs = clock.monotonicMs();
  }

  /** Milliseconds until something may go. */
  waitMs(): number {
    this.#fill();
    return this.#bytes > -ROUNDING ? 0 : Math.max(1, Math.ceil(-this.#bytes / this.#bytesPerMs));
  }

  /** Counts bytes that went. */
  spend(bytes: number): void {
    this.#fill();
    this.#bytes -= bytes;
  }

  #fill(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#bytes = Math.min(this.#burstBytes, this.#bytes + (nowMs - this.#atMs) * this.#bytesPerMs);
    this.#atMs = nowMs;
  }
}
