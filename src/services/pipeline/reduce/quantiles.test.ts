import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SEED } from "../../../../test/houses/reduction.ts";
import { EXACT_VALUES_MAX, Quantiles, RANK_ERROR_MAX } from "./quantiles.ts";

const PERCENTS = [0, 0.1, 1, 10, 25, 50, 75, 90, 99, 99.9, 100];
const fill = (values: readonly number[]) => {
  const quantiles = new Quantiles();
  for (const value of values) quantiles.add(value);
  return quantiles;
};
const rankOf = (percent: number, count: number) => Math.max(1, Math.ceil((percent * count) / 100));

/** Ranks at which `value` stands in sorted values: first and last. */
function ranks(sorted: Float64Array, value: number): [number, number] {
  const first = sorted.indexOf(value);
  return [first + 1, sorted.lastIndexOf(value) + 1];
}

test("of few values every quantile is exact", () => {
  const values = fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), {
    minLength: 1,
    maxLength: EXACT_VALUES_MAX,
    size: "max",
  });
  fc.assert(
    fc.property(values, (given) => {
      const sorted = Float64Array.from(given).sort();
      const quantiles = fill(given);
      for (const percent of PERCENTS) assert.equal(quantiles.at(percent), sorted[rankOf(percent, given.length) - 1]);
    }),
    { seed: SEED, numRuns: 60 },
  );
  assert.equal(new Quantiles().at(50), undefined);
});

test("of many values, in any order, the rank of an answer is beside that asked for by half a percent of their number at most, in little memory", () => {
  let state = 7;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const orders: { [name: string]: (i: number, count: number) => number } = {
    rising: (i) => i,
    falling: (i, count) => count - i,
    random: () => random(),
    levels: () => Math.floor(random() * 5),
    zigzag: (i, count) => (i % 2 === 0 ? i : count * 2 - i),
    inwards: (i, count) => (i % 2 === 0 ? i : -i) * (count - i),
    heavy: () => 1 / (random() + 1e-12),
    bursts: (i) => Math.floor(i / 700) * (i % 3 === 0 ? -1 : 1) + random() * 1e-3,
  };
  for (const [name, order] of Object.entries(orders))
    for (const count of [513, 2_000, 60_000]) {
      const values = Array.from({ length: count }, (_, i) => order(i, count));
      const sorted = Float64Array.from(values).sort();
      const quantiles = fill(values);
      assert.ok(quantiles.bytes < 24_000, `${name}: ${quantiles.bytes} bytes`);
      for (const percent of PERCENTS) {
        const [first, last] = ranks(sorted, quantiles.at(percent) as number);
        const rank = rankOf(percent, count);
        const beside = Math.max(0, first - rank, rank - last);
        assert.ok(first > 0, "an answer is a value that was added");
        assert.ok(beside <= RANK_ERROR_MAX * count, `${name}: p${percent} of ${count} is ${beside} ranks beside`);
      }
      assert.equal(quantiles.at(0), sorted[0]);
      assert.equal(quantiles.at(100), sorted[count - 1]);
    }
});
