import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Value } from "../../../kernel/events/model.ts";
import {
  blockOf,
  leaves,
  pressure,
  readings,
  SEED,
  single,
  stepsMs,
  valuesOf,
  walk,
} from "../../../../test/houses/reduction.ts";
import { makeReduction } from "./reduction.ts";

const resources = ["*"];
const door = (tolerance: number, silenceMsMax?: number) =>
  makeReduction({ function: "SwingingDoor", resources, tolerance, ...(silenceMsMax ? { silenceMsMax } : {}) });

/** The readings of one resource that are numbers, as points; in order of their arrival. */
const pointsOf = (rows: readonly { origin: bigint; value: Value; sequence: number }[]) =>
  rows.filter(({ value }) => typeof value === "number" && Number.isFinite(value));

/** Asserts that every original lies on the line between its neighbours that left; gives the largest distance. */
function assertOnLines(originals: ReturnType<typeof pointsOf>, left: ReturnType<typeof pointsOf>, tolerance: number) {
  let errorMax = 0;
  let next = 0;
  for (const { origin, value, sequence } of originals) {
    while (next < left.length && left[next].sequence < sequence) next++;
    if (left[next]?.sequence === sequence) continue;
    const [a, b] = [left[next - 1], left[next]];
    assert.ok(a && b, "a reading stays only between two that left");
    assert.ok(a.origin < origin && origin < b.origin, "time runs forward along a line");
    const share = Number(origin - a.origin) / Number(b.origin - a.origin);
    const line = (a.value as number) + share * ((b.value as number) - (a.value as number));
    const error = Math.abs((value as number) - line);
    assert.ok(error <= tolerance * (1 + 1e-9) + 1e-9, `${error} beside the line, ${tolerance} is allowed`);
    errorMax = Math.max(errorMax, error);
  }
  return errorMax;
}

test("every reading that stays lies within the tolerance of the line between those that left, for each resource, however time runs", () => {
  const value = fc.oneof(
    { weight: 12, arbitrary: fc.integer({ min: -80, max: 80 }).map((n) => n / 10) },
    fc.constantFrom<Value>(undefined, NaN, null),
  );
  const rows = fc.array(fc.record({ ms: stepsMs, values: fc.tuple(value, value) }), { minLength: 1, maxLength: 80 });
  fc.assert(
    fc.property(rows, fc.double({ min: 0, max: 12, noNaN: true }), (drawn, tolerance) => {
      const reduction = door(tolerance);
      const block = blockOf(pressure, drawn);
      const left = leaves(reduction, block);
      let errorMax = 0;
      ["Pressure", "Flow"].forEach((name, k) => {
        const originals = block.sequences.map((sequence, i) => ({
          sequence,
          origin: block.origins[i],
          value: block.columns[k][i],
        }));
        const sent = left.map(({ sequence, origin, values }) => ({ sequence, origin, value: values[name] }));
        errorMax = Math.max(errorMax, assertOnLines(pointsOf(originals), pointsOf(sent), tolerance));
      });
      assert.ok(Math.abs((reduction.report().errorMax as number) - errorMax) <= 1e-9);
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test("a straight line is its two ends, a corner is kept, and events leave in order", () => {
  const up = Array.from({ length: 100 }, (_, i) => i);
  assert.deepEqual(valuesOf(leaves(door(0), readings(up))), [0, 99]);
  assert.deepEqual(valuesOf(leaves(door(0.1), readings([...up, ...up.toReversed()]))), [0, 99, 99, 0]);
  fc.assert(
    fc.property(walk(), (values) => {
      const sequences = leaves(door(3), readings(values)).map(({ sequence }) => sequence);
      assert.deepEqual(
        sequences,
        [...new Set(sequences)].sort((a, b) => a - b),
      );
      assert.equal(sequences[0], 1);
      assert.equal(sequences.at(-1), values.length);
    }),
    { seed: SEED, numRuns: 100 },
  );
});

test("a line ends after its longest silence, and after its longest run", () => {
  const flat = readings(Array.from({ length: 1_000 }, () => 7));
  assert.equal(leaves(door(1), flat).length, 3, "the first, the one after 512 more, the last");
  const times = leaves(door(1, 60_000), flat).map(({ origin }) => Number(origin / 1_000_000n));
  for (let i = 1; i < times.length; i++) assert.ok(times[i] - times[i - 1] <= 60_000);
  assert.ok(times.length < 20);
});

test("equal times, and numbers near the end of all doubles, leave", () => {
  const twice = blockOf(single, [
    { ms: 1_000, values: [1] },
    { ms: 1_000, values: [1] },
    { ms: 0, values: [5] },
    { ms: 1_000, values: [5] },
  ]);
  assert.deepEqual(valuesOf(leaves(door(0.5), twice)), [1, 1, 5, 5]);
  assert.deepEqual(valuesOf(leaves(door(1), readings([1e308, -1e308, 1e308, 0]))), [1e308, -1e308, 1e308, 0]);
});
