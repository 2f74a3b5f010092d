import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Value } from "../../../kernel/events/model.ts";
import {
  BEGAN_NS,
  blockOf,
  cut,
  type Drawn,
  eventsOf,
  type Left,
  leaves,
  pressure,
  readings,
  SEED,
  single,
  stepsMs,
} from "../../../../test/houses/reduction.ts";
import { makeReduction, type ReductionSpec } from "./reduction.ts";

const resources = ["*"];
const aggregates = ["min", "max", "mean", "sum", "count", "first", "last", "stddev", "p25", "p50", "p99.9"];
const tumbling = (sizeMs: number, latenessMs = 0): ReductionSpec => ({
  function: "TumblingWindow",
  resources,
  aggregates,
  sizeMs,
  latenessMs,
});

interface Point {
  readonly ns: bigint;
  readonly value: number;
}

/** What each aggregate of some readings is, worked out the plain way. */
function plain(points: readonly Point[]): { [aggregate: string]: number | undefined } {
  const values = points.map(({ value }) => value);
  const sorted = Float64Array.from(values).sort();
  const ordered = points
    .map((point, at) => ({ ...point, at }))
    .sort((a, b) => (a.ns < b.ns ? -1 : a.ns > b.ns ? 1 : a.at - b.at));
  const oldest = ordered.find(({ ns }) => ns === ordered[0].ns) as Point;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const rank = (percent: number) => sorted[Math.max(1, Math.ceil((percent * sorted.length) / 100)) - 1];
  return {
    min: sorted[0],
    max: sorted[sorted.length - 1],
    mean,
    sum: values.reduce((sum, value) => sum + value, 0),
    count: values.length,
    first: oldest.value,
    last: (ordered.at(-1) as Point).value,
    stddev: values.length < 2 ? undefined : Math.sqrt(squares / (values.length - 1)),
    p25: rank(25),
    p50: rank(50),
    "p99.9": rank(99.9),
  };
}

function assertTells({ values }: Left, points: readonly Point[]): void {
  for (const [aggregate, expected] of Object.entries(plain(points))) {
    const told = values[`Pressure.${aggregate}`];
    if (expected === undefined) assert.equal(told, undefined);
    else
      assert.ok(
        Math.abs((told as number) - expected) <= 1e-9 * Math.max(1, Math.abs(expected)),
        `${aggregate}: ${String(told)}, not ${expected}`,
      );
  }
}

/** Rows of one resource, whose values are all different: so that each is found again. */
const rowsOf = (steps: readonly number[], valueOf: (i: number) => Value = (i) => i + 1): Drawn[] =>
  steps.map((ms, i) => ({ ms, values: [valueOf(i)] }));
const pointsOf = (rows: readonly Drawn[]): Point[] => {
  const { origins, columns } = blockOf(single, rows);
  return origins.map((ns, i) => ({ ns, value: columns[0][i] as number }));
};
const forward = fc.array(fc.integer({ min: 0, max: 4_000 }), { minLength: 1, maxLength: 70 });
const anyhow = fc.array(stepsMs, { minLength: 1, maxLength: 70 });
const startOf = (ns: bigint, sizeMs: number) => ns - (ns % BigInt(sizeMs * 1e6));

test("tumbling: each window tells of all readings of its time, once", () => {
  fc.assert(
    fc.property(forward, fc.constantFrom(1_000, 7_000, 60_000), (steps, sizeMs) => {
      const rows = rowsOf(steps, (i) => Math.sin(i) * 50);
      const told = leaves(makeReduction(tumbling(sizeMs)), blockOf(single, rows));
      const points = pointsOf(rows);
      const starts = [...new Set(points.map(({ ns }) => startOf(ns, sizeMs)))];
      assert.deepEqual(
        told.map(({ origin }) => origin),
        starts,
      );
      told.forEach((event, i) =>
        assertTells(
          event,
          points.filter(({ ns }) => startOf(ns, sizeMs) === starts[i]),
        ),
      );
    }),
    { seed: SEED, numRuns: 150 },
  );
});

