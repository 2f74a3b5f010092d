/** The rules of request forensics: how the story of a request or an event is gathered from spans. */
import type { Clock } from "../../kernel/clock.ts";
import { fail, INPUT_INVALID } from "../../kernel/error.ts";
import { readRequestId, asUuid } from "../../kernel/call.ts";
import { eventId, parseId, publisherTag } from "../../kernel/events/ids.ts";
import type { RetentionClock } from "../../kernel/retention-clock.ts";
import { type StoredSpan, type Trace, TRACE_UNKNOWN } from "./api.ts";
import type { Audits } from "./audit/audits.ts";
import { Latest } from "./latest.ts";
import type { EventPlace, SpanStore } from "./store.ts";

interface Needs {
  readonly store: SpanStore;
  readonly audits: Audits;
  readonly clock: Clock;
  /** By it spans are too old, whatever the wall clock says. */
  readonly retentionClock: RetentionClock;
  readonly node: string;
  readonly keepHours: number;
  readonly sizeBytesMax: number;
}

/** Events that one request's story follows on: a command that pushed many is told by its first. */
const EVENTS_FOLLOWED_MAX = 16;
const SECONDS_PER_HOUR = 3_600;
/** What is too old is looked for so often. */
const RETAIN_EVERY_MS = 600_000;

/** Makes the trace service. */
export function makeTrace({ store, audits, clock, retentionClock, node, keepHours, sizeBytesMax }: Needs): Trace {
  const publisherOf = publishersByTag(store, node);
  const latest = new Latest(clock);
  let retainedMs = Number.NEGATIVE_INFINITY;
  const retain = (seconds: number) => {
    const nowMs = clock.monotonicMs();
    if (nowMs - retainedMs < RETAIN_EVERY_MS && store.sizeBytes <= sizeBytesMax * 1.05) return;
    retainedMs = nowMs;
    store.retain(seconds - keepHours * SECONDS_PER_HOUR, sizeBytesMax);
  };
  return {
    ...audits,
    async record({ body }, call) {
      // A service tells of itself only; of the cloud, the pipeline tells what the cloud answered.
      const spans = body.spans.filter(
        ({ service }) => service === call.caller || (call.caller === "pipeline" && service === "cloud"),
      );
      const seconds = Math.floor(retentionClock.nowMs() / 1000);
      store.add(spans, seconds);
      retain(seconds);
      return {};
    },
    async story({ id }) {
      const bare = id.trim().toLowerCase();
      const wanted = readRequestId(/^[0-9a-f]{32}$/.test(bare) ? asUuid(bare) : bare);
      if (!wanted) {
        const what = `'${id.slice(0, 100)}' is not a request, event or reading id (a UUID, or 32 hex digits)`;
        throw fail(INPUT_INVALID, what);
      }
      return { requestId: wanted, spans: storyOf(store, node, placeOf(wanted, publisherOf), wanted) };
    },
    async report({ body: { instance, families, ends } }, { caller }) {
      if (ends) latest.forget(caller, instance);
      else latest.take(caller, instance, families);
      return {};
    },
    metrics: async () => ({ instances: latest.all() }),
    summary: async ({ minutes }) => ({ rows: summaryOf(store, clock.wallNs(), minutes) }),
  };
}

/** Finds the publisher that ids with a tag are of. */
function publishersByTag(store: SpanStore, node: string): (tag: number) => string | undefined {
  const tags = new Map<number, string>();
  return (tag) => {
    if (!tags.has(tag)) for (const name of store.publishers()) tags.set(publisherTag(node, name), name);
    return tags.get(tag);
  };
}

/** The place of an event or reading by its derived id; undefined where the id is a request's own. */
function placeOf(id: string, publisherOf: (tag: number) => string | undefined): EventPlace | undefined {
  const parsed = parseId(id);
  const publisher = parsed && publisherOf(parsed.tag);
  return parsed && publisher !== undefined ? { publisher, epoch: parsed.epoch, sequence: parsed.sequence } : undefined;
}

/** Gathers the spans of a request, or of an event at its place, in order of time. TRACE_UNKNOWN where there are none. */
function storyOf(store: SpanStore, node: string, place: EventPlace | undefined, wanted: string): StoredSpan[] {
  const requestId = place ? eventId(publisherTag(node, place.publisher), place.epoch, place.sequence) : wanted;
  const found = new Map<string, StoredSpan>();
  const take = (spans: StoredSpan[]) => spans.forEach((span) => found.set(span.spanId, span));
  take(store.ofRequest(requestId));
  if (place) {
    take(store.ofEvent(place));
    // An event that a command asked for: the command's own steps belong to its story.
    const asking = new Set([...found.values()].flatMap((s) => (s.requestId ? [s.requestId] : [])));
    for (const asked of asking) take(store.ofRequest(asked));
  } else {
    for (const pushed of [...found.values()].flatMap(placesOf).slice(0, EVENTS_FOLLOWED_MAX))
      take(store.ofEvent(pushed));
  }
  if (found.size === 0) throw fail(TRACE_UNKNOWN, `nothing is known of '${wanted}'`);
  return [...found.values()].sort((a, b) =>
    a.startNs < b.startNs ? -1 : a.startNs > b.startNs ? 1 : b.durationUs - a.durationUs,
  );
}

type Summary = Awaited<ReturnType<Trace["summary"]>>["rows"];

/** Counts, errors and percentiles per service and operation over the last minutes, the busiest first. */
function summaryOf(store: SpanStore, nowNs: bigint, minutes: number): Summary {
  const groups = new Map<string, { service: string; operation: string; errors: number; durations: number[] }>();
  for (const { service, operation, durationUs, status } of store.between(
    nowNs - BigInt(minutes) * 60_000_000_000n,
    nowNs,
  )) {
    const key = `${service} ${operation}`;
    const group = groups.get(key) ?? { service, operation, errors: 0, durations: [] };
    groups.set(key, group);
    group.durations.push(durationUs);
    if (status >= 400) group.errors++;
  }
  const rows = [...groups.values()].map(({ service, operation, errors, durations }) => {
    durations.sort((a, b) => a - b);
    // Nearest rank: the least that at least so many of them do not exceed.
    const at = (q: number) => durations[Math.max(0, Math.ceil(q * durations.length) - 1)];
    return {
      service,
      operation,
      count: durations.length,
      errors,
      p50Us: at(0.5),
      p90Us: at(0.9),
      p99Us: at(0.99),
      maxUs: at(1),
    };
  });
  return rows.sort((a, b) => b.count - a.count);
}

const placesOf = (span: StoredSpan): EventPlace[] =>
  (span.ranges ?? []).map((r) => ({ publisher: r.publisher, epoch: r.epoch, sequence: r.from }));
