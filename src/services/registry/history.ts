/** The last changes, so that a watcher that was away a moment gets what it missed and not all there is. */
import type { Change } from "./instances.api.ts";

/** A watcher that missed more begins anew with a snapshot. What they hold is mostly shared with the table. */
export const HISTORY_MAX = 1024;

export class History {
  /** Without gaps, oldest first. */
  readonly #changes: Change[] = [];
  #revision: number;

  /** Begins after a revision: what was before it is not known here. */
  constructor(revision: number) {
    this.#revision = revision;
  }

  get revision(): number {
    return this.#revision;
  }

  /** Makes the next revision of a change, and keeps it. */
  add(change: (revision: number) => Change): Change {
    const made = change(++this.#revision);
    this.#changes.push(made);
    if (this.#changes.length > HISTORY_MAX) this.#changes.shift();
    return made;
  }

  /** What changed after a revision; undefined where that is not known any more, or never was here. */
  since(revision: number): readonly Change[] | undefined {
    const missed = this.#revision - revision;
    if (missed < 0 || missed > this.#changes.length) return undefined;
    return this.#changes.slice(this.#changes.length - missed);
  }
}
