import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeCbor, encodeCbor } from "../../../kernel/cbor.ts";
import { decodeBlocks, encodeBlocks } from "../../../kernel/events/codec.ts";
import type { Block } from "../../../kernel/events/model.ts";
import {
  anyRows,
  BEGAN_NS,
  blockOf,
  cut,
  eventsOf,
  type Left,
  leaves,
  pressure,
  readings,
  SEED,
  single,
} from "../../../../test/houses/reduction.ts";
import { makeReduction, type Reduction, type ReductionSpec } from "./reduction.ts";

const resources = ["*"];
const aggregates = ["min", "max", "mean", "sum", "count", "first", "last", "stddev", "p50", "p99.9"];
const specs: ReductionSpec[] = [
  { function: "OnChange", resources },
  { function: "OnChange", resources: ["State"], silenceMsMax: 5_000 },
  { function: "Deadband", resources, tolerance: 1, silenceMsMax: 60_000 },
  { function: "DeadbandPercent", resources, tolerancePercent: 20 },
  { function: "SwingingDoor", resources, tolerance: 1.5, silenceMsMax: 20_000 },
  { function: "SwingingDoor", resources: ["Flow"], tolerance: 0 },
  { function: "Quantise", resources, tolerance: 0.3 },
  { function: "TumblingWindow", resources, aggregates, sizeMs: 10_000, latenessMs: 0 },
  { function: "TumblingWindow", resources: ["Pressure"], aggregates: ["mean"], sizeMs: 3_000, latenessMs: 2_000 },
  { function: "HoppingWindow", resources, aggregates, sizeMs: 10_000, hopMs: 3_000, latenessMs: 1_000 },
  { function: "SlidingWindow", resources, aggregates, sizeMs: 10_000 },
  { function: "SessionWindow", resources, aggregates, gapMs: 2_000 },
  { function: "CountWindow", resources, aggregates, count: 7 },
  { function: "Rate", resources, counter: false },
  { function: "Rate", resources, counter: true },
  { function: "Sample", resources, every: 3 },
  { function: "SampleInterval", resources, intervalMs: 4_000 },
  { function: "LargestTriangle", resources, bucketEvents: 4 },
];
const titleOf = (spec: ReductionSpec) => `${spec.function} of ${spec.resources.join()}`;

/** What leaves of blocks, when the state goes through CBOR before those in `saved`. */
function run(spec: ReductionSpec, blocks: readonly Block[], saved: (at: number) => boolean): [Left[], object] {
  let reduction: Reduction = makeReduction(spec);
  const out: Block[] = [];
  blocks.forEach((block, at) => {
    if (saved(at)) {
      const bytes = encodeCbor(reduction.save());
      reduction = makeReduction(spec);
      reduction.load(decodeCbor(bytes));
    }
    out.push(...reduction.push(block));
  });
  out.push(...reduction.flush());
  return [eventsOf(out), reduction.report()];
}

for (const spec of specs) {
  test(`${titleOf(spec)}: cut and saved anywhere, the same rows give the same output`, () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 59 }), { maxLength: 6 });
    fc.assert(
      fc.property(anyRows(), cuts, (rows, at) => {
        const block = blockOf(pressure, rows);
        const whole = run(spec, [block], () => false);
        const parts = cut(block, at);
        assert.deepEqual(
          run(spec, parts, () => false),
          whole,
        );
        assert.deepEqual(
          run(spec, parts, () => true),
          whole,
        );
      }),
      { seed: SEED, numRuns: 80 },
    );
  });
}

test("whatever comes, what leaves is encoded, comes back, and is what was read or derived of it; what came is not touched", () => {
  fc.assert(
    fc.property(fc.constantFrom(...specs), anyRows(), (spec, rows) => {
      const block = blockOf(pressure, rows);
      const before = structuredClone(block);
      const reduction = makeReduction(spec);
      const out = [...reduction.push(block), ...reduction.flush()];
      assert.deepEqual(block, before);
      if (out.length > 0) assert.deepEqual(eventsOf(decodeBlocks(encodeBlocks(out))), eventsOf(out));
      const events = eventsOf(out);
      const ids = events.map(({ publisher, sequence }) => `${publisher.name} ${publisher.epoch} ${sequence}`);
      assert.equal(new Set(ids).size, ids.length, "two events have one id");
      for (const { source, sequence, origin, values, extra } of events) {
        if (source !== "All" || spec.function === "Quantise") continue;
        const row = sequence - 1;
        assert.equal(origin, block.origins[row]);
        assert.deepEqual(extra?.tags, rows[row].extra?.tags);
        for (const [name, value] of Object.entries(values))
          assert.deepEqual(value, rows[row].values[pressure.resources.findIndex((r) => r.name === name)]);
      }
      const count = events.reduce((sum, { values }) => sum + Object.keys(values).length, 0);
      assert.equal(reduction.report().readingsOut, count);
      assert.equal(
        reduction.report().readingsIn,
        rows.flatMap(({ values }) => values.filter((v) => v !== undefined)).length,
      );
    }),
    { seed: SEED, numRuns: 1_000 },
  );
});

