import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readOpenMetrics } from "../../../test/houses/openmetrics.ts";
import { systemClock } from "../clock.ts";
import { fail, UNAVAILABLE } from "../error.ts";
import { Calls } from "./calls.ts";
import { watchCache } from "./watched.ts";
import { BOUNDS_S, Histogram, percentileS } from "./histogram.ts";
import { Metrics, SERIES_MAX } from "./metrics.ts";
import { TEXT_BYTES_MAX, writeMetrics } from "./openmetrics.ts";

const told = (metrics: Metrics, service = "s", instance = "s-1") => ({
  service,
  instance,
  families: metrics.families(),
});

test("a percentile is within 4.5% of the exact one, and those of two histograms add up", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 2e-6, max: 200, noNaN: true }), { minLength: 1, maxLength: 500 }),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (values, share) => {
        const halves = [new Histogram(), new Histogram()];
        values.forEach((value, i) => halves[i % 2].add(value));
        const sorted = values.toSorted((a, b) => a - b);
        const exact = sorted[Math.max(0, Math.ceil(share * values.length) - 1)];
        assert.ok(Math.abs(percentileS(halves, share) / exact - 1) < 0.045);
      },
    ),
    { seed: 6, numRuns: 300 },
  );
});

test("a bound belongs to its bucket, what is above all is in the last, and nothing is negative", () => {
  for (const [i, bound] of BOUNDS_S.entries()) {
    const histogram = new Histogram();
    histogram.add(bound);
    histogram.add(bound * 1.01);
    const { counts } = histogram.counts();
    assert.deepEqual([counts[i], counts[i + 1]], [1, 1], `${bound}`);
  }
  const odd = new Histogram();
  for (const value of [0, -1, Number.NaN, 1e9]) odd.add(value);
  assert.deepEqual([odd.counts().counts[0], odd.counts().counts.at(-1)], [3, 1]);
});

test("what is written is OpenMetrics, whatever names, texts and numbers there are", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.string({ unit: "binary" }), fc.double()), { maxLength: 20 }),
      fc.string({ unit: "binary" }),
      (rows, help) => {
        const metrics = new Metrics();
        const gauge = metrics.gauge("some_level", `Help ${help}`.replaceAll("\r", ""), ["of"]);
        for (const [label, value] of rows) gauge.set(value, label.replaceAll(/[\r\u2028]/g, ""));
        metrics.counter("done", "Done.").add(3);
        metrics
          .durations("wait_seconds", "Waited.", ["of"])
          .of('a"b\\c\nd')
          .add(0.3, "0af7651916cd43dd8448eb211c80319c", 5);
        metrics.read("info", "build", "Build.", () => [[{ version: "1" }, 1]]);
        const read = readOpenMetrics(writeMetrics([told(metrics), told(metrics, "s", "s-2")], "openmetrics"));
        const levels = read.find(({ name }) => name === "some_level")?.rows ?? [];
        const expected = new Map(rows.map(([label, value]) => [label.replaceAll(/[\r\u2028]/g, ""), value]));
        for (const { labels, value } of levels) assert.ok(Object.is(value + 0, (expected.get(labels["of"]) ?? 0) + 0));
        assert.equal(levels.length, expected.size * 2);
      },
    ),
    { seed: 7, numRuns: 200 },
  );
});

