import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  blockOf,
  cut,
  eventsOf,
  leaves,
  readings,
  SEED,
  single,
  stepsMs,
  walk,
} from "../../../../test/houses/reduction.ts";
import { makeReduction } from "./reduction.ts";

const triangles = (bucketEvents: number) =>
  makeReduction({ function: "LargestTriangle", resources: ["*"], bucketEvents });

test("one reading of every bucket leaves, to the bit, in order; the first and the last, too", () => {
  const rows = fc.tuple(walk(90), fc.array(stepsMs, { minLength: 90, maxLength: 90 }));
  fc.assert(
    fc.property(rows, fc.integer({ min: 2, max: 12 }), ([values, times], bucketEvents) => {
      const block = blockOf(
        single,
        values.map((value, i) => ({ ms: times[i], values: [value] })),
      );
      const left = leaves(triangles(bucketEvents), block);
      const buckets = new Map<number, number>();
      for (const { sequence, values: kept } of left) {
        assert.equal(kept["Pressure"], values[sequence - 1]);
        const bucket = Math.floor((sequence - 2) / bucketEvents);
        buckets.set(bucket, (buckets.get(bucket) ?? 0) + 1);
      }
      assert.deepEqual([left[0].sequence, left.at(-1)?.sequence], [1, values.length]);
      const full = Math.floor((values.length - 1) / bucketEvents);
      for (let bucket = 0; bucket < full; bucket++) assert.ok((buckets.get(bucket) as number) <= 2);
      assert.ok(left.length >= full + 1 && left.length <= full + 3);
      const sequences = left.map(({ sequence }) => sequence);
      assert.deepEqual(
        sequences,
        [...sequences].sort((a, b) => a - b),
      );
    }),
    { seed: SEED, numRuns: 200 },
  );
});

test("the reading that leaves spans the largest triangle with the one before and the mean of the next bucket", () => {
  const values = [0, 1, 9, 1, 1, 2, -7, 2, 3, 3, 8, 3, 0, 0, 0, 0];
  const left = eventsOf(triangles(4).push(readings(values)));
  assert.deepEqual(
    left.map(({ values: kept }) => kept["Pressure"]),
    [0, 9, -7],
    "the third bucket waits for the fourth, of which one is missing",
  );
});

test("peaks stay, and what is held is two buckets", () => {
  const values = Array.from({ length: 1_000 }, (_, i) => (i % 97 === 50 ? 100 : Math.sin(i / 9)));
  const reduction = triangles(20);
  const left = cut(readings(values), [333, 500, 501]).flatMap((block) => reduction.push(block));
  const held = (reduction.save() as { series: { state: { full: unknown[]; filling: unknown[] } }[] }).series[0].state;
  assert.ok(held.full.length + held.filling.length < 40);
  const kept = eventsOf([...left, ...reduction.flush()]);
  assert.equal(
    kept.filter(({ values: { Pressure } }) => Pressure === 100).length,
    values.filter((v) => v === 100).length,
  );
  assert.ok(kept.length < 56);
});
