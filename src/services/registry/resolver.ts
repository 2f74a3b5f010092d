/** Picks an instance for each call out of the cached table: no lookup, no waiting where one is there. */
import type { Agent } from "node:https";
import { type Clock, systemClock } from "../../kernel/clock.ts";
import type { Resolver, Target } from "../../kernel/connect.ts";
import { type Failure, fail, UNAVAILABLE } from "../../kernel/error.ts";
import { WEIGHT_DEFAULT } from "./instances.api.ts";
import type { Entry, Table } from "./table.ts";

/**
 * In the first seconds of a process the services it needs may still be coming up: a pick waits for them, no longer
 * than until this age.
 */
export const START_WAIT_MS = 10_000;
/**
 * A service whose last instance has gone is about to be restarted: picks wait for so long after it went, then fail at
 * once.
 */
export const GONE_WAIT_MS = 2_000;
/** One that said that it drains before it went has a successor, which waits for its store: picks wait as long as a call may. */
export const HANDOVER_WAIT_MS = 15_000;
/** A target that failed is left alone for so long; each further failure doubles it up to the most. */
export const EJECT_MS = 1_000;
export const EJECT_MS_MAX = 8_000;
/** A target that did not fail for so long starts from EJECT_MS again. */
const FORGIVE_MS = 20_000;
/** Turns after which unequal shares begin again; finer ones are rounded. */
const TURNS_MAX = 256;

export interface ResolverOptions {
  readonly table: Table;
  /** Gives the connections to a service, which must prove its name. */
  readonly identity: { agent(service: string): Agent & { retire?(host: string, port: number): void } };
  /** Services found without the registry: the registry itself, and identity. */
  readonly fixed?: Readonly<Record<string, { readonly host: string; readonly port: number }>>;
  readonly clock?: Clock;
}

interface Candidate {
  readonly target: Target;
  weight: number;
  ejectedUntilMs: number;
  failedMs: number;
  strikes: number;
}

interface Pool {
  readonly fixed?: Target;
  /** The table's array the ranks were made from. */
  source?: readonly Entry[];
  /**
   * Best first: passing, warning, not verified, draining; never critical ones. Each in the order of its turns, where one of
   * more weight may come several times. No rank is empty.
   */
  ranks: Candidate[][];
  next: number;
  ejections: boolean;
  emptySinceMs: number;
  waiting?: Promise<Target>;
}

/**
 * Makes the resolver of a process. `pick` takes turns over the passing instances, then the warning ones, leaving out those
 * that failed lately unless all did. Without any it waits: up to START_WAIT_MS after the resolver was made, GONE_WAIT_MS
 * after the last instance went (HANDOVER_WAIT_MS where it said that another follows); else it throws UNAVAILABLE at once.
 */
export const makeResolver = (options: ResolverOptions): Resolver => new RegistryResolver(options);

class RegistryResolver implements Resolver {
  readonly #options: ResolverOptions;
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #pools = new Map<string, Pool>();

