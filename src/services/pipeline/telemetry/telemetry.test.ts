import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { decodeOtlp, recordsIn, spansIn, startCollector } from "../../../../test/houses/collector.ts";
import { newRequestId, newSpanId } from "../../../kernel/call.ts";
import { systemClock } from "../../../kernel/clock.ts";
import { Metrics } from "../../../kernel/metrics/metrics.ts";
import { makeLog } from "../../../kernel/log.ts";
import type { StoredSpan, Trace } from "../../trace/api.ts";
import { defaultsOf, LIVE, never, senderOf } from "../destinations/fixture.ts";
import { OtlpDestination } from "../destinations/config.ts";
import type { NewBatch } from "../outbox/record.ts";
import { LEVELS, LineBook, type LogLine } from "./lines.ts";
import { logsOf, metricsOf, tracesOf } from "./otlp.ts";
import { toProtobuf } from "./protobuf.ts";
import { Tail } from "./tail.ts";
import { Telemetry } from "./telemetry.ts";

const teller = { node: "edge1", version: "1.2.3" };
const span = (more: Partial<StoredSpan> = {}): StoredSpan => ({
  requestId: newRequestId(),
  spanId: newSpanId(),
  service: "core-data",
  operation: "readings",
  startNs: 1_700_000_000_123_456_789n,
  durationUs: 250,
  status: 0,
  ...more,
});
const line = (more: Partial<LogLine> = {}): LogLine => ({
  service: "core-data",
  level: LEVELS.info,
  timeMs: 1_700_000_000_123,
  message: "readings",
  more: { operation: "readings" },
  ...more,
});
const told = () => {
  const metrics = new Metrics();
  metrics.counter("done", "Done.", ["of"]).add(3, "é");
  metrics.gauge("level_bytes", "Level.").set(-1.5);
  metrics.durations("wait_seconds", "Waited.").of().add(0.3, newRequestId(), 1_700_000_000_000);
  return [{ service: "core-data", instance: "core-data-1", ageS: 2, families: metrics.families() as never }];
};

/** Bytes are hex in OTLP/JSON (OTLP 1.x, "JSON Protobuf Encoding"), and base64 in protobuf's own. */
function hexed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(hexed);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value as Record<string, unknown>).map(([key, of]) => [
    key,
    /(trace|span)Id$/i.test(key) ? Buffer.from(of as string, "base64").toString("hex") : hexed(of),
  ]);
  return Object.fromEntries(fields);
}

/** Counts as they stand in a list, zeros among them. */
const withoutBuckets = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (key, of: unknown) => (key === "bucketCounts" ? undefined : of)));

/** Protobuf's own JSON leaves out what is zero or empty. */
const withoutZeros = (value: object): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, of: unknown) => (of === "0" || (Array.isArray(of) && of.length === 0) ? undefined : of)),
  );

test("spans in protobuf are, to who decodes them by the official shapes, what OTLP/JSON says", () => {
  const failed = span({
    status: 503,
    note: "UNAVAILABLE",
    parentId: newSpanId(),
    device: "pump-1",
    bytes: 2 ** 40,
    ranges: [{ publisher: "device-host", epoch: 1, from: 2, to: 3 }],
  });
  const request = tracesOf(teller, [span(), failed, span({ service: "bus" })]);
  assert.deepEqual(hexed(decodeOtlp("/v1/traces", toProtobuf("traces", request))), withoutZeros(request));
});

test("metrics in protobuf are what OTLP/JSON says, histograms and exemplars too", () => {
  const request = metricsOf(teller, told(), 1_700_000_002_000_000_000n);
  const decoded = hexed(decodeOtlp("/v1/metrics", toProtobuf("metrics", request)));
  assert.deepEqual(withoutBuckets(decoded), withoutBuckets(withoutZeros(withoutBuckets(request) as object)));
  const buckets = (of: unknown) => /"bucketCounts":(\[[^\]]*\])/.exec(JSON.stringify(of))?.[1];
  assert.ok(buckets(request)?.includes('"1"'));
  assert.equal(buckets(decoded), buckets(request));
});

test("log lines in protobuf are what OTLP/JSON says: severity, words, what else they tell, the error, trace and span", () => {
  const { requestId, spanId } = span();
  const err = { type: "TypeError", message: "x is no y", stack: "TypeError: x is no y\n    at z", code: 7 };
  const more = { status: 503, ms: 0.25, done: true, names: ["a", "b"], err };
  const lines = [
    { line: line({ requestId: requestId!, level: LEVELS.error, more }), spanId },
    { line: line({ service: "bus", level: LEVELS.debug, more: { err: "é" } }) },
  ];
  const request = logsOf(teller, lines, 1_700_000_002_000_000_000n);
  assert.deepEqual(hexed(decodeOtlp("/v1/logs", toProtobuf("logs", request))), request);
  const [first] = recordsIn(request) as unknown as { attributes: { key: string; value: object }[] }[];
  assert.partialDeepStrictEqual(first, { traceId: requestId!.replaceAll("-", ""), spanId, severityNumber: 17 });
  assert.deepEqual(Object.fromEntries(first.attributes.map(({ key, value }) => [key, Object.values(value)[0]])), {
    status: "503",
    ms: 0.25,
    done: true,
    names: '["a","b"]',
    "exception.type": "TypeError",
    "exception.message": "x is no y",
    "exception.stacktrace": err.stack,
  });
});

