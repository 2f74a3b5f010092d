import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeColumn } from "../../../kernel/columns/column.ts";
import { POWER } from "../../../kernel/columns/decimal.ts";
import type { Value, ValueType } from "../../../kernel/events/model.ts";
import { checkValue } from "../../../kernel/events/values.ts";
import { blockOf, eventsOf, pressure, readings, SEED, single, valuesOf } from "../../../../test/houses/reduction.ts";
import { stepBelow } from "./quantise.ts";
import { makeReduction } from "./reduction.ts";

const quantise = (tolerance: number) => makeReduction({ function: "Quantise", resources: ["*"], tolerance });
const typed = (valueType: ValueType, values: readonly Value[]) =>
  blockOf(
    { ...single, resources: [{ name: "Pressure", valueType }] },
    values.map((value) => ({ ms: 1_000, values: [value] })),
  );
const sent = (tolerance: number, values: readonly Value[], type: ValueType = "Float64") =>
  valuesOf(eventsOf(quantise(tolerance).push(typed(type, values))));

test("a step is 1, 2 or 5 times a power of ten, and the largest that fits", () => {
  for (const [size, digit, exponent] of [
    [1, 1, 0],
    [0.99, 5, -1],
    [0.5, 5, -1],
    [4.99, 2, 0],
    [1e-3, 1, -3],
    [0.3, 2, -1],
    [7e9, 5, 9],
    [0.1 + 0.2, 2, -1],
  ])
    assert.deepEqual(stepBelow(size), { digit, exponent });
});

test("every number leaves, within the tolerance of what was read, and on the grid or as it was; the report tells the largest error", () => {
  const number = fc.oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.double({ min: -1000, max: 1000, noNaN: true }),
    fc.integer({ min: -1e6, max: 1e6 }).map((n) => n / 1000),
  );
  const tolerance = fc.oneof(fc.double({ min: 1e-9, max: 1e6, noNaN: true }), fc.constantFrom(0.05, 0.5, 1, 5, 25));
  fc.assert(
    fc.property(fc.array(number, { minLength: 1, maxLength: 40 }), tolerance, (values, within) => {
      const reduction = quantise(within);
      const left = valuesOf(eventsOf(reduction.push(readings(values)))) as number[];
      const { digit, exponent } = stepBelow(2 * within);
      let errorMax = 0;
      assert.equal(left.length, values.length);
      left.forEach((value, i) => {
        const error = Math.abs(value - values[i]);
        assert.ok(error <= within, `${values[i]} became ${value}, ${within} is allowed`);
        errorMax = Math.max(errorMax, error);
        if (Object.is(value, values[i]) || Math.abs(value) > 1e9) return;
        // Short, as it was printed: a whole number of steps.
        const steps = exponent < 0 ? (value * POWER[-exponent]) / digit : value / (digit * POWER[exponent]);
        assert.ok(
          Math.abs(steps - Math.round(steps)) < 1e-6 * Math.max(1, Math.abs(steps)),
          `${value} is off the grid`,
        );
        assert.ok(!Object.is(value, -0));
      });
      assert.equal(reduction.report().errorMax, errorMax);
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test("what leaves is of the resource's type: whole numbers within their range, floats as they are printed", () => {
  assert.deepEqual(sent(5, [3, 12, 250, 255], "Uint8"), [0, 10, 250, 255], "260 is no Uint8");
  assert.deepEqual(sent(0.25, [3, -7], "Int16"), [3, -7]);
  assert.deepEqual(sent(10, [2n ** 60n + 1n, 17], "Int64"), [2n ** 60n + 1n, 20]);
  fc.assert(
    fc.property(
      fc.float({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom(1e-6, 0.01, 0.5, 300),
      (value, tolerance) => {
        const read = checkValue("Float32", value) as number;
        const [left] = sent(tolerance, [read], "Float32") as [number];
        assert.ok(Math.abs(left - read) <= tolerance);
        assert.ok(Object.is(checkValue("Float32", left), left), `${left} is not as a float prints it`);
      },
    ),
    { seed: SEED, numRuns: 500 },
  );
});

test("texts, NaN, infinities, null and absent values pass as they are, and so do events", () => {
  const odd: Value[] = ["12.345678", NaN, Infinity, null, undefined, true];
  assert.deepEqual(
    sent(0.5, odd),
    odd.filter((value) => value !== undefined),
  );
  const rows = Array.from({ length: 9 }, (_, i) => ({ ms: 1_000, values: [i / 7, undefined, "on"] }));
  const block = blockOf(pressure, rows);
  const [made] = quantise(0.05).push(block);
  assert.equal(made.origins, block.origins, "the axis of time is shared");
  assert.deepEqual(made.columns[1], block.columns[1]);
});

test("a noisy signal takes a fraction of its bytes", () => {
  let state = 1;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const noisy = Array.from({ length: 1000 }, (_, i) => 50 + 30 * Math.sin(i / 60) + random());
  const bytes = (values: readonly Value[]) => encodeColumn(values).length;
  assert.ok(bytes(sent(0.6, noisy)) * 10 < bytes(noisy));
});