  constructor(options: ResolverOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#startedMs = this.#clock.monotonicMs();
    for (const [service, at] of Object.entries(options.fixed ?? {})) {
      this.#pools.set(service, {
        ...emptyPool(),
        fixed: { ...at, agent: options.identity.agent(service), secure: true },
      });
    }
    // Not left to the next pick: how long a service has been gone counts from when it went.
    options.table.onChange(() => {
      for (const [service, pool] of this.#pools)
        if (pool.source && pool.source !== options.table.of(service)) this.#refill(service, pool);
    });
  }

  pick(service: string): Target | Promise<Target> {
    const pool = this.#pools.get(service) ?? this.#addPool(service);
    return pool.fixed ?? this.#choose(service, pool) ?? this.#wait(service, pool);
  }

  failed(service: string, target: Target): void {
    const pool = this.#pools.get(service);
    const candidate = pool?.ranks.flat().find((c) => c.target === target);
    if (!pool || !candidate) return;
    const nowMs = this.#clock.monotonicMs();
    candidate.strikes = nowMs - candidate.failedMs > FORGIVE_MS ? 0 : candidate.strikes + 1;
    candidate.failedMs = nowMs;
    candidate.ejectedUntilMs = nowMs + Math.min(EJECT_MS_MAX, EJECT_MS * 2 ** candidate.strikes);
    pool.ejections = true;
  }

  #addPool(service: string): Pool {
    const pool = emptyPool();
    this.#pools.set(service, pool);
    return pool;
  }

  #choose(service: string, pool: Pool): Target | undefined {
    if (!pool.source) this.#refill(service, pool);
    const nowMs = pool.ejections ? this.#clock.monotonicMs() : 0;
    for (const rank of pool.ranks) {
      for (let tried = 0; tried < rank.length; tried++) {
        pool.next = pool.next + 1 < rank.length ? pool.next + 1 : 0;
        const candidate = rank[pool.next];
        if (!pool.ejections || candidate.ejectedUntilMs <= nowMs) return candidate.target;
      }
    }
    return this.#leastEjected(pool);
  }

  /** All failed lately: one of them is still a better answer than none, and the only way to learn that it is back. */
  #leastEjected(pool: Pool): Target | undefined {
    let best: Candidate | undefined;
    for (const c of pool.ranks[0] ?? []) if (!best || c.ejectedUntilMs < best.ejectedUntilMs) best = c;
    return best?.target;
  }

  #refill(service: string, pool: Pool): void {
    const source = this.#options.table.of(service);
    const before = new Map(pool.ranks.flat().map((c) => [c.target.instance, c]));
    const ranks: Candidate[][] = [[], [], [], []];
    for (const entry of source) {
      const rank = rankOf(entry);
      if (rank === undefined) continue;
      const { instance, host, port, weight = WEIGHT_DEFAULT, digest } = entry.instance;
      const known = before.get(instance);
      const isSame = known?.target.host === host && known.target.port === port;
      const candidate = isSame ? known : this.#candidate(service, { instance, host, port, digest });
      candidate.weight = weight;
      ranks[rank].push(candidate);
    }
    for (const { target } of before.values()) {
      // What is kept to one that went leads nowhere, and soon to its successor's port.
      if (!source.some(({ instance: i }) => i.instance === target.instance))
        this.#options.identity.agent(service).retire?.(target.host, target.port);
    }
    pool.ranks = ranks.filter((r) => r.length > 0).map(turnsOf);
    pool.ejections = pool.ranks.some((r) => r.some((c) => c.strikes > 0 || c.ejectedUntilMs > 0));
    if (pool.ranks.length > 0) pool.emptySinceMs = Number.POSITIVE_INFINITY;
    else if (pool.emptySinceMs === Number.POSITIVE_INFINITY) pool.emptySinceMs = this.#clock.monotonicMs();
    pool.source = source;
  }

  #candidate(service: string, at: Pick<Target, "instance" | "host" | "port" | "digest">): Candidate {
    const target = { ...at, agent: this.#options.identity.agent(service), secure: true };
    return { target, weight: WEIGHT_DEFAULT, ejectedUntilMs: 0, failedMs: Number.NEGATIVE_INFINITY, strikes: 0 };
  }

  /** One promise for all who wait for a service, so that a flood of calls holds no more than itself. */
  #wait(service: string, pool: Pool): Promise<Target> {
    if (pool.waiting) return pool.waiting;
    const goneMs = this.#options.table.isHandedOver(service) ? HANDOVER_WAIT_MS : GONE_WAIT_MS;
    const untilMs = Math.max(this.#startedMs + START_WAIT_MS, pool.emptySinceMs + goneMs);
    const leftMs = untilMs - this.#clock.monotonicMs();
    if (leftMs <= 0) throw this.#unavailable(service);
    const waiting = new Promise<Target>((resolve, reject) => {
      const stop = this.#options.table.onChange(() => {
        const target = this.#choose(service, pool);
        if (target) done(() => resolve(target));
      });
      const timer = setTimeout(() => done(() => reject(this.#unavailable(service))), leftMs);
      const done = (settle: () => void) => {
        clearTimeout(timer);
        stop();
        delete pool.waiting;
        settle();
      };
    });
    pool.waiting = waiting;
    return waiting;
  }

  #unavailable(service: string): Failure {
    const known = this.#options.table.knows(service);
    return fail(
      UNAVAILABLE,
      known ? `no instance of ${service} is up` : `no instance of ${service} has ever registered`,
      { retryAfterS: 1 },
    );
  }
}

const emptyPool = (): Pool => ({ ranks: [], next: -1, ejections: false, emptySinceMs: Number.NEGATIVE_INFINITY });

/**
 * A draining instance still answers, so it is better than none; a critical one said that it cannot. Strangers have no
 * certificate to prove their name with.
 */
function rankOf({ instance, confirmed }: Entry): number | undefined {
  const { state, maintenance, check, weight } = instance;
  if (state === "critical" || maintenance || check !== undefined) return undefined;
  if (state === "draining" || weight === 0) return 3;
  if (!confirmed || state === "unverified") return 2;
  return state === "passing" ? 0 : 1;
}

/** Orders unequal shares so that none gets its turns in a row: each turn goes to the one that is furthest behind its share. */
function turnsOf(rank: Candidate[]): Candidate[] {
  if (rank.every(({ weight }) => weight === rank[0].weight)) return rank;
  const total = rank.reduce((sum, { weight }) => sum + weight, 0);
  const unit = rank.reduce((divisor, { weight }) => commonDivisor(divisor, weight), total);
  const behind = rank.map(() => 0);
  return Array.from({ length: Math.min(TURNS_MAX, total / unit) }, () => {
    for (const [at, { weight }] of rank.entries()) behind[at] += weight;
    const next = behind.indexOf(Math.max(...behind));
    behind[next] -= total;
    return rank[next];
  });
}

const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b));
