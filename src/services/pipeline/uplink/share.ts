/**
 * Which class may send next, where several wait for one link: each gets bytes by its weight (start-time fair queueing, Goyal
 * 1996), so that a higher priority gets more and none gets nothing.
 */
import { PRIORITY_MAX, type QueueClass } from "../pacing/priority.ts";

/** How much a priority weighs against another: two steps up get twice as much. */
const weightOf = (priority: number): number => 2 ** (priority / 2);

/**
 * Requests of each other class, of the largest size, that a class may have to wait for: the highest priority against the lowest,
 * and the one that is under way.
 */
export const WAIT_REQUESTS_MAX = Math.ceil(weightOf(PRIORITY_MAX)) + 1;

export class FairShare {
  /** How much each class has had, by its weight. */
  readonly #had = new Map<QueueClass, number>();
  #virtual = 0;

  /** Picks the class that is to send next. */
  pick(waiting: readonly QueueClass[]): QueueClass | undefined {
    let first: QueueClass | undefined;
    for (const name of waiting) if (!first || this.#of(name) < this.#of(first)) first = name;
    return first;
  }

  /** Counts what a class sends now. Who had nothing to send saves nothing up. */
  sent(name: QueueClass, priority: number, bytes: number): void {
    const start = this.#of(name);
    this.#virtual = start;
    this.#had.set(name, start + bytes / weightOf(priority));
  }

  #of(name: QueueClass): number {
    return Math.max(this.#had.get(name) ?? 0, this.#virtual);
  }
}
