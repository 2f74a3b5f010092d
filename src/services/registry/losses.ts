/**
 * Self-preservation: one instance that is lost is dead, but when most are lost at once it is more likely that the registry
 * cannot see (its own network, a frozen machine). Then what was lost is kept, `unverified`, until a deadline.
 */
import type { Instance } from "./instances.api.ts";

/** Losses within this belong together. */
const WINDOW_MS = 2_000;
/** Fewer are dead, whatever share they are: a node of a handful of services loses two by one fault. */
export const LOSSES_MIN = 5;

/** Whether so many of all are too many to be dead. */
const areMost = (lost: number, left: number): boolean => lost >= LOSSES_MIN && lost >= left;

export class Losses {
  #lost: { readonly instance: Instance; readonly atMs: number }[] = [];

  /**
   * Notes the loss of an instance while `left` others are there. Answers those that are to be kept: all of the window, once
   * they are LOSSES_MIN and at least as many as are left; none before.
   */
  note(instance: Instance, nowMs: number, left: number): readonly Instance[] {
    this.#lost = this.#lost.filter(({ atMs }) => nowMs - atMs < WINDOW_MS);
    this.#lost.push({ instance, atMs: nowMs });
    return areMost(this.#lost.length, left) ? this.#lost.map((l) => l.instance) : [];
  }
}

/** Leases that are overdue together: ending most because none is fast enough has all register anew, and be slower still. */
export class Crowd {
  #sinceMs: number | undefined;

  /** What becomes of leases that are overdue, while `left` others are not: kept for `preserveMs` where they are most. */
  judge(overdue: number, left: number, nowMs: number, preserveMs: number): "lost" | "kept" | "given up" {
    if (preserveMs === 0 || !areMost(overdue, left)) this.#sinceMs = undefined;
    else this.#sinceMs ??= nowMs;
    if (this.#sinceMs === undefined) return "lost";
    return nowMs - this.#sinceMs < preserveMs ? "kept" : "given up";
  }
}
