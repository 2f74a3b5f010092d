import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { blockOf, leaves, pressure, readings, SEED, single, stepsMs } from "../../../../test/houses/reduction.ts";
import { makeReduction, type ReductionSpec } from "./reduction.ts";

const sequences = (spec: ReductionSpec, block: Parameters<typeof leaves>[1]) =>
  leaves(makeReduction(spec), block).map(({ sequence }) => sequence);
const counted = readings(Array.from({ length: 23 }, (_, i) => i));

test("the first reading leaves, and then every n-th; each resource counts its own", () => {
  assert.deepEqual(sequences({ function: "Sample", resources: ["*"], every: 5 }, counted), [1, 6, 11, 16, 21]);
  assert.equal(sequences({ function: "Sample", resources: ["*"], every: 1 }, counted).length, 23);
  const sparse = blockOf(
    pressure,
    Array.from({ length: 12 }, (_, i) => ({ ms: 10, values: [i % 3 === 0 ? i : undefined, i, "on"] })),
  );
  const left = leaves(makeReduction({ function: "Sample", resources: ["*"], every: 3 }), sparse);
  assert.deepEqual(
    left.map(({ sequence, values }) => [sequence, Object.keys(values).join()]),
    [
      [1, "Pressure,Flow,State"],
      [4, "Flow,State"],
      [7, "Flow,State"],
      [10, "Pressure,Flow,State"],
    ],
  );
});

test("the first reading of every interval leaves, and only that, also when time runs backward", () => {
  fc.assert(
    fc.property(
      fc.array(stepsMs, { minLength: 1, maxLength: 80 }),
      fc.integer({ min: 1, max: 20_000 }),
      (steps, intervalMs) => {
        const block = blockOf(
          single,
          steps.map((ms, i) => ({ ms, values: [i] })),
        );
        const intervalOf = (row: number) => block.origins[row] / (BigInt(intervalMs) * 1_000_000n);
        const expected = block.sequences.filter((_, row) => row === 0 || intervalOf(row) !== intervalOf(row - 1));
        assert.deepEqual(sequences({ function: "SampleInterval", resources: ["*"], intervalMs }, block), expected);
      },
    ),
    { seed: SEED, numRuns: 150 },
  );
});

test("intervals before 1970 are as long as all others", () => {
  const block = { ...readings([1, 2, 3, 4]), origins: [-15n, -5n, 5n, 15n].map((ns) => ns * 100_000n) };
  assert.deepEqual(sequences({ function: "SampleInterval", resources: ["*"], intervalMs: 1 }, block), [1, 2, 3, 4]);
});
