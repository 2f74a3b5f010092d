/** The percentiles' promise: less than 1 % off, whatever the durations, and sums of sketches are sketches of sums. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { randomFrom } from "../fixture.ts";
import { classOf, middleOf, Sketch } from "./sketch.ts";
import { Summary } from "./summaries.ts";

const QUANTILES = [0, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1];

/** What the durations of different things look like. */
const SHAPES: Readonly<Record<string, (u: number) => number>> = {
  even: (u) => u * 1e6,
  "long tail": (u) => 300 / (1 - u) ** 0.9,
  normal: (u) => 5_000 + 800 * Math.sqrt(-2 * Math.log(1 - u)) * Math.cos(7 * u),
  "two kinds": (u) => (u < 0.7 ? 40 + u * 20 : 2e6 + u * 1e5),
  constant: () => 1_234_567,
  small: (u) => u * 300,
  ages: (u) => 10 ** (u * 15),
};

test("a percentile is less than 1 % off the exact one, for every shape of durations", () => {
  for (const [name, shape] of Object.entries(SHAPES)) {
    const random = randomFrom(5);
    const values = Array.from({ length: 20_000 }, () => Math.round(shape(random() / 2 ** 32))).sort((a, b) => a - b);
    const parts = [new Sketch(), new Sketch(), new Sketch()];
    values.forEach((value, i) => parts[i % 3].add(value));
    const sketch = new Sketch();
    for (const part of parts) sketch.merge(part);
    const told = sketch.quantiles(QUANTILES);
    QUANTILES.forEach((q, i) => {
      const exact = values[Math.max(0, Math.ceil(q * values.length) - 1)];
      assert.ok(Math.abs(told[i] - exact) <= exact * 0.004 + 1e-9, `${name} p${q * 100}: ${told[i]}, exactly ${exact}`);
    });
    assert.equal(told.at(-1), sketch.quantiles([1])[0]);
  }
});

test("every number is in one class, classes are in order, and none is wider than 1/128 of what is in it", () => {
  let before = -1;
  for (let octave = 0; octave < 53; octave++) {
    for (const value of [2 ** octave, 2 ** octave * 1.5, 2 ** (octave + 1) - 1].map(Math.floor)) {
      const at = classOf(value);
      assert.ok(at >= before, `${value}`);
      before = at;
      assert.ok(Math.abs(middleOf(at) - value) <= value / 256 + 0.5, `${value} in the class of ${middleOf(at)}`);
    }
  }
});

test("a summary comes back from its bytes, and made-up names do not make it grow without end", () => {
  const summary = new Summary();
  const span = { spanId: "00000000000000aa", startNs: 0n, status: 0 };
  for (let i = 0; i < 5_000; i++)
    summary.add({ ...span, service: "x", operation: `o${i}`, durationUs: i * i, status: i % 7 === 0 ? 500 : 0 });
  const back = Summary.decode(summary.encode());
  const tell = (s: Summary) =>
    [...s.actions].map(({ service, operation, errors, took }) => [
      service,
      operation,
      errors,
      took.count,
      took.max,
      ...took.quantiles(QUANTILES),
    ]);
  assert.deepEqual(tell(back), tell(summary));
  assert.ok(tell(back).length <= 1_025);
  assert.equal(
    [...back.actions].reduce((sum, { took }) => sum + took.count, 0),
    5_000,
  );
  assert.deepEqual(tell(Summary.decode(new Summary().encode())), []);
});
