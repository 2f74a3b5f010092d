/** Counts what passes through the door, and how long it took; told in Prometheus' text format and in the contract. */

/** Eight steps to a doubling: a percentile is told within 9%. Up to 2^27 us, more than two minutes. */
const STEPS = 8;
const BUCKETS = 27 * STEPS + 1;
/** Prometheus' bounds, as powers of two of microseconds: 256 us to 16.8 s. */
const BOUNDS = [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24];

export type UpstreamFault = "connect" | "broken" | "misdirected" | "late" | "malformed";

interface Series {
  readonly service: string;
  readonly operation: string;
  readonly status: number;
  readonly counts: Uint32Array;
  count: number;
  sumUs: number;
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
  readonly verdicts: number;
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
  readonly #faults = new Map<string, number>();
  readonly #retries = new Map<string, number>();
  readonly #hedges = new Map<string, number>();
  readonly #cache = new Map<string, number>();

  /** Counts a finished request. */
  finished(service: string, operation: string, status: number, us: number): void {
    const key = `${status} ${operation} ${service}`;
    let series = this.#series.get(key);
    if (!series)
      this.#series.set(
        key,
        (series = { service, operation, status, counts: new Uint32Array(BUCKETS), count: 0, sumUs: 0 }),
      );
    series.count++;
    series.sumUs += us;
    series.counts[bucketOf(us)]++;
  }

  /** Counts a try at an instance that failed. */
  failed(service: string, fault: UpstreamFault): void {
    countAt(this.#faults, `service="${service}",fault="${fault}"`);
  }

  retried(service: string): void {
    countAt(this.#retries, `service="${service}"`);
  }

  /** Counts a request for which a second instance was asked. */
  hedged(service: string): void {
    countAt(this.#hedges, `service="${service}"`);
  }

  /** Counts what became of a request at a cache. */
  cached(route: string, outcome: string): void {
    countAt(this.#cache, `route="${route}",outcome="${outcome}"`);
  }

  /** Lists what was counted by service, operation and status. */
  routes(): RouteCount[] {
    return [...this.#series.values()].map(({ service, operation, status, count, counts }) => ({
      service,
      operation,
      status,
      count,
      p50Us: percentile(counts, count, 0.5),
      p99Us: percentile(counts, count, 0.99),
    }));
  }

  /** Writes Prometheus' text format 0.0.4. */
  text(gauges: Gauges): string {
    const lines: string[] = [];
    const family = (
      name: string,
      type: string,
      help: string,
      rows: Iterable<readonly [labels: string, value: number]>,
    ) => {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      for (const [labels, value] of rows)
        lines.push(labels === "" ? `${name} ${value}` : `${name}{${labels}} ${value}`);
    };
    const all = [...this.#series.values()];
    const status = (s: Series): [string, number] => [
      `service="${s.service}",operation="${s.operation}",status="${s.status}"`,
      s.count,
    ];
    family("holdfast_gateway_requests_total", "counter", "Requests by service, operation and status.", all.map(status));
    lines.push(
      "# HELP holdfast_gateway_request_seconds From the request's head to the end of its answer.",
      "# TYPE holdfast_gateway_request_seconds histogram",
    );
    for (const rows of byOperation(all).values()) lines.push(...histogram(rows));
    family(
      "holdfast_gateway_upstream_faults_total",
      "counter",
      "Tries at instances that failed, by service.",
      this.#faults,
    );
    family("holdfast_gateway_retries_total", "counter", "Requests that were sent once more.", this.#retries);
    family("holdfast_gateway_hedges_total", "counter", "Second instances asked beside a slow first.", this.#hedges);
    family("holdfast_gateway_cache_total", "counter", "Requests at a cache, by what became of them.", this.#cache);
    family(
      "holdfast_gateway_upstream_connections",
      "gauge",
      "Connections to instances.",
      gauges.upstreams.flatMap(upstreamRows),
    );
    family("holdfast_gateway_connections", "gauge", "Open connections of clients.", [["", gauges.openConnections]]);
    family("holdfast_gateway_connections_refused_total", "counter", "Connections of clients above a limit.", [
      ["", gauges.refusedConnections],
    ]);
    family("holdfast_gateway_shed_total", "counter", "Requests refused by priority, in trouble.", [["", gauges.shed]]);
    family("holdfast_gateway_cache_bytes", "gauge", "Bytes of kept answers.", [["", gauges.cacheBytes]]);
    family("holdfast_gateway_requests_running", "gauge", "Requests under way.", [["", gauges.runningRequests]]);
    family("holdfast_gateway_tokens_cached", "gauge", "Tokens whose verdict is kept.", [["", gauges.verdicts]]);
    return `${lines.join("\n")}\n`;
  }
}

function countAt(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function upstreamRows({ service, instance, open, idle }: Gauges["upstreams"][number]): [string, number][] {
  const labels = `service="${service}",instance="${instance}"`;
  return [
    [`${labels},state="busy"`, open - idle],
    [`${labels},state="idle"`, idle],
  ];
}

function byOperation(all: readonly Series[]): Map<string, Series[]> {
  const groups = new Map<string, Series[]>();
  for (const series of all) {
    const key = `service="${series.service}",operation="${series.operation}"`;
    const group = groups.get(key);
    if (group) group.push(series);
    else groups.set(key, [series]);
  }
  return groups;
}

function histogram(rows: readonly Series[]): string[] {
  const labels = `service="${rows[0].service}",operation="${rows[0].operation}"`;
  const name = "holdfast_gateway_request_seconds";
  const total = rows.reduce((sum, row) => sum + row.count, 0);
  const upTo = (bound: number) => rows.reduce((sum, { counts }) => sum + sumOf(counts.subarray(0, bound * STEPS)), 0);
  return [
    ...BOUNDS.map((bound) => `${name}_bucket{${labels},le="${2 ** bound / 1e6}"} ${upTo(bound)}`),
    `${name}_bucket{${labels},le="+Inf"} ${total}`,
    `${name}_sum{${labels}} ${rows.reduce((sum, row) => sum + row.sumUs, 0) / 1e6}`,
    `${name}_count{${labels}} ${total}`,
  ];
}

const sumOf = (counts: Uint32Array): number => counts.reduce((sum, count) => sum + count, 0);

/** Bucket i holds durations from 2^(i/8) us up to, but not including, 2^((i+1)/8) us. */
const bucketOf = (us: number): number => (us <= 1 ? 0 : Math.min(BUCKETS - 1, Math.floor(Math.log2(us) * STEPS)));

function percentile(counts: Uint32Array, count: number, share: number): number {
  let left = Math.ceil(count * share);
  for (let i = 0; i < BUCKETS; i++) {
    left -= counts[i];
    if (left <= 0) return Math.round(2 ** ((i + 0.5) / STEPS));
  }
  return 0;
}
