/** What services have in common to tell, each kept by somebody else: the process, caches, journals. */
import type { Metrics } from "./metrics.ts";

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