test("of the traces all with an error and all slow ones are told, whole, and of the rest the share that is wanted", () => {
  let nowMs = 0;
  const tail = new Tail({ share: 0.1, slowMs: 100, waitMs: 1_000, lineLevel: 40, monotonicMs: () => nowMs });
  const plain = Array.from({ length: 5_000 }, () => span());
  const [failed, slow] = [span({ status: 500 }), span({ durationUs: 100_000 })];
  const parts = [failed, slow].map(({ requestId }) => span({ requestId: requestId! }));
  [...plain, ...parts, failed, slow].forEach((one, i) => tail.add(one, i));
  assert.deepEqual(tail.take().spans, [], "none is over yet");
  assert.equal(tail.through(6_000), 0);
  nowMs = 1_000;
  const ids = new Set(tail.take().spans.map(({ spanId }) => spanId));
  for (const one of [failed, slow, ...parts]) assert.ok(ids.has(one.spanId));
  const share = plain.filter(({ spanId }) => ids.has(spanId)).length / plain.length;
  assert.ok(Math.abs(share - 0.1) < 0.02, String(share));
  assert.equal(tail.through(6_000), 6_000);
  const late = span({ requestId: failed.requestId! });
  tail.add(late, 6_000);
  nowMs = 2_000;
  assert.deepEqual(tail.take().spans, [late], "what comes late of a trace that was told");
});

test("log lines are told with their trace and its span; warnings and errors always, and an error makes its trace told", () => {
  let nowMs = 0;
  const tail = new Tail({ share: 0, slowMs: 100, waitMs: 1_000, lineLevel: LEVELS.warn, monotonicMs: () => nowMs });
  const [failed, quiet, lone] = [span({ status: 500 }), span(), span()];
  const said = (of: StoredSpan, level: number) => line({ requestId: of.requestId!, level });
  const lines = [
    said(failed, LEVELS.info),
    said(quiet, LEVELS.info),
    said(quiet, LEVELS.warn),
    line({ level: LEVELS.warn }),
    line(),
    said(lone, LEVELS.error),
    said(lone, LEVELS.info),
  ];
  // Whichever of the feeds is the faster.
  for (const [i, one] of lines.entries()) tail.addLine(one, i + 1);
  for (const [i, one] of [failed, quiet, lone].entries()) tail.add(one, i);
  assert.deepEqual([tail.through(7, "lines"), tail.through(3, "spans")], [0, 0]);
  nowMs = 1_000;
  const decided = tail.take();
  assert.deepEqual(decided.spans, [failed, lone]);
  assert.deepEqual(
    decided.lines.map((one) => [lines.indexOf(one.line), one.spanId]),
    [
      [0, failed.spanId],
      [2, undefined],
      [3, undefined],
      [5, lone.spanId],
      [6, lone.spanId],
    ],
  );
  assert.deepEqual([tail.through(7, "lines"), tail.through(3, "spans")], [7, 3]);
});

