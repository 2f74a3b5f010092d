/** Counts what passes through the door, and how long it took; told as every service's metrics, and in the contract. */
import { Histogram, percentileS } from "../../kernel/metrics/histogram.ts";
import type { Counter, Durations, Metrics as Counted } from "../../kernel/metrics/metrics.ts";

export type UpstreamFault = "connect" | "broken" | "misdirected" | "late" | "malformed";

interface Series {
  readonly upstream: string;
  readonly operation: string;
  readonly status: number;
  readonly seconds: Histogram;
  readonly all: Histogram;
}

export interface RouteCount {
  readonly service: string;
  readonly operation: string;
  readonly status: number;
  readonly count: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** What is there at the moment, asked when the metrics are. */
export interface Gauges {
  readonly openConnections: number;
  readonly runningRequests: number;
  readonly verdicts: { readonly size: number; readonly asked: number; readonly found: number };
  readonly cacheBytes: number;
  /** Since the start: connections above a limit, requests refused because of trouble. */
  readonly refusedConnections: number;
  readonly shed: number;
  readonly upstreams: readonly {
    readonly service: string;
    readonly instance: string;
    readonly open: number;
    readonly idle: number;
  }[];
}

export class Metrics {
  /** By operation, status and service; as many as contracts have, since unknown ones are counted as one. */
  readonly #series = new Map<string, Series>();
  readonly #seconds: Durations;
  readonly #faults: Counter;
  readonly #retries: Counter;
  readonly #hedges: Counter;
  readonly #cache: Counter;

  constructor(counted: Counted) {
    counted.read("counter", "holdfast_gateway_requests", "Requests by upstream, operation and status.", () =>
      [...this.#series.values()].map(({ upstream, operation, status, seconds }) => [
        { upstream, operation, status: String(status) },
        seconds.count,
      ]),
    );
    this.#seconds = counted.durations(
      "holdfast_gateway_request_seconds",
      "From a request's head to the end of its answer, by upstream and operation.",
      ["upstream", "operation"],
    );
    this.#faults = counted.counter(
      "holdfast_gateway_upstream_faults",
      "Tries at instances that failed, by upstream and fault.",
      ["upstream", "fault"],
    );
    this.#retries = counted.counter("holdfast_gateway_retries", "Requests that were sent once more, by upstream.", [
      "upstream",
    ]);
    this.#hedges = counted.counter(
      "holdfast_gateway_hedges",
      "Second instances asked beside a slow first, by upstream.",
      ["upstream"],
    );
    this.#cache = counted.counter("holdfast_gateway_cache", "Requests at a cache, by route and outcome.", [
      "route",
      "outcome",
    ]);
  }

  /** Counts a finished request; the id of one that is traced becomes an exemplar. */
  finished(upstream: string, operation: string, status: number, us: number, requestId?: string, atMs = 0): void {
    const key = `${status} ${operation} ${upstream}`;
    let series = this.#series.get(key);
    if (!series) this.#series.set(key, (series = this.#newSeries(upstream, operation, status)));
    series.seconds.add(us / 1e6);
    series.all.add(us / 1e6, requestId, atMs);
  }

  /** Counts a try at an instance that failed. */
  failed(upstream: string, fault: UpstreamFault): void {
    this.#faults.add(1, upstream, fault);
  }

  retried(upstream: string): void {
    this.#retries.add(1, upstream);
  }

  /** Counts a request for which a second instance was asked. */
  hedged(upstream: string): void {
    this.#hedges.add(1, upstream);
  }

  /** Counts what became of a request at a cache. */
  cached(route: string, outcome: string): void {
    this.#cache.add(1, route, outcome);
  }

  /** Lists what was counted by service, operation and status. */
  routes(): RouteCount[] {
    return [...this.#series.values()].map(({ upstream: service, operation, status, seconds }) => ({
      service,
      operation,
      status,
      count: seconds.count,
      p50Us: Math.round(percentileS([seconds], 0.5) * 1e6),
      p99Us: Math.round(percentileS([seconds], 0.99) * 1e6),
    }));
  }

  #newSeries(upstream: string, operation: string, status: number): Series {
    return { upstream, operation, status, seconds: new Histogram(), all: this.#seconds.of(upstream, operation) };
  }
}

/** Declares what the gateway has at the moment. */
export function watchGauges(counted: Counted, gauges: () => Gauges): void {
  const tell = (type: "counter" | "gauge", name: string, help: string, value: (now: Gauges) => number) =>
    counted.read(type, `holdfast_gateway_${name}`, help, () => value(gauges()));
  counted.read(
    "gauge",
    "holdfast_gateway_upstream_connections",
    "Connections to instances, by upstream, upstream_instance and state.",
    () =>
      gauges().upstreams.flatMap(({ service: upstream, instance, open, idle }) => {
        const labels = { upstream, upstream_instance: instance };
        return [
          [{ ...labels, state: "busy" }, open - idle],
          [{ ...labels, state: "idle" }, idle],
        ] as const;
      }),
  );
  tell("gauge", "connections", "Open connections of clients.", (now) => now.openConnections);
  tell("counter", "connections_refused", "Connections of clients above a limit.", (now) => now.refusedConnections);
  tell("counter", "shed", "Requests refused in trouble: by priority, or because too many came.", (now) => now.shed);
  tell("gauge", "cache_bytes", "Bytes of kept answers.", (now) => now.cacheBytes);
  tell("gauge", "requests_running", "Requests under way.", (now) => now.runningRequests);
  tell("gauge", "tokens_cached", "Tokens whose verdict is kept.", (now) => now.verdicts.size);
  tell("counter", "tokens_found", "Requests whose token's verdict was kept.", (now) => now.verdicts.found);
  tell(
    "counter",
    "tokens_missed",
    "Requests whose token had to be verified.",
    ({ verdicts }) => verdicts.asked - verdicts.found,
  );
}
