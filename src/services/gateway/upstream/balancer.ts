/** Picks an instance for each request: the least busy of the healthiest, leaving out those that failed lately. */
import type { Clock } from "../../../kernel/clock.ts";
import { fail, UNAVAILABLE } from "../../../kernel/error.ts";
import type { Instances, Known } from "./instances.ts";
import type { Ticket } from "../ticket.ts";

/** An instance that failed is left alone for so long; each further failure doubles it up to the most. */
const EJECT_MS = 1_000;
const EJECT_MS_MAX = 8_000;
/** One that did not fail for so long starts from EJECT_MS again. */
const FORGIVE_MS = 20_000;

/** An instance to send to. */
export class Endpoint {
  readonly service: string;
  readonly instance: string;
  readonly host: string;
  readonly port: number;
  /** 0 passing, 1 warning, 2 not confirmed since the registry's restart, 3 draining. */
  rank = 0;
  running = 0;
  ejectedUntilMs = 0;
  #failedMs = Number.NEGATIVE_INFINITY;
  #strikes = 0;

  constructor(service: string, instance: string, host: string, port: number) {
    this.service = service;
    this.instance = instance;
    this.host = host;
    this.port = port;
  }

  eject(nowMs: number): void {
    this.#strikes = nowMs - this.#failedMs > FORGIVE_MS ? 0 : this.#strikes + 1;
    this.#failedMs = nowMs;
    this.ejectedUntilMs = nowMs + Math.min(EJECT_MS_MAX, EJECT_MS * 2 ** this.#strikes);
  }

  forgive(): void {
    this.ejectedUntilMs = 0;
  }
}

export interface BalancerOptions {
  readonly instances: Instances;
  readonly clock: Clock;
  /** A request waits so long for an instance to come up: what is being restarted is masked. */
  readonly waitMs: number;
  /** Told of an instance that is there no more. */
  onGone(endpoint: Endpoint): void;
}

export class Balancer {
  readonly #options: BalancerOptions;
  readonly #endpoints = new Map<string, readonly Endpoint[]>();
  readonly #waiting = new Map<string, Set<() => void>>();
  #turn = 0;

  constructor(options: BalancerOptions) {
    this.#options = options;
    options.instances.onChange((service, known) => this.#update(service, known));
  }

  /** Picks one, leaving out those in `tried`; waits for one where there is none. UNAVAILABLE, or what ends the ticket. */
  pick(service: string, tried: ReadonlySet<Endpoint>, ticket: Ticket, sinceMs: number): Endpoint | Promise<Endpoint> {
    return this.#choose(service, tried) ?? this.#wait(service, tried, ticket, sinceMs);
  }

  /** Lists the instances that are known, for the metrics. */
  *all(): Generator<Endpoint> {
    for (const endpoints of this.#endpoints.values()) yield* endpoints;
  }

  failed(endpoint: Endpoint): void {
    endpoint.eject(this.#options.clock.monotonicMs());
  }

  #choose(service: string, tried: ReadonlySet<Endpoint>): Endpoint | undefined {
    const all = this.#endpoints.get(service);
    if (!all || all.length === 0) return undefined;
    // Almost always there is one, and it is well.
    const only = all[0];
    if (all.length === 1) return tried.has(only) ? undefined : only;
    const nowMs = this.#options.clock.monotonicMs();
    const from = ++this.#turn % all.length;
    let best: Endpoint | undefined;
    let bestCost = Number.POSITIVE_INFINITY;
    for (let i = 0; i < all.length; i++) {
      const endpoint = all[(from + i) % all.length];
      if (tried.has(endpoint)) continue;
      // One that failed lately is still better than none, and the only way to learn that it is back.
      const cost = (endpoint.ejectedUntilMs > nowMs ? 4_000_000 : 0) + endpoint.rank * 1_000_000 + endpoint.running;
      if (cost < bestCost) [best, bestCost] = [endpoint, cost];
    }
    return best;
  }

  async #wait(service: string, tried: ReadonlySet<Endpoint>, ticket: Ticket, sinceMs: number): Promise<Endpoint> {
    const { clock, waitMs } = this.#options;
    for (;;) {
      const leftMs = sinceMs + waitMs - clock.monotonicMs();
      if (leftMs <= 0) throw fail(UNAVAILABLE, `no instance of ${service} is up`, { retryAfterS: 1 });
      await ticket.wait(this.#change(service, leftMs));
      const endpoint = this.#choose(service, tried);
      if (endpoint) return endpoint;
    }
  }

  /** Resolves when something of a service has changed, or after `ms`. */
  #change(service: string, ms: number): Promise<void> {
    const waiting = this.#waiting.get(service) ?? new Set();
    this.#waiting.set(service, waiting);
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      waiting.add(done);
    });
  }

  #update(service: string, known: readonly Known[]): void {
    const before = this.#endpoints.get(service) ?? [];
    const now: Endpoint[] = [];
    for (const { instance, confirmed } of known) {
      // A critical one said that it cannot; a draining one still answers.
      if (instance.state === "critical") continue;
      const kept = before.find(
        (e) => e.instance === instance.instance && e.host === instance.host && e.port === instance.port,
      );
      const endpoint = kept ?? new Endpoint(service, instance.instance, instance.host, instance.port);
      endpoint.rank = instance.state === "draining" ? 3 : !confirmed ? 2 : instance.state === "passing" ? 0 : 1;
      now.push(endpoint);
    }
    this.#endpoints.set(service, now);
    for (const endpoint of before) if (!now.includes(endpoint)) this.#options.onGone(endpoint);
    for (const wake of this.#waiting.get(service) ?? []) wake();
  }
}
