import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { SetClock, temporary } from "../../test/houses/edge.ts";
import { nextEpoch } from "./epoch.ts";

test("an epoch is seconds since 2020, and grows with every start whatever the clock does", (t) => {
  const directory = temporary(t);
  const clock = new SetClock(Date.UTC(2020, 0, 2));
  assert.equal(nextEpoch(directory, clock), 86_400);
  assert.equal(nextEpoch(directory, clock), 86_401, "twice within a second");
  clock.set(0);
  assert.equal(nextEpoch(directory, clock), 86_402, "the clock is at 1970");
  clock.set(Date.UTC(2020, 0, 3));
  assert.equal(nextEpoch(directory, clock), 172_800);
  clock.set(Date.UTC(2500, 0, 1));
  assert.equal(nextEpoch(directory, clock), 172_801, "a clock in the far future uses up no epochs");
  assert.equal(nextEpoch(directory, clock, "other") < 2 ** 32, true);
});

test("a file that is damaged or gone begins anew with the clock", (t) => {
  const directory = temporary(t);
  const clock = new SetClock(Date.UTC(2026, 0, 1));
  const first = nextEpoch(directory, clock);
  for (const damage of ["", "x", "-5\n", "99999999999999\n", "\0\0\0\0"]) {
    writeFileSync(join(directory, "epoch"), damage);
    assert.equal(nextEpoch(directory, clock), first, JSON.stringify(damage));
  }
  assert.equal(readFileSync(join(directory, "epoch"), "utf8"), `${first}\n`);
});
