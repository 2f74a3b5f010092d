import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Value } from "../events/model.ts";
import { Failure } from "../error.ts";
import { decodeColumn, encodeColumn } from "./column.ts";

const SEED = 20260801;
const comesBack = (values: Value[]) => {
  const bytes = encodeColumn(values);
  assert.deepEqual(decodeColumn(bytes, values.length), values);
  return bytes.length;
};

/** Numbers that one random walk, seeded, gives. */
function* walk(seed: number): Generator<number> {
  let state = seed;
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}
const series = (count: number, seed: number, next: (random: number, i: number, before: number) => number): number[] => {
  const random = walk(seed);
  const values: number[] = [];
  for (let i = 0; i < count; i++) values.push(next(random.next().value as number, i, values[i - 1] ?? 0));
  return values;
};

const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ unit: "binary" }),
    fc.boolean(),
    fc.constant(null),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 70n }),
    tie("object"),
    tie("array"),
  ),
  object: fc.dictionary(fc.string(), tie("value"), { maxKeys: 4, noNullPrototype: true }),
  array: fc.array(tie("value"), { maxLength: 4 }),
}));
const nasty: fc.Arbitrary<Value> = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.bigInt(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.constantFrom<Value>(
    -0,
    0,
    NaN,
    Infinity,
    -Infinity,
    Number.MAX_VALUE,
    Number.MIN_VALUE,
    -5e-324,
    2 ** 53,
    -(2 ** 53),
    2 ** 50,
    0.1 + 0.2,
    1e22,
    1e23,
    1e-7,
    31.563000000000002,
    null,
    undefined,
    true,
    false,
    "",
    "-0",
    "-0.00",
    "12.50",
    "1e3",
    "NaN",
    "00012",
    "+5",
    "\ud800",
    "\udc00a",
    "𝄞",
  ),
  fc.double().map((x) => Math.fround(x)),
  fc.double({ min: -1000, max: 1000 }).map((x) => Number(x.toFixed(3))),
  fc.double({ min: -1000, max: 1000, noNaN: true }).map((x) => x.toFixed(2)),
  fc.integer().map(String),
  fc.string({ unit: "binary" }),
  fc.uint8Array({ maxLength: 40 }),
  json.object as fc.Arbitrary<Value>,
  json.array as fc.Arbitrary<Value>,
);

test("any values come back as they were, in any mixture", () => {
  fc.assert(
    fc.property(fc.array(nasty, { minLength: 1, maxLength: 60 }), (values) => void comesBack(values)),
    { seed: SEED, numRuns: 2000 },
  );
});

test("columns of one kind with some odd values come back", () => {
  const mostly = [
    fc.integer({ min: -5, max: 5 }),
    fc.double(),
    fc.double().map((x) => Number(x.toPrecision(7))),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.constantFrom("on", "off", "standby"),
    fc.boolean(),
    fc.double({ noNaN: true, min: -1e6, max: 1e6 }).map((x) => x.toFixed(2)),
  ];
  const column = fc.constantFrom(...mostly).chain((usual) =>
    fc.array(fc.oneof({ weight: 20, arbitrary: usual as fc.Arbitrary<Value> }, { weight: 1, arbitrary: nasty }), {
      minLength: 1,
      maxLength: 400,
    }),
  );
  fc.assert(
    fc.property(column, (values) => void comesBack(values)),
    { seed: SEED, numRuns: 600 },
  );
});

test("long columns of every shape come back, over the borders of segments", () => {
  const shapes: ((random: number, i: number, before: number) => number)[] = [
    (r, _, b) => b + r - 0.5,
    (r) => r,
    (_, i) => i,
    (_, i) => i * i,
    (_, i) => i % 7,
    (r) => Math.floor(r * 300),
    (r) => (r < 0.001 ? 1e15 : 3),
    (_, i) => Math.round(1e6 * Math.sin(i / 50)) / 1e4,
    (r, i) => (i > 4000 ? r * 1e300 : Math.round(r * 10)),
    (r) => 2 ** Math.floor(r * 50) * (r < 0.5 ? -1 : 1),
    (r, _, b) => (r < 0.02 ? Math.round(r * 1e5) : b),
    (_, i) => Math.fround(Math.sin(i)),
  ];
  for (const count of [2, 15, 16, 17, 1000, 4095, 4096, 4097, 9000])
    for (const shape of shapes) comesBack(series(count, SEED, shape));
});

