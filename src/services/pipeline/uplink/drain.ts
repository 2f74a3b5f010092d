/**
 * How much of a backlog is in one request: what live data leaves of the link and of the far side, found out and not configured.
 * As LEDBAT (RFC 6817) the backlog yields to delay: while round trips of live data take longer than they do alone, it asks
 * for less. And as LEDBAT++ it stands aside now and then, to learn anew how long they take alone.
 */
import type { Clock } from "../../../kernel/clock.ts";

/** Shares of the largest request. */
const SHARE_MIN = 1 / 64;
/** Halved for each late round trip and grown by so much for one in time: about one of 35 is late where it settles. */
const GROWTH = 1.02;
/** Where nothing is live, and the link is fast enough. */
const GROWTH_ALONE = 1.5;
/** Of the time that live data takes alone, nineteen of twenty times: it may take this many times as long. */
const LATE = 1.4;
const QUIET_SAMPLES_MIN = 4;
const QUIET_SAMPLES_MAX = 64;
/** What was learnt is good for so long; then the backlog stands aside for one round trip of live data. */
const QUIET_MS_MAX = 30_000;
/** Live data that is later than this counts as none, and nothing stands aside for it. */
const LIVE_MS_MAX = 2_000;
/** Longer than the quickest a request of the backlog should not take, so that live data that turns up does not wait for it. */
const REQUEST_MS_MAX = 10;

export class Drain {
  readonly #clock: Clock;
  /** Milliseconds that live data took while no backlog was sent. */
  #quiet: number[] = [];
  #quietAtMs = Number.NEGATIVE_INFINITY;
  #liveAtMs = Number.NEGATIVE_INFINITY;
  /** Since when live data is under way. */
  #liveFromMs: number | undefined;
  /** It begins with the least, which tells how quick a round trip can be, and grows fast where nothing is in its way. */
  #share = SHARE_MIN;
  /** The quickest round trip: no more than the way there and back. */
  #leastMs = Number.POSITIVE_INFINITY;
  /** Requests of the backlog under way, and those that ended: live data met one of them, or none. */
  #underWay = 0;
  #ended = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What a request of the backlog may take of the largest one. */
  get share(): number {
    return this.#share;
  }

  /** Milliseconds that the backlog stands aside; 0: it goes on. */
  get asideMs(): number {
    const nowMs = this.#clock.monotonicMs();
    const sinceMs = nowMs - this.#liveAtMs;
    if (sinceMs > LIVE_MS_MAX) return 0;
    if (this.#quiet.length < QUIET_SAMPLES_MIN || nowMs - this.#quietAtMs >= QUIET_MS_MAX) return LIVE_MS_MAX - sinceMs;
    // While live data is under way it waits for the answer, but for no longer than that usually takes.
    return this.#liveFromMs === undefined ? 0 : Math.max(0, this.#liveFromMs + usual(this.#quiet) - nowMs);
  }

  /** Live data is sent; call what it gives when it is answered. */
  live(): () => void {
    const startMs = (this.#liveFromMs = this.#clock.monotonicMs());
    const [underWay, ended] = [this.#underWay, this.#ended];
    return () => {
      this.#liveFromMs = undefined;
      const nowMs = (this.#liveAtMs = this.#clock.monotonicMs());
      const tookMs = nowMs - startMs;
      this.#leastMs = Math.min(this.#leastMs, tookMs);
      if (underWay === 0 && this.#underWay === 0 && ended === this.#ended) {
        this.#quietAtMs = nowMs;
        this.#quiet = [...this.#quiet, tookMs].slice(-QUIET_SAMPLES_MAX);
      } else if (this.#quiet.length >= QUIET_SAMPLES_MIN)
        this.#set(this.#share * (tookMs > LATE * usual(this.#quiet) ? 0.5 : GROWTH));
    };
  }

  /** A part of the backlog is sent; call what it gives when it is answered, or has failed. */
  backlog(): (isDone: boolean) => void {
    const startMs = this.#clock.monotonicMs();
    this.#underWay++;
    return (isDone) => {
      const nowMs = this.#clock.monotonicMs();
      this.#underWay--;
      this.#ended++;
      const tookMs = nowMs - startMs;
      if (isDone) this.#leastMs = Math.min(this.#leastMs, tookMs);
      if (!isDone || tookMs > this.#leastMs + Math.max(REQUEST_MS_MAX, this.#leastMs)) this.#set(this.#share / 2);
      else if (nowMs - this.#liveAtMs > LIVE_MS_MAX) this.#set(this.#share * GROWTH_ALONE);
    };
  }

  #set(share: number): void {
    this.#share = Math.min(1, Math.max(SHARE_MIN, share));
  }
}

/** What nineteen of twenty stay within. */
function usual(samples: readonly number[]): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.floor(0.95 * (sorted.length - 1))];
}
