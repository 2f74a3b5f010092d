/** The rules of request forensics: whose spans are kept, for how long, and what is told of them. */
import { setImmediate as turn } from "node:timers/promises";
import { type Call, leftMs, readRequestId } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { RetentionClock } from "../../kernel/retention-clock.ts";
import { type StoredSpan, type Trace } from "./api.ts";
import type { Audits } from "./audit/audits.ts";
import { Latest } from "./latest.ts";
import type { SpanStore } from "./store.ts";
import { passes, type SpanFilter } from "./spans/words.ts";
import { Stories } from "./story.ts";
import { Totals } from "./latency/totals.ts";

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

const SECONDS_PER_HOUR = 3_600;
/** What is too old is looked for so often. */
const RETAIN_EVERY_MS = 600_000;
/** A search ends so long before its deadline: what it found until then is worth the answer. */
const ANSWER_MS = 1_000;
const MS_PER_MINUTE = 60_000;
const QUANTILES = [0.5, 0.9, 0.99, 0.999];
const SPAN_ID = /^[0-9a-f]{16}$/;

/** Makes the trace service. */
export function makeTrace({ store, audits, clock, retentionClock, node, keepHours, sizeBytesMax }: Needs): Trace {
  const latest = new Latest(clock);
  const stories = new Stories(store, node);
  const totals = new Totals();
  // A node whose first start it is has not been counting for longer.
  const firstMs = store.count === 0 ? clock.monotonicMs() : Number.NEGATIVE_INFINITY;
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
      const spans = body.spans
        .filter(({ service }) => service === call.caller || (call.caller === "pipeline" && service === "cloud"))
        .flatMap(withSoundIds);
      const seconds = Math.floor(retentionClock.nowMs() / 1000);
      store.add(spans, seconds);
      totals.add(spans);
      retain(seconds);
      return {};
    },
    story: async ({ id }) => stories.of(id),
    spans: ({ order, limit, ...filter }, call) => search(store, filter, order, limit, call),
    async newest({ after, limit, ...filter }) {
      const { spans, next, missed } = store.newest(after, limit);
      return { spans: spans.filter((span) => passes(span, filter)), next, missed };
    },
    async summary({ minutes }) {
      const nowMs = clock.wallMs();
      const toMinute = Math.floor(nowMs / MS_PER_MINUTE) + 1;
      const fromMinute = toMinute - 1 - minutes;
      const actions = [...store.summary(fromMinute, toMinute).actions];
      const rows = actions.map(({ service, operation, errors, took }) => {
        const [p50Us, p90Us, p99Us, p999Us] = took.quantiles(QUANTILES);
        const total = totals.of(service, operation);
        return { service, operation, count: took.count, errors, p50Us, p90Us, p99Us, p999Us, maxUs: took.max, total };
      });
      const wantedS = nowMs / 1000 - fromMinute * 60;
      const seconds = Math.max(1, Math.round(Math.min(wantedS, (clock.monotonicMs() - firstMs) / 1000)));
      return { seconds, rows: rows.sort((a, b) => b.count - a.count) };
    },
    async report({ body: { instance, families, ends } }, { caller }) {
      if (ends) latest.forget(caller, instance);
      else latest.take(caller, instance, families);
      return {};
    },
    metrics: async () => ({ instances: latest.all() }),
  };
}

/** A span without an id of its own is none; a request id that is no UUID is a stranger's. */
function withSoundIds(span: StoredSpan): StoredSpan[] {
  const { requestId, spanId, parentId } = span;
  if (!SPAN_ID.test(spanId)) return [];
  const soundParent = parentId === undefined || SPAN_ID.test(parentId);
  const soundRequest = requestId === undefined || readRequestId(requestId) === requestId;
  if (soundParent && soundRequest) return [span];
  const { requestId: _request, parentId: _parent, ...rest } = span;
  return [{ ...rest, ...(soundRequest ? (requestId === undefined ? {} : { requestId }) : { link: requestId }) }];
}

type Found = Awaited<ReturnType<Trace["spans"]>>;

/** Looks through the store, block by block, others' questions in between, until all is seen, enough found or time up. */
async function search(
  store: SpanStore,
  filter: SpanFilter,
  order: "newest" | "longest",
  limit: number,
  call: Call,
): Promise<Found> {
  const first =
    order === "longest"
      ? (a: StoredSpan, b: StoredSpan) => b.durationUs - a.durationUs
      : (a: StoredSpan, b: StoredSpan) => (a.startNs < b.startNs ? 1 : a.startNs > b.startNs ? -1 : 0);
  let spans: StoredSpan[] = [];
  // The blocks go back in time nearly in order: one more after there are enough tells the last ones.
  let enough = false;
  for (const part of store.search(filter)) {
    spans = [...spans, ...part].sort(first).slice(0, limit);
    if (enough) break;
    enough = order === "newest" && spans.length === limit;
    if (leftMs(call) < ANSWER_MS || call.signal.aborted) return { spans, complete: false };
    await turn();
  }
  return { spans, complete: true };
}
