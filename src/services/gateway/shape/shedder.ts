/** Refuses requests by priority while the event loop is late or the heap is nearly full: what is left is done in time. */
import { getHeapStatistics } from "node:v8";
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_BUSY } from "../api.ts";
import type { Priority } from "../shape.api.ts";
import type { Step } from "../visit.ts";

/** How often is looked. */
const LOOK_MS = 50;
/** The event loop comes so late, on average: `low` is refused, then `normal`. `high` never is. */
const LATE_MS = { low: 150, normal: 400 } as const;
/** The heap holds this share of what it may. */
const FULL = { low: 0.8, normal: 0.9 } as const;
/** What a look counts in the average: trouble is what lasts for seconds, not a moment on a busy machine. */
const WEIGHT = 0.1;

/** One long halt (a collection of garbage, a disk that hung) counts no more than this. */
const HALT_MS_MAX = 1_000;

const RANK: Readonly<Record<Priority, number>> = { low: 0, normal: 1, high: 2 };

export class Shedder {
  readonly #timer: NodeJS.Timeout;
  /** Of the process itself: a clock that is turned says nothing of how late its event loop is. */
  #lookedMs = performance.now();
  #lateMs = 0;
  /** Requests of a lower rank are refused. */
  #floor = 0;
  shed = 0;

  constructor() {
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Makes the step of a route; GATEWAY_BUSY while its priority is too low. */
  step(priority: Priority): Step | undefined {
    if (priority === "high") return undefined;
    const rank = RANK[priority];
    return (next) => (visit) => {
      if (rank >= this.#floor) return next(visit);
      this.shed++;
      throw fail(GATEWAY_BUSY, `the gateway is in trouble, and this route has the priority '${priority}'`, {
        retryAfterS: 1,
      });
    };
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const nowMs = performance.now();
    const lateMs = Math.min(HALT_MS_MAX, Math.max(0, nowMs - this.#lookedMs - LOOK_MS));
    this.#lookedMs = nowMs;
    this.#lateMs += (lateMs - this.#lateMs) * WEIGHT;
    const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics();
    this.#floor = floorOf(this.#lateMs, used / limit);
  }
}

/** The rank below which is refused. */
export function floorOf(lateMs: number, full: number): number {
  if (lateMs > LATE_MS.normal || full > FULL.normal) return RANK.high;
  return lateMs > LATE_MS.low || full > FULL.low ? RANK.normal : RANK.low;
}