test("tumbling, time running anyhow: every number is in exactly one window of its time, or passes and is counted as late", () => {
  fc.assert(
    fc.property(anyhow, fc.constantFrom(0, 3_000, 20_000), (steps, latenessMs) => {
      const sizeMs = 10_000;
      // Powers of two: a sum says who is in it.
      const rows = rowsOf(steps.slice(0, 50), (i) => 2 ** i);
      const block = blockOf(single, rows);
      const reduction = makeReduction(tumbling(sizeMs, latenessMs));
      const left = leaves(reduction, block);
      const seen = new Set<number>();
      let late = 0;
      for (const { source, origin, values } of left) {
        const sum = (source === "Pressure" ? values["Pressure"] : values["Pressure.sum"]) as number;
        for (let i = 0; i < rows.length; i++) {
          if (Math.floor(sum / 2 ** i) % 2 === 0) continue;
          assert.ok(!seen.has(i), `reading ${i} is told twice`);
          seen.add(i);
          assert.equal(origin, source === "Pressure" ? block.origins[i] : startOf(block.origins[i], sizeMs));
          if (source === "Pressure") late++;
        }
      }
      assert.equal(seen.size, rows.length);
      assert.equal(reduction.report().readingsLate, late);
    }),
    { seed: SEED, numRuns: 400 },
  );
});

test("a window waits for late readings as long as it is told to, and a clock set back begins anew", () => {
  const at = (...seconds: number[]) =>
    blockOf(
      single,
      seconds.map((s, i) => ({ ms: (s - (seconds[i - 1] ?? 0)) * 1_000, values: [i + 1] })),
    );
  const counts = (latenessMs: number, ...seconds: number[]) =>
    leaves(makeReduction(tumbling(10_000, latenessMs)), at(...seconds)).map(({ origin, values }) => [
      Number((origin - BEGAN_NS) / 1_000_000_000n),
      values["Pressure.count"] ?? "passed",
    ]);
  assert.deepEqual(counts(5_000, 1, 12, 9, 14, 15, 8), [
    [8, "passed"],
    [0, 2],
    [10, 3],
  ]);
  assert.deepEqual(counts(0, 1, 12, 9), [
    [9, "passed"],
    [0, 1],
    [10, 1],
  ]);
  // Ten years ahead and back: two partial windows, and nobody waits ten years.
  assert.deepEqual(counts(0, 1, 315_360_000, 2, 3, 11), [
    [0, 1],
    [315_360_000, 1],
    [0, 2],
    [10, 1],
  ]);
});

test("hopping: a reading is told by all windows that it falls into, and each window by an id of its own", () => {
  fc.assert(
    fc.property(forward, fc.constantFrom(1_000, 2_000, 3_000, 10_000), (steps, hopMs) => {
      const sizeMs = 10_000;
      const rows = rowsOf(steps, (i) => Math.cos(i) * 10);
      const spec: ReductionSpec = { function: "HoppingWindow", resources, aggregates, sizeMs, hopMs, latenessMs: 0 };
      const told = leaves(makeReduction(spec), blockOf(single, rows));
      const points = pointsOf(rows);
      const [size, hop] = [BigInt(sizeMs) * 1_000_000n, BigInt(hopMs) * 1_000_000n];
      const starts = new Set<bigint>();
      for (const { ns } of points) for (let start = ns - (ns % hop); start > ns - size; start -= hop) starts.add(start);
      assert.deepEqual(new Set(told.map(({ origin }) => origin)), starts);
      assert.equal(told.length, starts.size);
      for (const event of told)
        assertTells(
          event,
          points.filter(({ ns }) => ns >= event.origin && ns < event.origin + size),
        );
      const ids = told.map(({ publisher, sequence }) => `${publisher.name} ${sequence}`);
      assert.equal(new Set(ids).size, ids.length);
    }),
    { seed: SEED, numRuns: 100 },
  );
});

