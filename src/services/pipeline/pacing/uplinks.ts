/** Which of several ways to a destination is taken: the cheapest that works, and back to it when it works again. */
import type { Clock } from "../../../kernel/clock.ts";

/** Failures in a row after which the next way is tried. */
const FAILURES_MAX = 3;
/** A cheaper way that failed is probed after this, then after twice as long each time, up to the most. */
const PROBE_MS = { first: 30_000, most: 900_000 };
/** Probes in a row that must succeed before it is taken again: a flapping link costs more than a dear one. */
const PROBES_MIN = 2;

interface Way {
  /** Failures in a row. */
  failures: number;
  isDown: boolean;
  /** Probes in a row that succeeded. */
  successes: number;
  probeMs: number;
  probeAtMs: number;
}

export class Uplinks {
  readonly #clock: Clock;
  readonly #ways: readonly Way[];
  #current = 0;
  #switches = 0;

  /** `count` ways, in order of cost. */
  constructor(clock: Clock, count: number) {
    if (count < 1) throw new RangeError("a destination has one way at the least");
    this.#clock = clock;
    this.#ways = Array.from({ length: count }, () => ({
      failures: 0,
      isDown: false,
      successes: 0,
      probeMs: PROBE_MS.first,
      probeAtMs: 0,
    }));
  }

  /** The way to take, by its place in the order of cost. */
  get current(): number {
    return this.#current;
  }

  /** How often the way was changed. */
  get switches(): number {
    return this.#switches;
  }

  /** Sending by the current way succeeded. */
  succeeded(): void {
    const way = this.#ways[this.#current];
    way.failures = 0;
    way.isDown = false;
    way.probeMs = PROBE_MS.first;
  }

  /** Sending by the current way failed, for a reason that another way may not have. True: the way was changed, try at once. */
  failed(): boolean {
    const way = this.#ways[this.#current];
    if (++way.failures < FAILURES_MAX && !way.isDown) return false;
    this.#setDown(way);
    // The next dearer one that is not known to be down; where all are, from the cheapest on again.
    const count = this.#ways.length;
    const order = Array.from({ length: count - 1 }, (_, k) => (this.#current + 1 + k) % count);
    const next = order.find((place) => !this.#ways[place].isDown) ?? order[0];
    if (next === undefined) return false;
    const isFresh = !this.#ways[next].isDown;
    this.#take(next);
    // Where none is known to work, the breaker's pause is kept.
    return isFresh;
  }

  /** The cheapest way before the current one whose probe is due; undefined where there is none. */
  probeDue(): number | undefined {
    const nowMs = this.#clock.monotonicMs();
    const place = this.#ways.findIndex((way, k) => k < this.#current && way.probeAtMs <= nowMs);
    return place < 0 ? undefined : place;
  }

  /** Milliseconds until a probe is due; infinity on the cheapest way. */
  probeInMs(): number {
    const due = this.#ways.slice(0, this.#current).map(({ probeAtMs }) => probeAtMs);
    return Math.max(0, Math.min(...due, Number.POSITIVE_INFINITY) - this.#clock.monotonicMs());
  }

  /** A probe ended. True: its way is taken again from now on. */
  probed(place: number, works: boolean): boolean {
    const way = this.#ways[place];
    if (!works) {
      this.#setDown(way);
      return false;
    }
    if (++way.successes < PROBES_MIN) {
      way.probeAtMs = this.#clock.monotonicMs() + PROBE_MS.first / 2;
      return false;
    }
    way.isDown = false;
    way.probeMs = PROBE_MS.first;
    if (place >= this.#current) return false;
    this.#take(place);
    return true;
  }

  #setDown(way: Way): void {
    way.isDown = true;
    way.successes = 0;
    way.probeAtMs = this.#clock.monotonicMs() + way.probeMs;
    way.probeMs = Math.min(PROBE_MS.most, way.probeMs * 2);
  }

  #take(place: number): void {
    this.#current = place;
    this.#ways[place].failures = 0;
    this.#switches++;
  }
}
