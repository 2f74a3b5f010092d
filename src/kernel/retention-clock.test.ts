import assert from "node:assert/strict";
import { test } from "node:test";
import { SetClock } from "../../test/houses/edge.ts";
import { RetentionClock } from "./retention-clock.ts";

const DAY_MS = 86_400_000;
const start = Date.UTC(2026, 0, 1);

test("it follows the wall clock as long as that goes on evenly", () => {
  const clock = new SetClock(start);
  const retention = new RetentionClock(clock, undefined);
  assert.equal(retention.nowMs(), start);
  clock.pass(DAY_MS);
  assert.equal(retention.nowMs(), start + DAY_MS);
});

test("a wall clock that jumps ten years ahead carries it off by no more than ten times the time that went by", () => {
  const clock = new SetClock(start);
  const retention = new RetentionClock(clock, undefined);
  clock.set(start + 3_650 * DAY_MS);
  assert.equal(retention.nowMs(), start);
  clock.pass(60_000);
  assert.equal(retention.nowMs(), start + 600_000);
  clock.set(start + 120_000);
  clock.pass(60_000);
  assert.equal(retention.nowMs(), start + 660_000, "back again: it goes on as time does");
});

test("a wall clock that is set back makes nothing stay for ever", () => {
  const clock = new SetClock(start);
  const retention = new RetentionClock(clock, undefined);
  clock.set(0);
  clock.pass(DAY_MS);
  assert.equal(retention.nowMs(), start + DAY_MS);
});

test("a node that was off counts the time, a week at once and the rest bit by bit", () => {
  const clock = new SetClock(start + 3 * DAY_MS);
  assert.equal(new RetentionClock(clock, start).nowMs(), start + 3 * DAY_MS);
  clock.set(start + 3_650 * DAY_MS);
  const retention = new RetentionClock(clock, start);
  assert.equal(retention.nowMs(), start + 7 * DAY_MS);
  clock.pass(1_000);
  assert.equal(retention.nowMs(), start + 7 * DAY_MS + 10_000);
  assert.equal(new RetentionClock(new SetClock(0), start).nowMs(), start, "started with the clock at 1970");
});
