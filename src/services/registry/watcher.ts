/**
 * One watcher's queue of changes: bounded, and when it overflows the watcher gets all there is instead of what
 * changed.
 */
import type { Change } from "./instances.api.ts";

/**
 * A watcher that is further behind than this gets a fresh snapshot: the queue is emptied, nothing else waits for it.
 */
export const WATCHER_QUEUE_MAX = 256;

export class Watcher {
  #queue: Change[] = [];
  #behind = true;
  #ended = false;
  /** What changed until then is in what it was given. */
  #revision = -1;
  #wake: (() => void) | undefined;

  /** Begins with what was missed instead of a snapshot; to be called before anything is pushed. */
  resume(revision: number, missed: readonly Change[]): void {
    this.#behind = false;
    for (const change of missed) this.push(change);
    this.#revision = revision;
  }

  push(change: Change): void {
    if (this.#behind || this.#ended || change.revision <= this.#revision) return;
    if (this.#queue.length >= WATCHER_QUEUE_MAX) {
      this.#queue = [];
      this.#behind = true;
    } else this.#queue.push(change);
    this.#wake?.();
  }

  /** Ends the stream; what still waits is not delivered. */
  end(): void {
    this.#ended = true;
    this.#queue = [];
    this.#wake?.();
  }

  /** Streams a snapshot (unless it was resumed), then changes, until `end`. One consumer at a time. */
  async *changes(snapshot: () => Change): AsyncGenerator<Change> {
    while (!this.#ended) {
      if (this.#behind) {
        this.#behind = false;
        const all = snapshot();
        this.#revision = all.revision;
        yield all;
        continue;
      }
      const next = this.#queue.shift();
      if (next) yield next;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
