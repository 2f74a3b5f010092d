/** What a request waits with: until when, and how whoever works on it is told that nobody waits any more. */
import type { Failure } from "../../kernel/error.ts";
import type { Clock } from "../../kernel/clock.ts";

export class Ticket {
  readonly #clock: Clock;
  readonly #late: (() => Failure) | undefined;
  #deadlineMs: number;
  #timer: NodeJS.Timeout | undefined;
  #ended: Failure | undefined;
  #children: Ticket[] | undefined;
  /** For the request's span: how often it was tried again, and how long it waited for its turn. */
  retries = 0;
  queuedMs = 0;
  /** Told of the end; one at a time, whoever works on the request just then. */
  onEnd: ((why: Failure) => void) | undefined;

  /** `late` makes the failure of the deadline; without it somebody else minds the deadline. */
  constructor(options: { timeoutMs: number; clock: Clock; late?: (() => Failure) | undefined }) {
    this.#clock = options.clock;
    this.#late = options.late;
    this.#deadlineMs = options.clock.monotonicMs() + options.timeoutMs;
    this.#start(options.timeoutMs);
  }

  get leftMs(): number {
    return this.#deadlineMs - this.#clock.monotonicMs();
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
    for (const child of this.#children ?? []) child.end(why);
  }

  /** Makes a ticket for a part of the work: it ends with this one, or before. */
  child(timeoutMs = Number.POSITIVE_INFINITY, late?: () => Failure): Ticket {
    const { leftMs } = this;
    const own = timeoutMs < leftMs;
    const child = new Ticket({ timeoutMs: own ? timeoutMs : leftMs, clock: this.#clock, late: own ? late : undefined });
    if (this.#ended) child.end(this.#ended);
    else (this.#children ??= []).push(child);
    return child;
  }

  /** The deadline counts no more. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #start(ms: number): void {
    const late = this.#late;
    clearTimeout(this.#timer);
    if (late) this.#timer = setTimeout(() => this.end(late()), ms);
  }

  /** Stops the clock while somebody else is waited for; the result lets it go on. */
  hold(): () => void {
    const { leftMs } = this;
    this.stop();
    return () => {
      if (this.#ended) return;
      this.#deadlineMs = this.#clock.monotonicMs() + leftMs;
      this.#start(leftMs);
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
