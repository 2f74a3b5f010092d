/**
 * The step that keeps answers (RFC 9111): gives what is fresh from memory, asks whether what is stale still holds, gives it
 * stale where that is allowed and the service fails, and asks once however many wait.
 */
import { asFailure, fail } from "../../../kernel/error.ts";
import type { Clock } from "../../../kernel/clock.ts";
import { GATEWAY_NOT_CACHED } from "../api.ts";
import type { CacheSettings } from "../cache.api.ts";
import type { Metrics } from "../metrics.ts";
import { Answer } from "../upstream/answer.ts";
import { drop, type Handler, type Reply, type Step, type Visit } from "../visit.ts";
import { type Asked, NOTHING_ASKED, readAsked, withValidators } from "./asked.ts";
import { readSeconds } from "./directives.ts";
import { Entry, fieldOf, type Times } from "./entry.ts";
import type { Flight } from "./flight.ts";
import { mayKeep, variedBy } from "./keeping.ts";
import { keyOf } from "./key.ts";
import { serve } from "./serve.ts";
import type { Store } from "./store.ts";
import { tee } from "./tee.ts";

export interface CachedOptions {
  readonly store: Store;
  readonly settings: CacheSettings;
  /** Everyone may ask. */
  readonly isPublic: boolean;
  /** For the metrics. */
  readonly route: string;
  /** Names the route as it is: what is kept for it is given to no other, nor to itself when it has changed. */
  readonly owner: string;
  readonly metrics: Metrics;
  readonly clock: Clock;
}

/** RFC 5861 4. */
const FAILED: ReadonlySet<number> = new Set([500, 502, 503, 504]);

/** Makes the step. GATEWAY_NOT_CACHED where only-if-cached was asked and there is nothing. */
export const cached =
  (options: CachedOptions): Step =>
  (next) => {
    const cache = new RouteCache(options, next);
    return (visit) => {
      const { method } = visit;
      if (method === "GET" || method === "HEAD") return cache.handle(visit);
      return method === "POST" ? cache.post(visit) : next(visit);
    };
  };

class RouteCache {
  readonly #o: CachedOptions;
  readonly #next: Handler;
  readonly #per: "subject" | "everyone";

  constructor(options: CachedOptions, next: Handler) {
    this.#o = options;
    this.#next = next;
    this.#per = options.settings.per ?? (options.isPublic ? "everyone" : "subject");
  }

  handle(visit: Visit): Reply | Promise<Reply> {
    const asked = readAsked(visit);
    const key = this.#keyOf(visit);
    const found = this.#find(key, visit);
    const entry = found === "elsewise" ? undefined : found;
    if (entry && !asked.precondition) return this.#use(visit, asked, key, entry);
    if (asked.directives.has("only-if-cached")) throw notCached();
    const missed = asked.precondition ? "bypass" : found === "elsewise" ? "vary-miss" : "uri-miss";
    const flight = this.#o.store.flight(key, this.#o.owner);
    if (flight && visit.method === "GET" && !asked.precondition) return this.#follow(visit, asked, key, flight);
    return this.#fetch(visit, asked, key, missed);
  }

  /** RFC 9110 9.3.3: what is answered to POST may stand for what GET would be. */
  async post(visit: Visit): Promise<Reply> {
    const { reply, times } = await this.#ask(visit);
    const key = this.#keyOf(visit);
    const flight = this.#o.store.begin(key, this.#o.owner, false);
    return this.#pass(visit, readAsked(visit), key, { reply, times, why: "method", flight });
  }

