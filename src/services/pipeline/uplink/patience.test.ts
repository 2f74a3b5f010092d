import assert from "node:assert/strict";
import { test } from "node:test";
import { Patience } from "./patience.ts";

test("a link that is known to be fast is given up soon, whatever it was to carry", () => {
  const patience = new Patience();
  patience.answered(100_000, 100);
  assert.ok(patience.limitMs(1_048_576) < 40_000);
});

test("a link that turns slow gets a large request through after a few in vain, down to 64 bytes a second", () => {
  const patience = new Patience();
  patience.answered(1_048_576, 100);
  for (const bytesPerS of [10_000, 1_000, 64]) {
    let inVain = 0;
    for (; patience.limitMs(30_000) < (30_000 * 1000) / bytesPerS; inVain++) patience.inVain();
    assert.ok(inVain <= 6, `${inVain} in vain at ${bytesPerS} bytes/s`);
  }
  for (let n = 0; n < 20; n++) patience.inVain();
  assert.ok(patience.limitMs(0) < 500_000, "there is an end to it");
});

test("small requests say nothing of how fast a link is", () => {
  const patience = new Patience();
  const before = patience.limitMs(10_000);
  patience.answered(100, 5_000);
  assert.equal(patience.limitMs(10_000), before);
});
