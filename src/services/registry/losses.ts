/**
 * Self-preservation: one instance that is lost is dead, but when most are lost at once it is more likely that the registry
 * cannot see (its own network, a frozen machine). Then what was lost is kept, `unverified`, until a deadline.
 */
import type { Instance } from "./instances.api.ts";

/** Losses within this belong together. */
const WINDOW_MS = 2_000;
/** Fewer are dead, whatever share they are: a node of a handful of services loses two by one fault. */
export const LOSSES_MIN = 5;

export class Losses {
  #lost: { readonly instance: Instance; readonly atMs: number }[] = [];

  /**
   * Notes the loss of an instance while `left` others are there. Answers those that are to be kept: all of the window, once
   * they are LOSSES_MIN and at least as many as are left; none before.
   */
  note(instance: Instance, nowMs: number, left: number): readonly Instance[] {
    this.#lost = this.#lost.filter(({ atMs }) => nowMs - atMs < WINDOW_MS);
    this.#lost.push({ instance, atMs: nowMs });
    return this.#lost.length >= LOSSES_MIN && this.#lost.length >= left ? this.#lost.map((l) => l.instance) : [];
  }
}