test("the log book is read over the pipeline's own line; what is no UUID is no trace, and who has no answer goes on", async () => {
  const handlers = new Map<string, (message: Readonly<Record<string, unknown>>) => void>();
  const texts = [
    { level: 40, time: "2026-01-02T03:04:05.678Z", service: "bus", requestId: "no id", msg: "full", left: 3 },
    { level: 30, requestId: "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", operation: "keep" },
  ].map((one) => JSON.stringify(one));
  texts.push('{"level":50,"msg":"a line that was cut in the mid');
  const book = new LineBook({
    on: (kind, handle) => void handlers.set(kind, handle),
    send(kind, { ask, after }) {
      if (after !== 7) return;
      const lines = texts.map((text, i) => ({ position: 8 + i, service: "bus", text }));
      setImmediate(() => handlers.get(kind)!({ ask, lines, next: 10, missed: 1 }));
    },
  });
  const page = (await book.read(7))!;
  assert.deepEqual([page.next, page.missed, page.lines.map(({ position }) => position)], [10, 1, [8, 9, 10]]);
  const [full, keep, cut] = page.lines.map(({ line: one }) => one);
  const timeMs = Date.parse("2026-01-02T03:04:05.678Z");
  assert.deepEqual(full, { service: "bus", level: 40, timeMs, message: "full", more: { left: 3 } });
  assert.deepEqual([keep.message, keep.requestId], ["keep", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"]);
  assert.deepEqual([cut.message, cut.level], [texts[2], LEVELS.info]);
  assert.equal(await book.read(9), undefined);
});

test("telemetry that the outbox does not take stands still, and none is lost or told twice", async () => {
  const spans = Array.from({ length: 2_500 }, () => span({ status: 500 }));
  const added: NewBatch[] = [];
  let isFull = true;
  const ended = new AbortController();
  const trace = {
    newest: async ({ after, limit }: { after: number; limit: number }) => {
      const from = Math.min(after, spans.length);
      const page = spans.slice(from, from + limit);
      return { spans: page, next: from + page.length, missed: 0 };
    },
    metrics: async () => ({ instances: told() }),
  } as unknown as Trace;
  const lines = spans.slice(0, 1_500).map(({ requestId }) => line({ requestId: requestId! }));
  const book = {
    read: async (after: number) => {
      const from = Math.min(after, lines.length);
      const page = lines.slice(from, from + 1_000).map((one, i) => ({ line: one, position: from + i + 1 }));
      return { lines: page, next: from + page.length, missed: 0 };
    },
  };
  const outbox = {
    followed: () => ({ through: 0 }),
    add: async (_: unknown, batches: readonly NewBatch[]) => {
      if (isFull) throw new Error("full");
      added.push(...batches);
      if (added.length === 6) ended.abort();
    },
  };
  const config = defaultsOf(OtlpDestination, { kind: "otlp", url: "http://127.0.0.1:1", decideAfterMs: 0 });
  const shared = {
    ...teller,
    trace,
    book,
    outbox,
    config,
    clock: systemClock,
    log: makeLog("pipeline", { to: { write: () => undefined } }),
  };
  const first = new Telemetry({ ...shared, destination: "far", metrics: new Metrics(), signal: ended.signal });
  const running = first.run();
  setTimeout(() => (isFull = false), 1_500);
  await once(ended.signal, "abort");
  await running;
  assert.deepEqual(
    added.map(({ through }) => through),
    [undefined, undefined, 2_500, undefined, 1_500, undefined],
  );
  const collector = await startCollector();
  const sender = await senderOf({ ...config, url: `http://127.0.0.1:${collector.port}/otlp` }, "far");
  try {
    const batches = added.map(({ blocks, queuedNs }, i) => ({ sequence: i + 1, queuedNs, blocks }));
    assert.deepEqual(await sender.send(LIVE, batches, never), { durable: 6, refused: [] });
    assert.deepEqual(
      collector.taken.map(({ path }) => path),
      ["traces", "traces", "traces", "logs", "logs", "metrics"].map((signal) => `/otlp/v1/${signal}`),
    );
    const ids = collector.taken.flatMap(({ request }) => spansIn(request).map(({ spanId }) => spanId));
    assert.deepEqual([ids.length, new Set(ids).size], [2_500, 2_500]);
    const records = collector.taken.flatMap(({ request }) => recordsIn(request));
    assert.deepEqual([records.length, new Set(records.map(({ spanId }) => spanId)).size], [1_500, 1_500]);
  } finally {
    await sender.close();
    collector.close();
  }
});

test("a receiver that has no time is waited for as it says; one that can never take a batch is not asked again", async (t) => {
  const collector = await startCollector();
  t.after(() => collector.close());
  const config = { kind: "otlp", url: `http://127.0.0.1:${collector.port}`, encoding: "json", compression: "none" };
  const sender = await senderOf(config, "far");
  t.after(() => sender.close());
  const { zstdCompressSync } = await import("node:zlib");
  const blocks = zstdCompressSync(JSON.stringify({ signal: "traces", request: tracesOf(teller, [span()]) }));
  const batch = [{ sequence: 1, queuedNs: 1n, blocks }];
  for (const status of [429, 502, 503, 504]) {
    collector.refuse = (response) => Boolean(response.writeHead(status, { "retry-after": "7" }).end());
    await assert.rejects(sender.send(LIVE, batch, never), { code: "UNAVAILABLE", retryAfterS: 7 }, String(status));
  }
  for (const status of [400, 413, 500, 501]) {
    collector.refuse = (response) => Boolean(response.writeHead(status).end("no"));
    const { durable, refused } = await sender.send(LIVE, batch, never);
    assert.deepEqual([durable, refused.length], [1, 1], String(status));
  }
  collector.refuse = () => false;
  assert.deepEqual(await sender.send(LIVE, batch, never), { durable: 1, refused: [] });
  assert.equal(collector.taken[0].headers["content-type"], "application/json");
});
