/** The instances of one upstream, and the settings by which they are chosen, left out and spared. */
import type { Clock } from "../../../kernel/clock.ts";
import { fail, UNAVAILABLE } from "../../../kernel/error.ts";
import type { Ticket } from "../ticket.ts";
import type { UpstreamSettings } from "../upstream.api.ts";
import { type Balance, BALANCES, slowStart } from "./balance.ts";
import { type Address, Endpoint } from "./endpoint.ts";
import { Breaker, Budget, Bulkhead, Latencies } from "./guards.ts";

const EJECT = { failures: 5, ms: 1_000, msMax: 8_000, shareMax: 1 };
const RETRIES = { share: 0.2, reserve: 100 };
/** One that said that it drains before it went has a successor, which waits for its store: a request waits as long as it may. */
const HANDOVER_WAIT_MS = 15_000;
const NONE: ReadonlySet<Endpoint> = new Set();

export interface GroupOptions {
  readonly name: string;
  readonly clock: Clock;
  /** A request waits so long for an instance to come up: what is being restarted is masked. */
  readonly waitMs: number;
  /** Told of an instance that is there no more. */
  readonly onGone: (endpoint: Endpoint) => void;
  /** Told when the breaker opens or closes by what was seen here. */
  readonly onBreaker: (upstream: string, open: boolean) => void;
  /** Of the door, this one among them. */
  readonly processes: () => number;
}

export interface PickOptions {
  readonly ticket: Ticket;
  /** For `hash`. */
  readonly key: string;
  /** When the request began to look for an instance. */
  readonly sinceMs: number;
}

export class Group {
  readonly name: string;
  readonly latencies = new Latencies();
  readonly #o: GroupOptions;
  readonly #waiting = new Set<() => void>();
  #endpoints: readonly Endpoint[] = [];
  #turn = 0;
  #balance: Balance = BALANCES["least-requests"];
  #slowStartMs = 0;
  #eject = EJECT;
  settings: UpstreamSettings = {};
  retries = new Budget(RETRIES.share, RETRIES.reserve);
  breaker: Breaker | undefined;
  bulkhead: Bulkhead | undefined;
  /** Its instances are those of the routes file: none comes up that could be waited for. */
  fixed = false;
  /** The instance that went last had said that another follows. */
  handedOver = false;
  /** Times are measured: somebody chooses by them, or asks a second instance by them. */
  measured = false;

  constructor(options: GroupOptions) {
    this.name = options.name;
    this.#o = options;
  }

  get endpoints(): readonly Endpoint[] {
    return this.#endpoints;
  }

  /** Takes settings; the guards begin anew. */
  configure(settings: UpstreamSettings): void {
    const { balance = "least-requests", breaker, bulkhead, retryBudget = RETRIES } = settings;
    this.settings = settings;
    this.#balance = BALANCES[balance];
    this.#slowStartMs = settings.slowStartMs ?? 0;
    this.#eject = settings.eject ?? EJECT;
    this.measured = balance === "peak-ewma";
    this.retries = new Budget(retryBudget.share, retryBudget.reserve);
    this.breaker = breaker && new Breaker(this.name, breaker, this.#o.clock);
    if (this.breaker) this.breaker.onChange = (open) => this.#o.onBreaker(this.name, open);
    this.bulkhead = bulkhead && new Bulkhead(this.name, bulkhead, this.#o.processes);
  }

  /** Takes what instances there are now; those that were known are kept as they are. */
  update(addresses: readonly (Address & { readonly rank: number })[]): void {
    const before = this.#endpoints;
    const nowMs = this.#o.clock.monotonicMs();
    this.#endpoints = addresses.map((address) => {
      const endpoint = before.find((known) => known.is(address)) ?? new Endpoint(address, nowMs);
      endpoint.rank = address.rank;
      return endpoint;
    });
    for (const endpoint of before) if (!this.#endpoints.includes(endpoint)) this.#o.onGone(endpoint);
    for (const wake of this.#waiting) wake();
  }

  /** Picks one, leaving out those in `tried`; waits for one where there is none. UNAVAILABLE, or what ends the ticket. */
  pick(tried: ReadonlySet<Endpoint>, options: PickOptions): Endpoint | Promise<Endpoint> {
    return this.choose(tried, options.key) ?? this.#wait(tried, options);
  }

  /** Picks one of those that are there; undefined where there is none. */
  choose(tried: ReadonlySet<Endpoint> = NONE, key = ""): Endpoint | undefined {
    const all = this.#endpoints;
    // Almost always there is one, and it is well.
    if (all.length === 1) return tried.has(all[0]) ? undefined : all[0];
    if (all.length === 0) return undefined;
    const nowMs = this.#o.clock.monotonicMs();
    const from = this.#best(tried, nowMs);
    if (from.length < 2) return from[0];
    const share = (endpoint: Endpoint) => slowStart(nowMs - endpoint.bornMs, this.#slowStartMs);
    return this.#balance({ from, key, share, turn: ++this.#turn });
  }

  /** It could not be reached, or broke off. */
  failed(endpoint: Endpoint): void {
    const nowMs = this.#o.clock.monotonicMs();
    const others = this.#endpoints.filter((other) => other !== endpoint && other.ejectedUntilMs > nowMs).length;
    if (others + 1 <= Math.max(1, this.#endpoints.length * this.#eject.shareMax)) endpoint.eject(nowMs, this.#eject);
  }

  /** It answered; `good` unless with an error of its own. */
  answered(endpoint: Endpoint, good: boolean): void {
    if (good) {
      if (endpoint.ejectedUntilMs !== 0 || endpoint.badAnswers !== 0) endpoint.forgive();
    } else if (++endpoint.badAnswers >= this.#eject.failures) this.failed(endpoint);
  }

  /** Those of the best that are left: one that failed lately is still better than none, and the only way to learn that it is back. */
  #best(tried: ReadonlySet<Endpoint>, nowMs: number): Endpoint[] {
    let best: Endpoint[] = [];
    let bestTier = Number.POSITIVE_INFINITY;
    for (const endpoint of this.#endpoints) {
      if (tried.has(endpoint)) continue;
      const tier = endpoint.rank + (endpoint.ejectedUntilMs > nowMs || endpoint.unwell ? 4 : 0);
      if (tier < bestTier) [best, bestTier] = [[endpoint], tier];
      else if (tier === bestTier) best.push(endpoint);
    }
    return best;
  }

  async #wait(tried: ReadonlySet<Endpoint>, { ticket, key, sinceMs }: PickOptions): Promise<Endpoint> {
    const { clock, waitMs } = this.#o;
    for (;;) {
      const leftMs = sinceMs + (this.handedOver ? Math.max(waitMs, HANDOVER_WAIT_MS) : waitMs) - clock.monotonicMs();
      if (this.fixed || leftMs <= 0) throw fail(UNAVAILABLE, `no instance of ${this.name} is up`, { retryAfterS: 1 });
      await ticket.wait(this.#change(leftMs));
      const endpoint = this.choose(tried, key);
      if (endpoint) return endpoint;
    }
  }

  /** Resolves when something has changed, or after `ms`. */
  #change(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#waiting.add(done);
    });
  }
}
