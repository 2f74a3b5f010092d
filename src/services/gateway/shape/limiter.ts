/** Limits how often a key (an address, a token) may come: GCRA, one number a key, exact, without a window's edges. */
import { isIPv6 } from "node:net";
import type { Clock } from "../../../kernel/clock.ts";

export interface LimiterOptions {
  readonly requestsPerS: number;
  /** So many may come at once. */
  readonly burst: number;
  /** Keys that are remembered; above it the one that came first is forgotten, which gives it a new burst. */
  readonly keysMax: number;
  readonly clock: Clock;
  /** Told of each that was taken, and how many more could be. */
  readonly onTake?: (key: string, remaining: number) => void;
}

export interface Taken {
  readonly allowed: boolean;
  /** So many more may come right now. */
  readonly remaining: number;
  /** Until the whole burst may come again; where not allowed: until one more may come. */
  readonly waitMs: number;
}

export class Limiter {
  readonly #gapMs: number;
  readonly #burstMs: number;
  readonly #keysMax: number;
  readonly #clock: Clock;
  readonly #onTake: LimiterOptions["onTake"];
  /** By key, when its burst will be whole again. */
  readonly #wholeAtMs = new Map<string, number>();

  constructor({ requestsPerS, burst, keysMax, clock, onTake }: LimiterOptions) {
    this.#gapMs = 1000 / requestsPerS;
    this.#burstMs = this.#gapMs * burst;
    this.#keysMax = keysMax;
    this.#clock = clock;
    this.#onTake = onTake;
  }

  /** Takes one of a key's burst, where one is left. */
  take(key: string): Taken {
    const { nextMs, taken } = this.#look(key);
    if (taken.allowed) {
      this.#keep(key, nextMs);
      this.#onTake?.(key, taken.remaining);
    }
    return taken;
  }

  /** Counts what was let through elsewhere, be it more than may come: then it is waited for, longer. */
  learn(key: string, count: number): void {
    this.#keep(key, Math.max(this.#wholeAtMs.get(key) ?? 0, this.#clock.monotonicMs()) + this.#gapMs * count);
  }

  /** Notes that a key's burst will not be whole before so many milliseconds. */
  owe(key: string, ms: number): void {
    const wholeAtMs = this.#clock.monotonicMs() + ms;
    if (wholeAtMs > (this.#wholeAtMs.get(key) ?? 0)) this.#keep(key, wholeAtMs);
  }

  /** Tells by key in how many milliseconds its burst will be whole again. */
  *debts(): Generator<[key: string, ms: number]> {
    const nowMs = this.#clock.monotonicMs();
    for (const [key, wholeAtMs] of this.#wholeAtMs) if (wholeAtMs > nowMs) yield [key, wholeAtMs - nowMs];
  }

  /** Tells what `take` would, and takes nothing. */
  peek(key: string): Taken {
    return this.#look(key).taken;
  }

  get size(): number {
    return this.#wholeAtMs.size;
  }

  #look(key: string): { nextMs: number; taken: Taken } {
    const nowMs = this.#clock.monotonicMs();
    const nextMs = Math.max(this.#wholeAtMs.get(key) ?? 0, nowMs) + this.#gapMs;
    const leftMs = this.#burstMs - (nextMs - nowMs);
    // Half a microsecond for the rounding of the sums.
    if (leftMs < -0.0005) return { nextMs, taken: { allowed: false, remaining: 0, waitMs: -leftMs } };
    return {
      nextMs,
      taken: { allowed: true, remaining: Math.floor(leftMs / this.#gapMs + 0.0005), waitMs: nextMs - nowMs },
    };
  }

  #keep(key: string, nextMs: number): void {
    if (!this.#wholeAtMs.has(key) && this.#wholeAtMs.size >= this.#keysMax) this.#forget();
    this.#wholeAtMs.set(key, nextMs);
  }

  /** Forgets the keys whose burst is whole, which changes nothing; where all are in use, the first one. */
  #forget(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [key, wholeAtMs] of this.#wholeAtMs) if (wholeAtMs <= nowMs) this.#wholeAtMs.delete(key);
    const [first] = this.#wholeAtMs.keys();
    if (this.#wholeAtMs.size >= this.#keysMax && first !== undefined) this.#wholeAtMs.delete(first);
  }
}

/** Names the client that limits count by: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer gets. */
export function clientOf(address: string): string {
  if (!isIPv6(address)) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1];
  const [head = "", tail] = address.split("%", 1)[0].split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups =
    tail === undefined
      ? left
      : [...left, ...Array.from({ length: 8 - left.length - right.length }, () => "0"), ...right];
  return `${groups.slice(0, 4).join(":")}::/64`;
}