test("numbers take few bytes: constants, counters, levels, cycles, decimals and noise of sums", () => {
  const n = 1000;
  assert.ok(comesBack(series(n, 1, () => 21.5)) < 8);
  assert.ok(comesBack(series(n, 1, (_, i) => 1e6 + i * 4096)) < 16);
  assert.ok(comesBack(series(n, 1, (r, _, b) => (r < 0.01 ? Math.round(r * 1e4) : b))) < 100);
  assert.ok(comesBack(series(n, 1, (_, i) => [1, 5, 2, 9, 9, 3][i % 6])) < 60);
  const walkOf = series(n, 1, (r, _, b) => Math.round(b * 100 + (r - 0.5) * 20) / 100 + 0);
  assert.ok(comesBack(walkOf) < n * 0.62);
  // A sum of decimals misses the decimal by an ulp or two: a few bits, not eight bytes.
  assert.ok(comesBack(walkOf.map((x, i) => (i % 5 === 0 ? x * 3 * (1 / 3) : x))) < n * 0.75);
});

test("a column of decimal texts takes about what the numbers take", () => {
  const numbers = series(1000, 7, (r, _, b) => Math.round(b * 100 + (r - 0.5) * 50) / 100);
  const asNumbers = comesBack(numbers);
  for (const print of [
    String,
    (x: number) => x.toFixed(2),
    (x: number) => (Number.isInteger(x) ? `${x}.0` : String(x)),
  ]) {
    const size = comesBack(numbers.map(print));
    assert.ok(size < asNumbers * 1.1 + 50, `${size} bytes against ${asNumbers}`);
  }
});

test("a few odd values do not spoil a column", () => {
  const plain = series(1000, 3, (r, _, b) => Math.round(b * 10 + (r - 0.5) * 20) / 10);
  const usual = comesBack(plain);
  const odd: Value[] = [...plain];
  odd[100] = NaN;
  odd[200] = -0;
  odd[300] = 1.7340000000000004;
  odd[400] = null;
  odd[500] = undefined;
  odd[600] = "12.34x";
  odd[700] = 2n ** 60n;
  assert.ok(comesBack(odd) < usual + 160);
});

test("texts that repeat take little, also with half pairs of surrogates", () => {
  assert.ok(comesBack(series(1000, 5, (r) => Math.floor(r * 3)).map((n) => ["running", "stopped", "fault"][n])) < 260);
  comesBack(["\ud800", "\udc00", "a\ud83d", "\ude00b", "", "😀"]);
  comesBack(Array.from({ length: 3000 }, (_, i) => `message number ${i} of many`));
});

test("bytes that no writer wrote are refused, and nothing else happens", () => {
  const random = walk(SEED);
  const columns: Value[][] = [
    series(300, 1, (r, _, b) => b + Math.round(r * 9)),
    series(300, 2, (r) => r),
    ["a", "b", "a", "b", "a"],
    [1n << 60n, 1n << 61n, 5n],
    series(40, 2, (r) => Math.floor(r * 4)),
    [{ a: 1 }, [2], new Uint8Array(9), true, false, null, undefined, "12.5", 3],
  ];
  for (const values of columns) {
    const bytes = encodeColumn(values);
    for (let round = 0; round < 1500; round++) {
      const bad = bytes.slice(
        0,
        round % 3 === 0 ? Math.floor((random.next().value as number) * bytes.length) : bytes.length,
      );
      for (let k = 0; k <= round % 4; k++)
        bad[Math.floor((random.next().value as number) * bad.length)] = Math.floor(
          (random.next().value as number) * 256,
        );
      try {
        assert.equal(decodeColumn(bad, values.length).length, values.length);
      } catch (error) {
        assert.ok(error instanceof Failure && error.code === "EVENTS_MALFORMED", String(error));
      }
    }
  }
});