test("the older text has its own names of counters and infos, and neither exemplars nor an end", () => {
  const metrics = new Metrics();
  metrics.counter("done", "Done.").add(2);
  metrics.durations("wait_seconds", "Waited.").of().add(0.1, "0af7651916cd43dd8448eb211c80319c", 1);
  metrics.read("info", "build", "Build.", () => [[{ version: "1" }, 1]]);
  const text = writeMetrics([told(metrics)], "prometheus");
  assert.match(text, /^# TYPE done_total counter\ndone_total\{service="s",instance_id="s-1"\} 2$/m);
  assert.match(text, /^# TYPE build_info gauge$/m);
  assert.doesNotMatch(text, /EOF|trace_id|UNIT/);
});

test("a slow call's exemplar is the request that it was", () => {
  const metrics = new Metrics();
  const calls = new Calls(metrics, systemClock);
  calls.finished("read", 0, "", 0.001, "11111111-1111-4111-8111-111111111111");
  calls.finished("read", 503, "UNAVAILABLE", 3, "22222222-2222-4222-8222-222222222222");
  const read = readOpenMetrics(writeMetrics([told(metrics)], "openmetrics"));
  const rows = read.find(({ name }) => name === "holdfast_call_seconds")!.rows;
  const ids = rows.flatMap(({ exemplar }) => (exemplar ? [exemplar.labels["trace_id"]] : []));
  assert.deepEqual(ids, ["11111111111141118111111111111111", "22222222222242228222222222222222"]);
});

test("calls are counted however they end", async () => {
  const metrics = new Metrics();
  const calls = new Calls(metrics, systemClock);
  assert.equal(await calls.around("go", undefined, async () => calls.running), 1);
  await assert.rejects(
    calls.around("go", undefined, () => Promise.reject(fail(UNAVAILABLE, "away"))),
    /away/,
  );
  assert.equal(calls.running, 0);
  const { samples } = metrics.families().find(({ name }) => name === "holdfast_calls")!;
  assert.deepEqual(
    samples.map(({ labels, value }) => [labels["status"], labels["code"], value]),
    [
      ["200", "", 1],
      ["503", "UNAVAILABLE", 1],
    ],
  );
});

test("a metric has a limit of rows: what comes above it is counted together", () => {
  const metrics = new Metrics();
  const counter = metrics.counter("seen", "Seen.", ["id"]);
  for (let i = 0; i < SERIES_MAX + 100; i++) counter.add(1, String(i));
  const [{ samples }] = metrics.families();
  assert.equal(samples.length, SERIES_MAX + 1);
  assert.equal(samples.find(({ labels }) => labels["id"] === "(others)")?.value, 100);
});

test("a text has a limit: it is cut at a whole metric, and says so", () => {
  const metrics = new Metrics();
  const long = metrics.gauge("long", "Long.", ["of"]);
  for (let i = 0; i < 1_000; i++) long.set(1, `${i}${"x".repeat(10_000)}`);
  metrics.counter("done", "Done.").add(1);
  const text = writeMetrics([told(metrics)], "openmetrics");
  assert.ok(text.length < TEXT_BYTES_MAX);
  const read = readOpenMetrics(text);
  assert.equal(read.find(({ name }) => name === "holdfast_metrics_cut")?.rows[0].value, 1);
  assert.ok(read.some(({ name }) => name === "done"));
});

test("a name means one thing: declared again it is the same metric, otherwise it is refused", () => {
  const metrics = new Metrics();
  metrics.counter("done", "Done.").add(1);
  metrics.counter("done", "Done.").add(1);
  assert.equal(metrics.families()[0].samples[0].value, 2);
  assert.throws(() => metrics.gauge("done", "Done."), /twice/);
  assert.throws(() => metrics.counter("Done", "Done."), /another name/);
  assert.throws(() => metrics.counter("done_total", "Done."), /another name/);
  assert.throws(() => metrics.durations("wait", "Waited."), /_seconds/);
  watchCache(metrics, "a", { hits: 1, misses: 2, size: 3 });
  watchCache(metrics, "b", { hits: 4, misses: 5, size: 6 });
  const hits = metrics.families().find(({ name }) => name === "holdfast_cache_hits")!;
  assert.deepEqual(
    hits.samples.map(({ value }) => value),
    [1, 4],
  );
});

test("what cannot be read at the moment is left out, and all else is told", () => {
  const metrics = new Metrics();
  metrics.read("gauge", "gone", "Gone.", () => {
    throw new Error("closed");
  });
  metrics.counter("done", "Done.").add(1);
  assert.deepEqual(
    metrics.families().map(({ samples }) => samples.length),
    [0, 1],
  );
});

test("the strict reader refuses what is not OpenMetrics", () => {
  const faults = [
    "a 1\n",
    "# TYPE a counter\na 1\n# EOF\n",
    "# TYPE a gauge\na 1\na 1\n# EOF\n",
    '# TYPE a gauge\na{b="1",b="2"} 1\n# EOF\n',
    "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\n# EOF\n",
    '# TYPE a histogram\na_bucket{le="1.0"} 2\na_bucket{le="+Inf"} 1\na_count 1\na_sum 1\n# EOF\n',
    '# TYPE a histogram\na_bucket{le="1.0"} 1\na_count 1\na_sum 1\n# EOF\n',
    "# TYPE a_seconds gauge\n# UNIT a_seconds bytes\na_seconds 1\n# EOF\n",
  ];
  for (const text of faults) assert.throws(() => readOpenMetrics(text), Error, text);
});
