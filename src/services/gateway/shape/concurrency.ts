/** Finds out how many requests may be under way: while they take as long as usual, more; where they take longer, fewer. */
import type { Clock } from "../../../kernel/clock.ts";
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_BUSY } from "../api.ts";
import type { ConcurrencySettings } from "../shape.api.ts";
import type { Step } from "../visit.ts";

/** The limit is found anew after so many answers, and not more often than this. */
const SAMPLES_MIN = 10;
const WINDOW_MS = 100;
/** How fast what is usual follows what is: slowly, or a crowd would become usual. */
const USUAL_WEIGHT = 0.02;
/** How much of the new limit is taken at once. */
const STEP_WEIGHT = 0.3;
/** A limit falls to no less than this share of itself at once. */
const FALL_MIN = 0.5;

export class Concurrency {
  readonly #settings: ConcurrencySettings;
  readonly #clock: Clock;
  readonly #processes: () => number;
  #limit: number;
  #usualMs = 0;
  #sumMs = 0;
  #samples = 0;
  #most = 0;
  #sinceMs = 0;
  running = 0;

  /** The most is divided by the processes of the door; what is found out each of them finds for itself. */
  constructor(settings: ConcurrencySettings, clock: Clock, processes: () => number = () => 1) {
    this.#settings = settings;
    this.#processes = processes;
    this.#clock = clock;
    this.#limit = Math.min(settings.runningMax, Math.max(settings.runningMin, 16));
  }

  get limit(): number {
    const { runningMax } = this.#settings;
    return Math.floor(Math.min(this.#limit, Math.max(1, runningMax / this.#processes())));
  }

  /** Lets one in; false where as many are under way as may be. */
  enter(): boolean {
    if (this.running >= this.limit) return false;
    this.running++;
    this.#most = Math.max(this.#most, this.running);
    return true;
  }

  /** Lets one go, which took so long; undefined where it says nothing of the service (it was refused, its client went). */
  leave(tookMs: number | undefined): void {
    this.running--;
    if (tookMs === undefined) return;
    this.#sumMs += tookMs;
    this.#samples++;
    const nowMs = this.#clock.monotonicMs();
    if (this.#samples >= SAMPLES_MIN && nowMs - this.#sinceMs >= WINDOW_MS) this.#adapt(nowMs);
  }

  #adapt(nowMs: number): void {
    const { runningMin, runningMax, tolerance } = this.#settings;
    const meanMs = this.#sumMs / this.#samples;
    // What is usual falls at once: there is a faster way, then.
    if (this.#usualMs === 0 || meanMs < this.#usualMs) this.#usualMs = meanMs;
    else this.#usualMs += (meanMs - this.#usualMs) * USUAL_WEIGHT;
    const gradient = Math.max(FALL_MIN, Math.min(1, (tolerance * this.#usualMs) / Math.max(meanMs, 0.001)));
    // A limit that nobody comes near to is no finding.
    const tried = this.#most * 2 >= this.#limit;
    if (gradient < 1 || tried) {
      const next = this.#limit * gradient + (gradient < 1 ? 0 : Math.sqrt(this.#limit));
      this.#limit += (next - this.#limit) * STEP_WEIGHT;
      this.#limit = Math.min(runningMax, Math.max(runningMin, this.#limit));
    }
    this.#sumMs = 0;
    this.#samples = 0;
    this.#most = this.running;
    this.#sinceMs = nowMs;
  }
}

/** Makes the step that lets in as many as there may be; GATEWAY_BUSY above. */
export const adapt =
  (concurrency: Concurrency, clock: Clock): Step =>
  (next) =>
  async (visit) => {
    if (!concurrency.enter())
      throw fail(GATEWAY_BUSY, "as many requests of this route are under way as it does in good time", {
        retryAfterS: 1,
      });
    const startMs = clock.monotonicMs();
    let tookMs: number | undefined;
    try {
      const reply = await next(visit);
      tookMs = clock.monotonicMs() - startMs;
      return reply;
    } finally {
      concurrency.leave(tookMs);
    }
  };
