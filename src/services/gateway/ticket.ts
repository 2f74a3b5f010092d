/** What a request waits with: until when, and how whoever works on it is told that nobody waits any more. */
import type { Failure } from "../../kernel/error.ts";
import type { Clock } from "../../kernel/clock.ts";

export class Ticket {
  readonly #options: { readonly clock: Clock; readonly late: () => Failure };
  #deadlineMs: number;
  #timer: NodeJS.Timeout | undefined;
  #ended: Failure | undefined;
  /** Told of the end; one at a time, whoever works on the request just then. */
  onEnd: ((why: Failure) => void) | undefined;

  /** `late` makes the failure of the deadline. */
  constructor(options: { timeoutMs: number; clock: Clock; late: () => Failure }) {
    this.#options = options;
    this.#deadlineMs = options.clock.monotonicMs() + options.timeoutMs;
    this.#timer = setTimeout(() => this.end(options.late()), options.timeoutMs);
  }

  get leftMs(): number {
    return this.#deadlineMs - this.#options.clock.monotonicMs();
  }

  /** Throws what ended it. */
  throwIfEnded(): void {
    if (this.#ended) throw this.#ended;
  }

  /** Ends it before its time: the deadline has passed, or the client has gone. */
  end(why: Failure): void {
    if (this.#ended) return;
    this.#ended = why;
    this.stop();
    this.onEnd?.(why);
  }

  /** The deadline counts no more. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Stops the clock while somebody else is waited for; the result lets it go on. */
  hold(): () => void {
    const { leftMs } = this;
    this.stop();
    return () => {
      if (this.#ended) return;
      this.#deadlineMs = this.#options.clock.monotonicMs() + leftMs;
      this.#timer = setTimeout(() => this.end(this.#options.late()), leftMs);
    };
  }

  /** Waits for something, no longer than this lasts. */
  wait<T>(work: Promise<T>): Promise<T> {
    this.throwIfEnded();
    return new Promise((resolve, reject) => {
      this.onEnd = reject;
      work.then(resolve, reject).finally(() => {
        if (this.onEnd === reject) this.onEnd = undefined;
      });
    });
  }
}
