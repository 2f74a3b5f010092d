import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { QUEUE_CLASSES, type QueueClass } from "../pacing/priority.ts";
import { FairShare, WAIT_REQUESTS_MAX } from "./share.ts";

const PRIORITY: { readonly [C in QueueClass]: number } = { high: 9, normal: 5, low: 0 };
const BYTES_MAX = 1_000;

test("while all wait each class gets bytes by its weight: two steps of priority are twice as much", () => {
  const share = new FairShare();
  const had = { high: 0, normal: 0, low: 0 };
  for (let i = 0; i < 10_000; i++) {
    const name = share.pick(QUEUE_CLASSES)!;
    share.sent(name, PRIORITY[name], BYTES_MAX);
    had[name]++;
  }
  assert.ok(Math.abs(had.high / had.normal / 4 - 1) < 0.02, `${had.high} to ${had.normal}`);
  assert.ok(Math.abs(had.normal / had.low / 2 ** 2.5 - 1) < 0.02, `${had.normal} to ${had.low}`);
});

test("no class waits for more than WAIT_REQUESTS_MAX largest requests of each other one, whatever comes when", () => {
  const step = fc.record({
    arrives: fc.array(fc.constantFrom(...QUEUE_CLASSES), { maxLength: 6 }),
    bytes: fc.integer({ min: 1, max: BYTES_MAX }),
    priority: fc.integer({ min: 0, max: 9 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
      const share = new FairShare();
      const waiting = { high: 0, normal: 0, low: 0 };
      /** Bytes that others had while a class waited. */
      const passed = new Map<string, number>();
      for (const { arrives, bytes, priority } of steps) {
        for (const name of arrives) waiting[name]++;
        const ready = QUEUE_CLASSES.filter((name) => waiting[name] > 0);
        const name = share.pick(ready);
        if (!name) continue;
        waiting[name]--;
        share.sent(name, priority, bytes);
        for (const other of QUEUE_CLASSES) {
          passed.delete(`${name} for ${other}`);
          if (other === name || waiting[other] === 0) continue;
          const key: string = `${other} for ${name}`;
          passed.set(key, (passed.get(key) ?? 0) + bytes);
          assert.ok(passed.get(key)! <= BYTES_MAX * WAIT_REQUESTS_MAX, key);
        }
      }
    }),
    { seed: 7, numRuns: 300 },
  );
  const share = new FairShare();
  share.sent("low", 0, BYTES_MAX);
  const counts = { high: 0, normal: 0 };
  for (let name = share.pick(QUEUE_CLASSES)!; name !== "low"; name = share.pick(QUEUE_CLASSES)!) {
    share.sent(name, 9, BYTES_MAX);
    counts[name]++;
  }
  assert.ok(Math.max(counts.high, counts.normal) <= WAIT_REQUESTS_MAX, JSON.stringify(counts));
  assert.ok(counts.high >= WAIT_REQUESTS_MAX - 2, "the bound is no wider than it need be");
});

test("who had nothing to send for long gets no more than its share when it is back", () => {
  const share = new FairShare();
  for (let i = 0; i < 1_000; i++) share.sent("normal", 5, BYTES_MAX);
  let inRow = 0;
  while (share.pick(["normal", "low"]) === "low") {
    share.sent("low", 5, BYTES_MAX);
    inRow++;
  }
  assert.ok(inRow <= 2, `${inRow} in a row`);
});