test("sliding: with every event what there is to say of the time before it", () => {
  fc.assert(
    fc.property(forward, (steps) => {
      const rows = rowsOf(steps, (i) => Math.sin(i * 3) * 10);
      const spec: ReductionSpec = { function: "SlidingWindow", resources, aggregates, sizeMs: 9_000 };
      const told = leaves(makeReduction(spec), blockOf(single, rows));
      const points = pointsOf(rows);
      assert.equal(told.length, rows.length);
      told.forEach((event, i) => {
        assert.equal(event.origin, points[i].ns);
        assertTells(
          event,
          points.slice(0, i + 1).filter(({ ns }) => ns > points[i].ns - 9_000_000_000n),
        );
      });
    }),
    { seed: SEED, numRuns: 80 },
  );
});

test("sliding: a reading older than the window passes; much older ones begin a new one; many events push the oldest out", () => {
  const spec: ReductionSpec = { function: "SlidingWindow", resources, aggregates: ["count"], sizeMs: 10_000 };
  const rows = rowsOf([20_000, -5_000, -6_000, 12_000, -3_600_000]);
  const left = leaves(makeReduction(spec), blockOf(single, rows));
  assert.deepEqual(
    left.map(({ sequence, values }) => [sequence, values["Pressure.count"] ?? "passed"]),
    [
      [3, "passed"],
      [1, 1],
      [2, 2],
      [4, 3],
      [5, 1],
    ],
  );
  const many = leaves(
    makeReduction(spec),
    readings(
      Array.from({ length: 4_100 }, (_, i) => i),
      0.001,
    ),
  );
  assert.equal(many.at(-1)?.values["Pressure.count"], 4_096);
});

test("sessions end where a gap is, and counts after so many events", () => {
  fc.assert(
    fc.property(forward, (steps) => {
      const rows = rowsOf(steps, (i) => i / 4);
      const points = pointsOf(rows);
      const sessions: Point[][] = [];
      points.forEach((point, i) => {
        if (i === 0 || point.ns - points[i - 1].ns > 2_500_000_000n) sessions.push([]);
        (sessions.at(-1) as Point[]).push(point);
      });
      const session: ReductionSpec = { function: "SessionWindow", resources, aggregates, gapMs: 2_500 };
      const told = leaves(makeReduction(session), blockOf(single, rows));
      assert.equal(told.length, sessions.length);
      told.forEach((event, i) => {
        assert.equal(event.origin, sessions[i][0].ns);
        assertTells(event, sessions[i]);
      });
      const counted = leaves(
        makeReduction({ function: "CountWindow", resources, aggregates, count: 6 }),
        blockOf(single, rows),
      );
      assert.equal(counted.length, Math.ceil(points.length / 6));
      counted.forEach((event, i) => assertTells(event, points.slice(i * 6, i * 6 + 6)));
    }),
    { seed: SEED, numRuns: 100 },
  );
});

test("a session that readings out of order belong to holds them; one that does not end is cut after a day", () => {
  const spec: ReductionSpec = { function: "SessionWindow", resources, aggregates: ["count"], gapMs: 3_600_000 };
  const counts = (steps: readonly number[]) =>
    leaves(makeReduction(spec), blockOf(single, rowsOf(steps))).map(({ values }) => values["Pressure.count"]);
  assert.deepEqual(counts([0, 5_000, -8_000, 2_000, 3_600_001 * 4]), [4, 1]);
  assert.deepEqual(counts(Array.from({ length: 60 }, () => 1_800_000)), [49, 11]);
  assert.deepEqual(counts([0, 1_000, -7_200_000, 1_000]), [2, 2], "a clock set back begins another");
});

