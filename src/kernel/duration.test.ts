import assert from "node:assert/strict";
import { test } from "node:test";
import { parseDurationMs } from "./duration.ts";

test("durations are read as Go writes them", () => {
  for (const [text, ms] of [
    ["500ms", 500],
    ["10s", 10_000],
    ["1h30m", 5_400_000],
    ["1.5s", 1_500],
    ["100us", 0.1],
    ["2µs", 0.002],
    ["1m0.5s", 60_500],
  ] as const)
    assert.equal(parseDurationMs(text), ms, text);
});

test("what is no duration is refused, and so is one of nothing, of less, or of a century", () => {
  for (const text of ["", "10", "s", "-5s", "1e3s", "10 s", "1d", "0s", "0h0m", "1s!", "9999999h", "١s", "1.s", ".5s"])
    assert.throws(() => parseDurationMs(text), { code: "DURATION_INVALID" }, text);
});
