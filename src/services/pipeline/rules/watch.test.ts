import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Value } from "../../../kernel/events/model.ts";
import type { RuleDefinition, When } from "./definition.ts";
import { Watch } from "./watch.ts";

type Options = Partial<Pick<RuleDefinition, "forMs" | "holdOffMs">>;

/** A watch of readings; `acted` are those that it acted on. */
function watching(t: TestContext, when: When, options: Options = {}) {
  let nowMs = 0;
  const acted: Value[] = [];
  const rest = { devices: [], profiles: [], resource: "T", forMs: 0, holdOffMs: 0, ...options };
  const watch = new Watch<Value>({
    definition: { ...rest, when },
    monotonicMs: () => nowMs,
    act: (value) => acted.push(value),
  });
  t.after(() => watch.close());
  return {
    watch,
    acted,
    pass: (ms: number) => (nowMs += ms),
    see: (...values: Value[]) => {
      for (const value of values)
        watch.see(
          "d",
          value,
          () => ({ values: { T: value } }),
          () => value,
        );
    },
  };
}

test("a rule acts when its condition comes to hold, once, and again after it did not hold", (t) => {
  const { acted, see } = watching(t, { above: 80 });
  see(79, 81, 90, 80, 81.5, 100);
  assert.deepEqual(acted, [81, 81.5]);
});

test("with hysteresis it holds on until the value is back by so much: a value that trembles acts once", (t) => {
  const above = watching(t, { above: 80, hysteresis: 5 });
  above.see(81, 79, 81, 76, 82, 75, 81);
  assert.deepEqual(above.acted, [81, 81]);
  const below = watching(t, { below: 10, hysteresis: 2 });
  below.see(9, 11, 9, 12, 9.5);
  assert.deepEqual(below.acted, [9, 9.5]);
});

test("holdOffMs keeps it from acting too often, forMs from acting too soon", async (t) => {
  const off = watching(t, { above: 1 }, { holdOffMs: 1_000 });
  off.see(2, 0, 2);
  off.pass(999);
  off.see(0, 3);
  off.pass(1);
  off.see(0, 4);
  assert.deepEqual(off.acted, [2, 4]);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const held = watching(t, { above: 1 }, { forMs: 100 });
  held.see(2);
  t.mock.timers.tick(99);
  held.see(3);
  assert.deepEqual(held.acted, []);
  t.mock.timers.tick(1);
  assert.deepEqual(held.acted, [3], "with the last reading");
  held.see(0, 5);
  t.mock.timers.tick(50);
  held.see(0);
  t.mock.timers.tick(100);
  assert.deepEqual(held.acted, [3], "it did not hold for so long");
});

test("values are compared as what they are: texts of numbers, large integers, Bool, text; what is no number is beyond no limit", (t) => {
  const above = watching(t, { above: 10 });
  above.see("abc", null, "", true, { a: 1 }, Number.NaN);
  assert.deepEqual(above.acted, []);
  above.see("11.50");
  above.see(0, 2n ** 63n);
  assert.deepEqual(above.acted, ["11.50", 2n ** 63n]);
  const is = watching(t, { equals: true });
  is.see(1, "true", true);
  assert.deepEqual(is.acted, [true]);
  const text = watching(t, { equals: "open" });
  text.see("closed", "open");
  assert.deepEqual(text.acted, ["open"]);
});

test("a condition may be JSONLogic over the event; each device has a state of its own, and few are forgotten", (t) => {
  const logic = watching(t, { logic: { and: [{ ">": [{ var: "values.T" }, 1] }, { "<": [{ var: "values.T" }, 5] }] } });
  logic.see(0, 2, 3, 7, 4);
  assert.deepEqual(logic.acted, [2, 4]);
  const { watch } = watching(t, { above: 1 });
  const see = (device: string, value: number) =>
    watch.see(
      device,
      value,
      () => ({}),
      () => value,
    );
  for (let n = 0; n < 5_000; n++) see(`d${n}`, 2);
  assert.equal(watch.active, 4_096);
});
