/** The pace of a destination, or of one way to it: rate, budget and windows as one question. */
import type { Clock } from "../../../kernel/clock.ts";
import { Budget, type Spent } from "./budget.ts";
import type { Pace } from "./config.ts";
import { Rate } from "./rate.ts";
import { Windows } from "./windows.ts";

/** Why something has to wait: `window` and `budget` yield to the overriding priority, `rate` to nobody. */
export type Hold = "rate" | "budget" | "window";

export interface Turn {
  /** Milliseconds to wait; 0: go. */
  readonly waitMs: number;
  readonly hold?: Hold;
}

/** Budgets and windows follow the wall clock, which may be set: nobody sleeps longer than this without looking again. */
export const LOOK_AGAIN_MS = 60_000;

export class Pacer {
  readonly #overridePriority: number;
  readonly #rate: Rate | undefined;
  readonly #budget: Budget | undefined;
  readonly #windows: Windows;

  /** Error where a cron pattern or the zone is none. */
  constructor(options: { clock: Clock; pace: Pace; spent?: Spent }) {
    const { clock, pace, spent } = options;
    const { rateBytesPerS, budget, windows, zone, overridePriority } = pace;
    this.#overridePriority = overridePriority;
    this.#rate = rateBytesPerS === undefined ? undefined : new Rate(clock, rateBytesPerS);
    this.#budget = budget && new Budget({ clock, config: budget, zone, ...(spent ? { spent } : {}) });
    this.#windows = new Windows({ clock, windows, zone });
  }

  /** Tells when something of this priority may go. `waitMs` is at most LOOK_AGAIN_MS: ask again then. */
  turn(priority: number): Turn {
    const waits: [Hold, number][] = [["rate", this.#rate?.waitMs() ?? 0]];
    if (priority < this.#overridePriority)
      waits.push(["budget", this.#budget?.waitMs() ?? 0], ["window", this.#windows.waitMs()]);
    const [hold, waitMs] = waits.reduce((longest, each) => (each[1] > longest[1] ? each : longest));
    return waitMs > 0 ? { waitMs: Math.min(waitMs, LOOK_AGAIN_MS), hold } : { waitMs: 0 };
  }

  /** Counts bytes that went over the wire, in both directions. */
  spend(bytes: number): void {
    if (bytes <= 0) return;
    this.#rate?.spend(bytes);
    this.#budget?.spend(bytes);
  }

  /** Bytes left of the budget; undefined where there is none. */
  get leftBytes(): number | undefined {
    return this.#budget?.leftBytes;
  }

  /** What of the budget is to be kept for the next start. */
  save(): Spent | undefined {
    return this.#budget?.save();
  }
}