  #find(key: string, visit: Visit): Entry | "elsewise" | undefined {
    return this.#o.store.find(key, this.#o.owner, visit);
  }

  #keyOf(visit: Visit): string {
    return keyOf(visit, visit.target!.path + visit.target!.query, this.#per);
  }

  /** There is something: given as it is, or after the service was asked. */
  #use(visit: Visit, asked: Asked, key: string, entry: Entry): Reply | Promise<Reply> {
    const nowMs = this.#o.clock.monotonicMs();
    const leftMs = entry.freshLeftMs(nowMs);
    if (this.#mayGive(asked, entry, nowMs, leftMs)) return this.#give(visit, asked, entry, "hit", nowMs);
    if (asked.directives.has("only-if-cached")) throw notCached();
    const staleMs = -leftMs;
    if (!asked.directives.has("no-cache") && leftMs <= 0 && !entry.alwaysAsk) {
      if (staleMs < entry.staleMs("stale-while-revalidate")) {
        if (!entry.renewing && !this.#spared(entry, nowMs)) void this.#renew(visit, key, entry);
        return this.#give(visit, asked, entry, "stale", nowMs);
      }
      // It has just failed: it is spared, and those that may have the old one have it.
      if (staleMs < entry.staleMs("stale-if-error") && this.#spared(entry, nowMs))
        return this.#give(visit, asked, entry, "stale", nowMs);
    }
    const flight = this.#o.store.flight(key, this.#o.owner);
    if (flight && visit.method === "GET") return this.#follow(visit, asked, key, flight);
    return this.#validate(visit, asked, key, entry);
  }

  /** RFC 9111 4.2, 5.2.1: fresh enough for this request. */
  #mayGive({ directives }: Asked, entry: Entry, nowMs: number, leftMs: number): boolean {
    if (entry.alwaysAsk || directives.has("no-cache")) return false;
    const maxAge = directives.get("max-age");
    if (maxAge !== undefined && entry.ageMs(nowMs) > readSeconds(maxAge) * 1_000) return false;
    const minFresh = directives.get("min-fresh");
    if (leftMs > 0) return minFresh === undefined || leftMs >= readSeconds(minFresh) * 1_000;
    const maxStale = directives.get("max-stale");
    if (maxStale === undefined || entry.neverStale) return false;
    return maxStale === true || -leftMs <= readSeconds(maxStale) * 1_000;
  }

  #spared(entry: Entry, nowMs: number): boolean {
    return nowMs - entry.failedMs < this.#o.settings.spareMs;
  }

  #give(visit: Visit, asked: Asked, entry: Entry, how: string, nowMs: number): Reply {
    this.#o.metrics.cached(this.#o.route, how);
    visit.cache = how.split(";", 1)[0];
    const ttl = `ttl=${Math.floor(entry.freshLeftMs(nowMs) / 1_000)}`;
    const status = how === "hit" || how === "stale" ? `holdfast; hit; ${ttl}` : `holdfast; ${how}; ${ttl}`;
    return serve(entry, { visit, asked, nowMs, wallMs: this.#o.clock.wallMs(), status, kept: this.#o.isPublic });
  }

  /** Waits for the request that fills the cache, and gives what it brought; where that cannot be kept, goes by itself. */
  async #follow(visit: Visit, asked: Asked, key: string, flight: Flight): Promise<Reply> {
    await flight.landed;
    const nowMs = this.#o.clock.monotonicMs();
    const entry = this.#find(key, visit);
    if (entry && entry !== "elsewise") {
      if (this.#mayGive(asked, entry, nowMs, entry.freshLeftMs(nowMs)))
        return this.#give(visit, asked, entry, "fwd=uri-miss; collapsed", nowMs);
      if (this.#spared(entry, nowMs) && -entry.freshLeftMs(nowMs) < entry.staleMs("stale-if-error"))
        return this.#give(visit, asked, entry, "stale", nowMs);
      return this.#validate(visit, asked, key, entry);
    }
    return this.#fetch(visit, asked, key, "uri-miss");
  }

  /** Nothing is there: the service's answer passes, and is kept where it may be. */
  async #fetch(visit: Visit, asked: Asked, key: string, missed: string): Promise<Reply> {
    return this.#flying(visit, asked, key, async (flight) => {
      const { reply, times } = await this.#ask(visit);
      return this.#pass(visit, asked, key, { reply, times, why: missed, flight });
    });
  }

  /** Something is there that is stale: the service is asked whether it still holds (RFC 9111 4.3). */
  async #validate(visit: Visit, asked: Asked, key: string, entry: Entry): Promise<Reply> {
    return this.#flying(visit, asked, key, async (flight) => {
      const passed = visit.passed;
      visit.passed = withValidators(passed, entry);
      let asking: { reply: Reply; times: Times };
      try {
        asking = await this.#ask(visit);
      } catch (error) {
        flight.land();
        return this.#despite(visit, asked, entry, () => {
          throw asFailure(error);
        });
      }
      visit.passed = passed;
      const { reply, times } = asking;
      if (reply.status === 304) {
        drop(reply);
        const tag = fieldOf(reply.headers, "etag");
        // It speaks of another variant than ours: then all of it is asked for.
        if (
          tag !== undefined &&
          entry.etag !== undefined &&
          tag.replace(/^W\//, "") !== entry.etag.replace(/^W\//, "")
        ) {
          this.#o.store.forget(key);
          flight.land();
          return this.#fetch(visit, asked, key, "stale");
        }
        entry.freshen(reply.headers, times);
        flight.land();
        return this.#give(visit, asked, entry, "fwd=stale; fwd-status=304", times.cameMs);
      }
      if (FAILED.has(reply.status)) {
        flight.land();
        return this.#despite(visit, asked, entry, () => reply);
      }
      return this.#pass(visit, asked, key, { reply, times, why: "stale", flight });
    });
  }

  /** The service has failed: what is stale is given where it may be, else what came. */
  #despite(visit: Visit, asked: Asked, entry: Entry, otherwise: () => Reply): Reply {
    const nowMs = this.#o.clock.monotonicMs();
    entry.failedMs = nowMs;
    const saidMs = readSeconds(asked.directives.get("stale-if-error")) * 1_000;
    const may = Math.max(entry.neverStale ? 0 : saidMs, entry.staleMs("stale-if-error"));
    if (-entry.freshLeftMs(nowMs) >= may || entry.alwaysAsk) return otherwise();
    return this.#give(visit, asked, entry, "hit; fwd=stale; detail=stale-if-error", nowMs);
  }

  /** Asks for a new one while the stale one is given: nobody waits for it. */
  async #renew(visit: Visit, key: string, entry: Entry): Promise<void> {
    entry.renewing = true;
    const copy = visit.detach();
    try {
      const reply = await this.#validate(copy, NOTHING_ASKED, key, entry);
      if (reply.body instanceof Answer) await reply.body.gather(this.#o.settings.entryBytesMax);
      drop(reply);
    } catch {
      // Whoever comes next is told, or given the stale one: #despite has noted it.
    } finally {
      entry.renewing = false;
      copy.ticket?.stop();
    }
  }

  /** While it is under way, others that ask for the same wait. */
  async #flying(visit: Visit, asked: Asked, key: string, work: (flight: Flight) => Promise<Reply>): Promise<Reply> {
    const { store, owner } = this.#o;
    const alone = visit.method !== "GET" || asked.range !== undefined || asked.directives.has("no-store");
    const flight = store.begin(key, owner, !alone);
    try {
      return await work(flight);
    } catch (error) {
      flight.land();
      throw error;
    }
  }

  async #ask(visit: Visit): Promise<{ reply: Reply; times: Times }> {
    const { clock } = this.#o;
    const askedMs = clock.monotonicMs();
    const reply = await this.#next(visit);
    return { reply, times: { askedMs, cameMs: clock.monotonicMs(), wallMs: clock.wallMs() } };
  }

  /** Gives the service's answer, and keeps it where it may be kept. */
  #pass(
    visit: Visit,
    asked: Asked,
    key: string,
    { reply, times, why, flight }: { reply: Reply; times: Times; why: string; flight: Flight },
  ): Reply {
    const { settings, store, isPublic, owner } = this.#o;
    this.#o.metrics.cached(this.#o.route, why);
    const keeps = mayKeep({ visit, asked, reply, settings, per: this.#per, wallMs: times.wallMs });
    if (visit.method === "HEAD") this.#updateByHead(visit, key, reply, times);
    const status = `holdfast; fwd=${why}; fwd-status=${reply.status}${keeps ? "; stored" : ""}`;
    const passed: Reply = { ...reply, headers: [...reply.headers, "Cache-Status", status], kept: isPublic };
    if (!keeps) {
      flight.land();
      return passed;
    }
    const keep = (body: Buffer | undefined) => {
      const varied = variedBy(reply, visit);
      if (body && !flight.overtaken) store.put(key, new Entry(reply, body, { varied, owner, settings, times }), visit);
      flight.land();
    };
    if (!(reply.body instanceof Answer)) {
      keep(reply.body ?? Buffer.alloc(0));
      return this.#asAsked(visit, asked, key, passed);
    }
    return { ...passed, body: tee(reply.body, settings.entryBytesMax, keep) };
  }

  /** What came instead of a stale one may be what the client has, or more than it asked for. */
  #asAsked(visit: Visit, asked: Asked, key: string, passed: Reply): Reply {
    if (asked.ifNoneMatch === undefined && asked.ifModifiedSince === undefined && asked.range === undefined)
      return passed;
    const entry = this.#find(key, visit);
    if (!entry || entry === "elsewise") return passed;
    const nowMs = this.#o.clock.monotonicMs();
    const status = passed.headers.at(-1)!;
    passed.done?.();
    return serve(entry, { visit, asked, nowMs, wallMs: this.#o.clock.wallMs(), status, kept: this.#o.isPublic });
  }

  /** RFC 9111 4.3.5: an answer to HEAD tells whether what is kept still holds. */
  #updateByHead(visit: Visit, key: string, reply: Reply, times: Times): void {
    const entry = this.#find(key, visit);
    if (!entry || entry === "elsewise" || reply.status !== 200) return;
    if (entry.isTold(reply.headers)) entry.freshen(reply.headers, times);
    else entry.expire();
  }
}

/** RFC 9111 5.2.1.7: 504. */
const notCached = () => fail(GATEWAY_NOT_CACHED, "nothing is kept that may be given, and only that was asked for");
