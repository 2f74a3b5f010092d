/** What every service tells of itself: its calls, its process, its event loop, its caches and journals. */
import type { Clock } from "../clock.ts";
import { asFailure, type Failure } from "../error.ts";
import type { Histogram } from "./histogram.ts";
import type { Metrics } from "./metrics.ts";

/** Counts the calls of one service's operations. */
export class Calls {
  readonly #clock: Clock;
  readonly #finished: ReturnType<Metrics["counter"]>;
  readonly #seconds: ReturnType<Metrics["durations"]>;
  readonly #byOperation = new Map<string, Histogram>();
  running = 0;

  constructor(metrics: Metrics, clock: Clock) {
    this.#clock = clock;
    this.#finished = metrics.counter("holdfast_calls", "Finished calls, by operation, status and error code.", [
      "operation",
      "status",
      "code",
    ]);
    this.#seconds = metrics.durations("holdfast_call_seconds", "How long calls took, streams left out, by operation.", [
      "operation",
    ]);
    metrics.read("gauge", "holdfast_calls_running", "Calls under way, streams included.", () => this.running);
  }

  /** Counts a finished call; `seconds` undefined for a stream, whose length says nothing. */
  finished(operation: string, status: number, code: string, seconds: number | undefined, requestId?: string): void {
    this.#finished.add(1, operation, STATUSES[status] ?? String(status), code);
    if (seconds === undefined) return;
    let histogram = this.#byOperation.get(operation);
    if (!histogram) this.#byOperation.set(operation, (histogram = this.#seconds.of(operation)));
    histogram.add(seconds, requestId, requestId === undefined ? 0 : this.#clock.wallMs());
  }

  /** Runs a call and counts it, however it ends. */
  async around<T>(operation: string, requestId: string | undefined, work: () => Promise<T>): Promise<T> {
    const startMs = this.#clock.monotonicMs();
    const done = (failure?: Failure) => {
      this.running--;
      const seconds = (this.#clock.monotonicMs() - startMs) / 1000;
      this.finished(operation, failure?.status ?? 0, failure?.code ?? "", seconds, requestId);
    };
    this.running++;
    try {
      const result = await work();
      done();
      return result;
    } catch (error) {
      done(asFailure(error));
      throw error;
    }
  }
}

/** The most frequent status needs no text made of it each time. */
const STATUSES: Readonly<Record<number, string>> = { 0: "200", 200: "200" };

/** Declares what there is to tell of this process. */
export function watchProcess(metrics: Metrics): void {
  const read = (...given: Parameters<Metrics["read"]>) => metrics.read(...given);
  read("counter", "holdfast_process_cpu_seconds", "Processor time of the process.", () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  read(
    "gauge",
    "holdfast_process_resident_memory_bytes",
    "Memory of the process, parts that are shared included.",
    () => process.memoryUsage.rss(),
  );
  read("gauge", "holdfast_process_heap_bytes", "JavaScript objects in use.", () => process.memoryUsage().heapUsed);
  read("counter", "holdfast_event_loop_busy_seconds", "Time in which the event loop worked.", () => {
    return performance.eventLoopUtilization().active / 1000;
  });
  read("gauge", "holdfast_process_uptime_seconds", "Time since the process began.", () => process.uptime());
}

/** What is told of a cache. */
interface CacheCounts {
  readonly hits: number;
  readonly misses: number;
  readonly size: number;
}

/** Declares a cache of the service, by name. */
export function watchCache(metrics: Metrics, cache: string, counts: CacheCounts): void {
  const labels = { cache };
  metrics.read("counter", "holdfast_cache_hits", "Looks into a cache that found, by cache.", () => [
    [labels, counts.hits],
  ]);
  metrics.read("counter", "holdfast_cache_misses", "Looks into a cache that had to ask, by cache.", () => [
    [labels, counts.misses],
  ]);
  metrics.read("gauge", "holdfast_cache_entries", "Entries, by cache.", () => [[labels, counts.size]]);
}

/** What is told of a journal. */
interface JournalCounts {
  readonly first: number;
  readonly last: number;
  readonly sizeBytes: number;
  readonly syncs: number;
}

/** Declares a journal of the service, by name. */
export function watchJournal(metrics: Metrics, journal: string, counts: JournalCounts): void {
  const labels = { journal };
  metrics.read("gauge", "holdfast_journal_bytes", "Bytes on the disk, by journal.", () => [[labels, counts.sizeBytes]]);
  metrics.read("gauge", "holdfast_journal_records", "Records that are held, by journal.", () => [
    [labels, counts.last - counts.first + 1],
  ]);
  metrics.read("counter", "holdfast_journal_appended", "Records since it was made, by journal.", () => [
    [labels, Math.max(0, counts.last)],
  ]);
  metrics.read("counter", "holdfast_journal_syncs", "Times that records were forced to the disk, by journal.", () => [
    [labels, counts.syncs],
  ]);
}
