import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff, STABLE_MS } from "./backoff.ts";

function turned() {
  let nowMs = 0;
  return {
    clock: { monotonicMs: () => nowMs, wallMs: () => 0, wallNs: () => 0n },
    turn: (ms: number) => (nowMs += ms),
  };
}

test("each end waits up to twice as long as the one before, up to half a minute", () => {
  const { clock } = turned();
  const backoff = new Backoff(clock, () => 1);
  assert.deepEqual(
    Array.from({ length: 11 }, () => backoff.ended()),
    [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000],
  );
  assert.equal(backoff.looping, true);
});

test("the wait is drawn from nothing to the most, so that what fell together does not rise together", () => {
  const { clock } = turned();
  assert.equal(new Backoff(clock, () => 0).ended(), 0);
  assert.equal(new Backoff(clock, () => 0.5).ended(), 50);
});

test("a life of half a minute forgives the ends before it", () => {
  const { clock, turn } = turned();
  const backoff = new Backoff(clock, () => 1);
  for (let n = 0; n < 5; n++) backoff.ended();
  backoff.started();
  turn(STABLE_MS);
  assert.equal(backoff.ended(), 100);
  assert.equal(backoff.looping, false);
});
