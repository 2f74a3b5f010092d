import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Value } from "../../../kernel/events/model.ts";
import { blockOf, eventsOf, leaves, readings, SEED, single, stepsMs, walk } from "../../../../test/houses/reduction.ts";
import { makeReduction } from "./reduction.ts";

const rate = (counter = false) => makeReduction({ function: "Rate", resources: ["*"], counter });
const steps = (...rows: [ms: number, value: Value][]) =>
  blockOf(
    single,
    rows.map(([ms, value]) => ({ ms, values: [value] })),
  );

test("a rate is the change by the seconds since the reading before, wherever time went forward", () => {
  const rows = fc.tuple(walk(60), fc.array(stepsMs, { minLength: 60, maxLength: 60 }));
  fc.assert(
    fc.property(rows, ([values, times]) => {
      const block = blockOf(
        single,
        values.map((value, i) => ({ ms: times[i], values: [value] })),
      );
      const left = leaves(rate(), block);
      const expected = values.flatMap((value, i) => {
        const seconds = i === 0 ? 0 : Number(block.origins[i] - block.origins[i - 1]) / 1e9;
        return seconds > 0 ? [[i + 1, (value - values[i - 1]) / seconds]] : [];
      });
      assert.deepEqual(
        left.map(({ sequence, values: made }) => [sequence, made["Pressure.rate"]]),
        expected,
      );
      for (const { origin, sequence, source, publisher } of left) {
        assert.deepEqual(
          [origin, source, publisher.name],
          [block.origins[sequence - 1], "Pressure.rate", "device-virtual.rate"],
        );
      }
    }),
    { seed: SEED, numRuns: 150 },
  );
});

test("a counter that went back counts from 0, is tagged, and counted in the report", () => {
  const reduction = rate(true);
  const left = leaves(reduction, steps([1_000, 10], [1_000, 25], [2_000, 6], [1_000, 7]));
  assert.deepEqual(
    left.map(({ values }) => values["Pressure.rate"]),
    [15, 3, 1],
  );
  assert.deepEqual(
    left.map(({ extra }) => extra?.readingTags),
    [undefined, [{ counter: "reset" }], undefined],
  );
  assert.equal(reduction.report().counterResets, 1);
  const plain = leaves(rate(), steps([1_000, 25], [2_000, 6]));
  assert.deepEqual(plain[0].values, { "Pressure.rate": -9.5 });
});

test("counters beyond 2^53 keep their last digits; what is no number passes and begins nothing", () => {
  const big = 2n ** 63n;
  const left = leaves(rate(true), steps([1_000, big], [1_000, big + 3n], [500, NaN], [500, big + 4n], [1_000, "off"]));
  assert.deepEqual(
    left.map(({ values }) => values),
    [{ Pressure: NaN }, { Pressure: "off" }, { "Pressure.rate": 3 }, { "Pressure.rate": 1 }],
  );
});

test("a rate has the units of its resource by the second", () => {
  const metered = { ...single, resources: [{ name: "Pressure", valueType: "Float64" as const, units: "m3" }] };
  const [{ series }] = rate().push({ ...readings([1, 2]), series: metered });
  assert.deepEqual(series.resources, [{ name: "Pressure.rate", valueType: "Float64", units: "m3/s" }]);
  assert.equal(eventsOf(rate().push(readings([1e308, -1e308]))).length, 0, "a rate beyond all doubles is none");
});
