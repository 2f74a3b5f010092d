/**
 * Makes who fails wait, longer each time. What fails first pays first: one client that goes on with one wrong token is
 * stopped by itself (address and claimed name together) and takes little of what its address may, so that a site behind
 * one address is not locked out by it. Who guesses under many names spends the address's tries: then strangers of that
 * address wait, a minute at most, and who came in from there before passes.
 *
 * Nothing is counted by name alone: anybody can write any name into a token, and would lock its owner out.
 */
import type { Clock } from "../../../kernel/clock.ts";
import type { Try } from "../siblings.api.ts";

/** Tries that cost nothing; from then on waits that double, up to the longest. */
interface Terms {
  readonly free: number;
  readonly waitMsMax: number;
}
const OF_ADDRESS: Terms = { free: 20, waitMsMax: 60_000 };
const OF_PAIR: Terms = { free: 5, waitMsMax: 900_000 };
const WAIT_MS = 1_000;
/** Failures are forgotten after so long without a further one. */
const FORGIVE_MS = 1_800_000;
/** Who came in is remembered so long. */
const KNOWN_MS = 43_200_000;
/** Of each kind; above it the one longest untouched is forgotten, which gives it its free tries again. */
const ENTRIES_MAX = 16_384;

interface Failures {
  readonly count: number;
  readonly lastMs: number;
  readonly untilMs: number;
}

export class Lockout {
  readonly #clock: Clock;
  readonly #addresses = new Map<string, Failures>();
  readonly #pairs = new Map<string, Failures>();
  readonly #known = new Map<string, number>();
  /** Told of each try that was noted here. */
  onTry: (tried: Try) => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Entries that are kept. */
  get size(): number {
    return this.#addresses.size + this.#pairs.size + this.#known.size;
  }

  /** Milliseconds until a client may try as somebody (undefined: it does not say); 0 where it may now. */
  waitMs(client: string, who?: string): number {
    const nowMs = this.#clock.monotonicMs();
    const left = (failures: Failures | undefined) => Math.max(0, (failures?.untilMs ?? 0) - nowMs);
    const pair = who === undefined ? undefined : pairOf(client, who);
    const pairMs = pair === undefined ? 0 : left(this.#pairs.get(pair));
    if (pairMs > 0 || (pair !== undefined && this.#isKnown(pair, nowMs))) return pairMs;
    return left(this.#addresses.get(client));
  }

  /** Notes a try that failed. */
  failed(client: string, who?: string): void {
    this.#note({ client, cameIn: false, ...(who === undefined ? {} : { who }) });
  }

  /** Notes that somebody came in. What their address did stays: an own account buys nobody guesses. */
  succeeded(client: string, who: string): void {
    this.#note({ client, who, cameIn: true });
  }

  #note(tried: Try): void {
    this.learn(tried);
    this.onTry(tried);
  }

  /** Notes a try that somebody else has noted. */
  learn({ client, who, cameIn }: Try): void {
    if (!cameIn) this.#count(this.#addresses, client, OF_ADDRESS);
    if (who === undefined) return;
    const pair = pairOf(client, who);
    if (!cameIn) return this.#count(this.#pairs, pair, OF_PAIR);
    this.#pairs.delete(pair);
    put(this.#known, pair, this.#clock.monotonicMs());
  }

  #isKnown(pair: string, nowMs: number): boolean {
    return nowMs - (this.#known.get(pair) ?? Number.NEGATIVE_INFINITY) < KNOWN_MS;
  }

  #count(entries: Map<string, Failures>, key: string, { free, waitMsMax }: Terms): void {
    const nowMs = this.#clock.monotonicMs();
    const before = entries.get(key);
    const count = before && nowMs - before.lastMs < FORGIVE_MS ? before.count + 1 : 1;
    const waitMs = count < free ? 0 : Math.min(waitMsMax, WAIT_MS * 2 ** Math.min(count - free, 30));
    put(entries, key, { count, lastMs: nowMs, untilMs: nowMs + waitMs });
  }
}

const pairOf = (client: string, who: string): string => `${client} ${who}`;

/** Puts an entry last; above ENTRIES_MAX the first goes. */
function put<V>(entries: Map<string, V>, key: string, value: V): void {
  entries.delete(key);
  if (entries.size >= ENTRIES_MAX) entries.delete(entries.keys().next().value!);
  entries.set(key, value);
}
