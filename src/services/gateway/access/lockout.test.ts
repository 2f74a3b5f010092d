/** Who fails waits, longer each time; who shares an address with them goes on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../../kernel/clock.ts";
import { Lockout } from "./lockout.ts";

function setUp() {
  const turned = { ms: 0 };
  const lockout = new Lockout({ ...systemClock, monotonicMs: () => turned.ms });
  /** Goes on trying as soon as it may, for so long; counts the tries. */
  const hammer = (client: string, who: (n: number) => string | undefined, forMs: number): number => {
    const endMs = turned.ms + forMs;
    let tries = 0;
    while (turned.ms < endMs) {
      const waitMs = lockout.waitMs(client, who(tries));
      if (waitMs > 0) turned.ms += waitMs;
      else lockout.failed(client, who(tries++));
    }
    return tries;
  };
  return { lockout, turned, hammer };
}

test("five wrong tries of one name cost nothing, then the waits double up to a quarter of an hour", () => {
  const { lockout, turned } = setUp();
  const waits: number[] = [];
  for (let i = 0; i < 20; i++) {
    lockout.failed("a", "ann");
    waits.push(lockout.waitMs("a", "ann"));
    turned.ms += waits[i];
  }
  assert.deepEqual(waits.slice(0, 8), [0, 0, 0, 0, 1_000, 2_000, 4_000, 8_000]);
  assert.equal(Math.max(...waits), 900_000);
  turned.ms += 1_800_000;
  lockout.failed("a", "ann");
  assert.equal(lockout.waitMs("a", "ann"), 0, "after half an hour of quiet it is forgotten");
});

test("one client that never stops does not lock out those behind the same address", () => {
  const { lockout, turned, hammer } = setUp();
  const tries = hammer("nat", () => "broken", 3_600_000);
  assert.ok(tries < 25, `${tries} tries in an hour`);
  turned.ms += 1;
  assert.ok(lockout.waitMs("nat", "stranger") <= 60_000, "a new one waits a minute at most");
  assert.equal(lockout.waitMs("elsewhere", "broken"), 0, "nobody is locked out by his name");
});

test("who guesses under many names spends the address's tries; who came in from there before passes all the same", () => {
  const { lockout, hammer } = setUp();
  lockout.succeeded("nat", "ann");
  const tries = hammer("nat", (n) => `guess ${n}`, 3_600_000);
  assert.ok(tries >= 20 && tries < 100, `${tries} tries in an hour`);
  lockout.failed("nat", "guess");
  const waitMs = lockout.waitMs("nat", "bob");
  assert.ok(waitMs > 0 && waitMs <= 60_000);
  assert.ok(lockout.waitMs("nat") > 0);
  assert.equal(lockout.waitMs("nat", "ann"), 0);
  for (let i = 0; i < 5; i++) lockout.failed("nat", "ann");
  assert.ok(lockout.waitMs("nat", "ann") > 0, "but a name that is known is no way around it");
});

test("whoever comes in has no failures any more; those of the address stay", () => {
  const { lockout } = setUp();
  for (let i = 0; i < 25; i++) lockout.failed("a", `x${i % 3}`);
  lockout.succeeded("a", "x1");
  assert.equal(lockout.waitMs("a", "x1"), 0);
  assert.ok(lockout.waitMs("a", "new") > 0);
});

test("what is remembered is bounded", () => {
  const { lockout } = setUp();
  for (let i = 0; i < 20_000; i++) {
    lockout.failed(`client ${i}`, "x");
    lockout.succeeded(`client ${i}`, "y");
  }
  assert.equal(lockout.size, 3 * 16_384);
});