test("what is no finite number passes and is not told of; types, units and exact values stay", () => {
  const spec: ReductionSpec = {
    function: "CountWindow",
    resources: ["Pressure", "Flow", "State"],
    aggregates: ["count", "first", "max", "mean", "p50", "stddev"],
    count: 3,
  };
  const series = {
    ...pressure,
    resources: [{ ...pressure.resources[0], units: "bar" }, ...pressure.resources.slice(1)],
  };
  const big = 2n ** 60n + 1n;
  const rows: Drawn[] = [
    { ms: 1_000, values: [NaN, big, "on"] },
    { ms: 1_000, values: ["12.50", undefined, "off"] },
    { ms: 1_000, values: [Infinity, null, undefined] },
    { ms: 1_000, values: [3, big - 1n, undefined] },
  ];
  const reduction = makeReduction(spec);
  const blocks = [...reduction.push(blockOf(series, rows)), ...reduction.flush()];
  const [first, second, third, told] = eventsOf(blocks);
  assert.deepEqual(
    [first.values, second.values, third.values],
    [{ Pressure: NaN, State: "on" }, { State: "off" }, { Pressure: Infinity, Flow: null }],
  );
  assert.deepEqual(told.values, {
    "Pressure.count": 2,
    "Pressure.first": "12.50",
    "Pressure.max": "12.50",
    "Pressure.mean": 7.75,
    "Pressure.p50": 3,
    "Pressure.stddev": Math.sqrt(2 * 4.75 ** 2),
    "Flow.count": 2,
    "Flow.first": big,
    "Flow.max": big,
    "Flow.mean": 2 ** 60,
    "Flow.p50": 2 ** 60,
    "Flow.stddev": 0,
  });
  const made = blocks.find(({ series: { sourceName } }) => sourceName === "All.3events")?.series.resources ?? [];
  assert.deepEqual(made.slice(0, 3), [
    { name: "Pressure.count", valueType: "Uint64" },
    { name: "Pressure.first", valueType: "Float64", units: "bar" },
    { name: "Pressure.max", valueType: "Float64", units: "bar" },
  ]);
  assert.equal(made.find(({ name }) => name === "Flow.first")?.valueType, "Int64");
});

test("sums stay exact where adding up loses bits, and a mean of equal values is that value", () => {
  const spec: ReductionSpec = { function: "CountWindow", resources, aggregates: ["sum", "mean"], count: 1_000_000 };
  const [told] = leaves(makeReduction(spec), readings([1e16, ...Array.from({ length: 1_000 }, () => 1), -1e16]));
  assert.equal(told.values["Pressure.sum"], 1_000);
  const [same] = leaves(makeReduction(spec), readings(Array.from({ length: 997 }, () => 0.1)));
  assert.equal(same.values["Pressure.mean"], 0.1);
});

test("a derived name too long for an event leaves the readings as they are, and so does a hop that cannot be", () => {
  const long = { ...single, resources: [{ name: "r".repeat(1_022), valueType: "Float64" as const }] };
  const block = { ...readings([1, 2, 3]), series: long };
  assert.deepEqual(makeReduction(tumbling(1_000)).push(block), [block]);
  for (const hopMs of [11_000, 100])
    assert.throws(
      () => makeReduction({ function: "HoppingWindow", resources, aggregates, sizeMs: 10_000, hopMs, latenessMs: 0 }),
      { code: "PIPELINE_WINDOW_INVALID" },
    );
});

test("a wide source: columns that have no room in the derived event pass", () => {
  const wide = {
    ...single,
    resources: Array.from({ length: 600 }, (_, k) => ({ name: `r${k}`, valueType: "Float64" as const })),
  };
  const block = blockOf(wide, [{ ms: 1_000, values: wide.resources.map((_, k) => k) }]);
  const left = leaves(
    makeReduction({ function: "CountWindow", resources, aggregates: ["min", "max"], count: 2 }),
    block,
  );
  assert.deepEqual(
    left.map(({ values }) => Object.keys(values).length),
    [88, 1024],
  );
});

test("the cut of blocks never changes which windows there are", () => {
  const rows = rowsOf(
    Array.from({ length: 300 }, (_, i) => (i % 7 === 0 ? 900 : 150)),
    (i) => i % 13,
  );
  const block = blockOf(single, rows);
  for (const spec of [tumbling(2_000), tumbling(2_000, 700)]) {
    const parts = makeReduction(spec);
    const pieces = cut(block, [1, 2, 50, 51, 200]).flatMap((part) => parts.push(part));
    assert.deepEqual(eventsOf([...pieces, ...parts.flush()]), leaves(makeReduction(spec), block));
  }
});