test("the readings of resources that are not named pass, all of them", () => {
  for (const spec of specs) {
    const reduction = makeReduction({ ...spec, resources: ["Pressure"] });
    const block = blockOf(
      pressure,
      Array.from({ length: 40 }, (_, i) => ({ ms: 500, values: [1, i, "on"] })),
    );
    const left = leaves(reduction, block).filter(({ source }) => source === "All");
    assert.deepEqual(
      left.flatMap(({ values }) => (values["Flow"] === undefined ? [] : [values["Flow"]])),
      Array.from({ length: 40 }, (_, i) => i),
      titleOf(spec),
    );
  }
});

test("an id that a stranger chose, and what is told of a reading, leaves with the reading and not without it", () => {
  const extra = {
    ids: ["event", "one", "two", "three"],
    origins: [BEGAN_NS, undefined, BEGAN_NS + 7n],
    readingTags: [{ a: 1 }, { b: 2 }, { c: 3 }],
    tags: { site: "x" },
  };
  const rows = [
    { ms: 1_000, values: [1, 1, "on"] },
    { ms: 1_000, values: [1, 2, "on"], extra },
  ];
  const [, second] = leaves(makeReduction({ function: "OnChange", resources: ["*"] }), blockOf(pressure, rows));
  assert.deepEqual(second.values, { Flow: 2 });
  assert.deepEqual(second.extra, {
    ids: ["event", undefined, "two", undefined],
    origins: [undefined, undefined, undefined],
    readingTags: [undefined, { b: 2 }, undefined],
    tags: { site: "x" },
  });
});

test("of more series, or bytes, than allowed those that were idle longest are flushed, and nothing is lost", () => {
  const spec: ReductionSpec = {
    function: "TumblingWindow",
    resources,
    aggregates: ["sum", "p50"],
    sizeMs: 3_600_000,
    latenessMs: 0,
  };
  for (const limits of [{ seriesMax: 3 }, { heldBytesMax: 6_000 }]) {
    const reduction = makeReduction(spec, limits);
    const out: Block[] = [];
    for (let round = 0; round < 4; round++)
      for (let device = 0; device < 9; device++) {
        const series = { ...single, deviceName: `pump-${device}` };
        out.push(
          ...reduction.push({
            ...readings([1, 2, 3], 1),
            series,
            sequences: [1, 2, 3].map((n) => n + 30 * round + 1000 * device),
          }),
        );
        const held = (reduction.save() as { series: unknown[] }).series.length;
        assert.ok(held <= 4, `${held} series are held`);
      }
    assert.ok(out.length > 0);
    out.push(...reduction.flush());
    const events = eventsOf(out);
    const sum = events.reduce((all, { values }) => all + (values["Pressure.sum"] as number), 0);
    assert.equal(sum, 4 * 9 * 6);
    assert.equal(
      new Set(events.map(({ sequence }) => sequence)).size,
      events.length,
      "a window told in parts has an id for each",
    );
  }
});

test("a single series that takes more than all may is flushed as well", () => {
  const reduction = makeReduction(
    { function: "LargestTriangle", resources, bucketEvents: 1_000 },
    { heldBytesMax: 20_000 },
  );
  const values = Array.from({ length: 900 }, (_, i) => Math.sin(i));
  const left = cut(readings(values), [100, 200, 300, 400, 500, 600, 700, 800]).flatMap((block) =>
    reduction.push(block),
  );
  assert.ok(left.length >= 3, "it began anew several times, each time with what it held");
  assert.ok(
    (reduction.save() as { series: { state: { filling: unknown[] } }[] }).series.every(
      ({ state }) => state.filling.length <= 200,
    ),
  );
});

test("silence closes windows and lines by the time that passes, whatever the device's clock says", () => {
  const window = makeReduction({
    function: "TumblingWindow",
    resources,
    aggregates: ["count"],
    sizeMs: 10_000,
    latenessMs: 0,
  });
  // BEGAN_NS is a multiple of ten seconds; the readings are of 2026, the clock that ticks stands near 0.
  window.push(readings([1, 2, 3]));
  assert.deepEqual(window.tick(1_000_000_000n), []);
  assert.deepEqual(window.tick(7_900_000_000n), []);
  assert.equal(eventsOf(window.tick(8_000_000_000n))[0].values["Pressure.count"], 3);
  assert.deepEqual(window.tick(99_000_000_000n), []);
  const door = makeReduction({ function: "SwingingDoor", resources, tolerance: 1, silenceMsMax: 5_000 });
  assert.equal(eventsOf(door.push(readings([1, 1]))).length, 1);
  assert.deepEqual(door.tick(0n), []);
  assert.deepEqual(door.tick(3_999_999_999n), []);
  assert.equal(eventsOf(door.tick(4_000_000_000n))[0].sequence, 2);
});

test("a device service that starts anew goes on in the same windows, under its new epoch", () => {
  const reduction = makeReduction(
    { function: "CountWindow", resources, aggregates: ["sum"], count: 4 },
    { pipeline: "plant" },
  );
  reduction.push(readings([1, 2]));
  const out = reduction.push({ ...readings([3, 4]), publisher: { name: "device-virtual", epoch: 209_000_777 } });
  const [{ publisher, sequence, source, values }] = eventsOf(out);
  assert.deepEqual(values, { "Pressure.sum": 10 });
  assert.deepEqual(
    [source, sequence, publisher],
    ["Pressure.4events", 2, { name: "device-virtual.plant.4events", epoch: 209_000_777 }],
  );
});
