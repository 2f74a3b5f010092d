/** The rules of request forensics: how the story of a request or an event is gathered from spans. */
import type { Clock } from "../../kernel/clock.ts";
import { fail, INPUT_INVALID } from "../../kernel/error.ts";
import { readRequestId, asUuid } from "../../kernel/call.ts";
import { eventId, parseId, publisherTag } from "../../kernel/events/ids.ts";
import { type StoredSpan, type Trace, TRACE_UNKNOWN } from "./api.ts";
import type { EventPlace, SpanStore } from "./store.ts";

interface Needs {
  readonly store: SpanStore;
  readonly clock: Clock;
  readonly node: string;
  readonly keepHours: number;
  readonly sizeBytesMax: number;
}

/** Events that one request's story follows on: a command that pushed many is told by its first. */
const EVENTS_FOLLOWED_MAX = 16;
const NS_PER_HOUR = 3_600_000_000_000n;

/** Makes the trace service. */
export function makeTrace({ store, clock, node, keepHours, sizeBytesMax }: Needs): Trace {
  const tags = new Map<number, string>();
  const publisherOf = (tag: number): string | undefined => {
    if (!tags.has(tag)) for (const name of store.publishers()) tags.set(publisherTag(node, name), name);
    return tags.get(tag);
  };
  /** The place of an event or reading by its derived id; undefined where the id is a request's own. */
  const placeOf = (id: string): EventPlace | undefined => {
    const parsed = parseId(id);
    const publisher = parsed && publisherOf(parsed.tag);
    return parsed && publisher !== undefined
      ? { publisher, epoch: parsed.epoch, sequence: parsed.sequence }
      : undefined;
  };
  return {
    async record({ body }, call) {
      // A service tells of itself only; of the cloud, the pipeline tells what the cloud answered.
      const mine = body.spans.filter(
        (s) => s.service === call.caller || (call.caller === "pipeline" && s.service === "cloud"),
      );
      store.add(mine.map((span) => ({ ...span, startNs: BigInt(span.startNs) })));
      if (store.sizeBytes > sizeBytesMax * 1.05)
        store.retain(clock.wallNs() - BigInt(keepHours) * NS_PER_HOUR, sizeBytesMax);
      return {};
    },
    async story({ id }) {
      const bare = id.trim().toLowerCase();
      const wanted = readRequestId(/^[0-9a-f]{32}$/.test(bare) ? asUuid(bare) : bare);
      if (!wanted)
        throw fail(
          INPUT_INVALID,
          `'${id.slice(0, 100)}' is not a request, event or reading id (a UUID, or 32 hex digits)`,
        );
      const place = placeOf(wanted);
      const requestId = place ? eventId(publisherTag(node, place.publisher), place.epoch, place.sequence) : wanted;
      const found = new Map<string, StoredSpan>();
      const take = (spans: StoredSpan[]) => spans.forEach((span) => found.set(span.spanId, span));
      take(store.ofRequest(requestId));
      if (place) {
        take(store.ofEvent(place));
        // An event that a command asked for: the command's own steps belong to its story.
        for (const asked of new Set([...found.values()].flatMap((s) => (s.requestId ? [s.requestId] : []))))
          take(store.ofRequest(asked));
      } else {
        for (const pushed of [...found.values()].flatMap(placesOf).slice(0, EVENTS_FOLLOWED_MAX))
          take(store.ofEvent(pushed));
      }
      if (found.size === 0) throw fail(TRACE_UNKNOWN, `nothing is known of '${wanted}'`);
      const spans = [...found.values()].sort((a, b) =>
        a.startNs < b.startNs ? -1 : a.startNs > b.startNs ? 1 : b.durationUs - a.durationUs,
      );
      return { requestId: wanted, spans };
    },
    async summary({ minutes }) {
      const now = clock.wallNs();
      const groups = new Map<string, { service: string; operation: string; errors: number; durations: number[] }>();
      for (const span of store.between(now - BigInt(minutes) * 60_000_000_000n, now)) {
        const key = `${span.service} ${span.operation}`;
        const group =
          groups.get(key) ??
          groups.set(key, { service: span.service, operation: span.operation, errors: 0, durations: [] }).get(key)!;
        group.durations.push(span.durationUs);
        if (span.status >= 400) group.errors++;
      }
      const rows = [...groups.values()].map(({ service, operation, errors, durations }) => {
        durations.sort((a, b) => a - b);
        const at = (q: number) => durations[Math.min(durations.length - 1, Math.floor(q * durations.length))];
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
      return { rows: rows.sort((a, b) => b.count - a.count) };
    },
  };
}

const placesOf = (span: StoredSpan): EventPlace[] =>
  (span.ranges ?? []).map((r) => ({ publisher: r.publisher, epoch: r.epoch, sequence: r.from }));
