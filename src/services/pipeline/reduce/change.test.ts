import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Value } from "../../../kernel/events/model.ts";
import { blockOf, leaves, readings, SEED, single, stepsMs, valuesOf, walk } from "../../../../test/houses/reduction.ts";
import { makeReduction, type ReductionSpec } from "./reduction.ts";

const resources = ["*"];
const sent = (spec: ReductionSpec, values: readonly Value[]) => valuesOf(leaves(makeReduction(spec), readings(values)));
const onChange = (values: readonly Value[]) => sent({ function: "OnChange", resources }, values);

test("on change: every reading that stays says what the last one said that left", () => {
  fc.assert(
    fc.property(walk(), (values) => {
      const left = leaves(makeReduction({ function: "OnChange", resources }), readings(values));
      let at = 0;
      values.forEach((value, row) => {
        if (left[at + 1]?.sequence === row + 1) at++;
        assert.equal(left[at].values["Pressure"], value);
      });
      for (let i = 1; i < left.length; i++) assert.notEqual(left[i].values["Pressure"], left[i - 1].values["Pressure"]);
    }),
    { seed: SEED, numRuns: 200 },
  );
});

test("what is the same: numbers that are equal, NaN, members in order; what differs: types, digits beyond 2^53, long texts", () => {
  assert.deepEqual(onChange([0, -0, 0, "0.00", 0n]), [0]);
  assert.deepEqual(onChange([12.5, "12.50", 12.5]), [12.5]);
  assert.deepEqual(onChange([NaN, NaN, Infinity, Infinity, -Infinity]), [NaN, Infinity, -Infinity]);
  assert.deepEqual(onChange([2n ** 60n, 2n ** 60n, 2n ** 60n + 1n]), [2n ** 60n, 2n ** 60n + 1n]);
  assert.deepEqual(
    onChange([
      [1, 2],
      [1, 2],
      [2, 1],
    ]),
    [
      [1, 2],
      [2, 1],
    ],
  );
  assert.deepEqual(onChange([{ a: 1 }, { a: 1 }, { a: 1, b: 2 }]), [{ a: 1 }, { a: 1, b: 2 }]);
  assert.deepEqual(onChange([null, null, false, 0, "on", "off", "off"]), [null, false, 0, "on", "off"]);
  const long = "x".repeat(500);
  assert.deepEqual(onChange([long, long, `${long}y`]), [long, `${long}y`]);
  assert.deepEqual(onChange([Uint8Array.of(1, 2), Uint8Array.of(1, 2), Uint8Array.of(1)]).length, 2);
  assert.deepEqual(onChange([1, undefined, 1, undefined, 2]), [1, 2], "a reading that is not there is none");
});

test("deadband: every reading that stays is within the tolerance of the last that left; the report tells the largest difference", () => {
  const absolute = fc.double({ min: 0, max: 40, noNaN: true }).map((tolerance) => ({
    spec: { function: "Deadband", resources, tolerance } as ReductionSpec,
    toleranceOf: (_last: number) => tolerance,
  }));
  const percent = fc.double({ min: 0, max: 100, noNaN: true }).map((tolerancePercent) => ({
    spec: { function: "DeadbandPercent", resources, tolerancePercent } as ReductionSpec,
    toleranceOf: (last: number) => (Math.abs(last) * tolerancePercent) / 100,
  }));
  fc.assert(
    fc.property(walk(), fc.oneof(absolute, percent), (values, { spec, toleranceOf }) => {
      const reduction = makeReduction(spec);
      const left = leaves(reduction, readings(values));
      let at = 0;
      let errorMax = 0;
      values.forEach((value, row) => {
        if (left[at + 1]?.sequence === row + 1) {
          const before = left[at++].values["Pressure"] as number;
          assert.ok(Math.abs(value - before) > toleranceOf(before), "none leaves that could have stayed");
        }
        const error = Math.abs(value - (left[at].values["Pressure"] as number));
        assert.ok(error <= toleranceOf(left[at].values["Pressure"] as number));
        errorMax = Math.max(errorMax, error);
      });
      assert.deepEqual(reduction.report(), { readingsIn: values.length, readingsOut: left.length, errorMax });
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test("deadband: whole numbers beyond 2^53 are told apart exactly; what is no number leaves when it is another", () => {
  const big = 2n ** 60n;
  const flow = { ...single, resources: [{ name: "Pressure", valueType: "Uint64" as const }] };
  const values = [big, big + 1n, big + 2n, big + 3n, 7];
  const block = blockOf(
    flow,
    values.map((value) => ({ ms: 1_000, values: [value] })),
  );
  const spec: ReductionSpec = { function: "Deadband", resources, tolerance: 2 };
  assert.deepEqual(valuesOf(leaves(makeReduction(spec), block)), [big, big + 3n, 7]);
  assert.deepEqual(sent(spec, [1, NaN, NaN, 1, Infinity, 2, null, "off", "off", 2.5]), [
    1,
    NaN,
    1,
    Infinity,
    2,
    null,
    "off",
    2.5,
  ]);
});

test("a maximum silence: no reading stays that comes so long after the last that left, forward or back", () => {
  const silenceMsMax = 10_000;
  fc.assert(
    fc.property(fc.array(stepsMs, { minLength: 1, maxLength: 80 }), (steps) => {
      const block = blockOf(
        single,
        steps.map((ms) => ({ ms, values: [20] })),
      );
      const left = leaves(makeReduction({ function: "Deadband", resources, tolerance: 5, silenceMsMax }), block);
      let at = 0;
      block.origins.forEach((origin, row) => {
        if (left[at + 1]?.sequence === row + 1) at++;
        const distance = Number(origin - left[at].origin) / 1e6;
        assert.ok(Math.abs(distance) < silenceMsMax, `${distance} ms of silence`);
      });
    }),
    { seed: SEED, numRuns: 200 },
  );
});
