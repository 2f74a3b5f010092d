import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { defaultsOf } from "../destinations/fixture.ts";
import { ASKED_MS_MAX, Breaker } from "./breaker.ts";
import { Budget } from "./budget.ts";
import { Pace, type WindowConfig } from "./config.ts";
import { HandClock } from "./fixture.ts";
import { LOOK_AGAIN_MS, Pacer } from "./pacer.ts";
import { BURST_S, Rate } from "./rate.ts";
import { Uplinks } from "./uplinks.ts";
import { Windows } from "./windows.ts";

const RUNS = { seed: 20_261_124, numRuns: 200 };
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOON = "2026-11-24T12:00:00Z";

test("whoever waits as told never sends faster than the rate, but for a second's worth and the last request", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 5_000_000 }), idleMs: fc.nat(5_000) }), {
        minLength: 1,
        maxLength: 50,
      }),
      (bytesPerS, requests) => {
        const clock = new HandClock(NOON);
        const rate = new Rate(clock, bytesPerS);
        const startMs = clock.mono;
        let sent = 0;
        for (const { bytes, idleMs } of requests) {
          clock.pass(idleMs);
          clock.pass(rate.waitMs());
          assert.equal(rate.waitMs(), 0, "a wait is long enough");
          const allowed = bytesPerS * (BURST_S + (clock.mono - startMs) / 1_000) + 0.01;
          assert.ok(sent <= allowed, `${sent} bytes before this request, ${allowed} allowed`);
          rate.spend(bytes);
          sent += bytes;
        }
      },
    ),
    RUNS,
  );
});

test("a rate is used up: nobody waits while a second's worth is unused", () => {
  const clock = new HandClock(NOON);
  const rate = new Rate(clock, 1_000);
  rate.spend(999);
  assert.equal(rate.waitMs(), 0);
  rate.spend(4_001);
  assert.equal(rate.waitMs(), 4_000);
});

test("the breaker opens after five failures, lets one probe through, and closes when it succeeds", () => {
  const clock = new HandClock(NOON);
  const breaker = new Breaker(clock, () => 1);
  for (let n = 1; n <= 4; n++) {
    breaker.failed();
    assert.equal(breaker.state, "closed");
    assert.equal(breaker.leave().waitMs, 250 * 2 ** (n - 1));
    clock.pass(breaker.leave().waitMs);
  }
  breaker.failed();
  assert.equal(breaker.state, "open");
  assert.deepEqual(breaker.leave(), { waitMs: 2_000, isProbe: true });
  clock.pass(2_000);
  assert.deepEqual(breaker.leave(), { waitMs: 0, isProbe: true });
  assert.equal(breaker.state, "half-open");
  breaker.failed();
  assert.equal(breaker.leave().waitMs, 4_000);
  for (let n = 0; n < 100; n++) breaker.failed();
  assert.equal(breaker.leave().waitMs, 60_000);
  breaker.retryNow();
  assert.deepEqual(breaker.leave(), { waitMs: 0, isProbe: true });
  breaker.succeeded();
  assert.deepEqual(breaker.leave(), { waitMs: 0, isProbe: false });
});

test("a destination that says when it wants to be asked again is obeyed, within an hour", () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat(10_000_000),
      fc.nat(50),
      (drawn, askedMs, failures) => {
        const breaker = new Breaker(new HandClock(NOON), () => drawn);
        for (let n = 0; n < failures; n++) breaker.failed();
        breaker.failed(askedMs);
        const { waitMs } = breaker.leave();
        const asked = Math.min(askedMs, ASKED_MS_MAX);
        assert.ok(waitMs >= asked - 1e-6 && waitMs <= asked + 60_000 + 1e-6);
      },
    ),
    RUNS,
  );
});

test("waits are drawn evenly from nothing to the bound", () => {
  let [n, seed] = [0, 42];
  const random = () => ((seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31), seed / 2 ** 31);
  const tenths = new Array<number>(10).fill(0);
  for (; n < 10_000; n++) {
    const breaker = new Breaker(new HandClock(NOON), random);
    breaker.failed();
    tenths[Math.floor(breaker.leave().waitMs / 25)]++;
  }
  for (const count of tenths) assert.ok(count > 800 && count < 1_200, tenths.join(" "));
});

const budgetOf = (
  clock: HandClock,
  config: Partial<ConstructorParameters<typeof Budget>[0]["config"]>,
  zone = "UTC",
  spent = {},
) => new Budget({ clock, config: { bytesMax: 1_000, per: "day", startDay: 1, ...config }, zone, spent });

test("a spent budget waits for the next day, to the second, in the zone that is said", () => {
  for (const [zone, at, waitH] of [
    ["UTC", NOON, 12],
    ["Europe/Berlin", NOON, 11],
    ["Asia/Kolkata", NOON, 6.5],
    // The day on which the clocks are put back has 25 hours, the one on which they are put forward 23.
    ["Europe/Berlin", "2026-10-24T22:00:00Z", 25],
    ["Europe/Berlin", "2026-03-28T23:00:00Z", 23],
  ] as const) {
    const clock = new HandClock(at);
    const budget = budgetOf(clock, {}, zone);
    assert.equal(budget.waitMs(), 0);
    budget.spend(1_000);
    assert.ok(Math.abs(budget.waitMs() - waitH * HOUR) <= 1_000, `${zone} ${at}: ${budget.waitMs() / HOUR} h`);
    clock.pass(budget.waitMs());
    assert.equal(budget.waitMs(), 0);
    assert.equal(budget.leftBytes, 1_000);
  }
});

test("a month begins on the day of the bill", () => {
  const clock = new HandClock("2026-12-31T23:00:00Z");
  const budget = budgetOf(clock, { per: "month", startDay: 15 });
  budget.spend(1_500);
  assert.equal(budget.leftBytes, -500);
  clock.pass(2 * HOUR);
  assert.equal(budget.leftBytes, -500, "New Year is no new month");
  assert.ok(Math.abs(clock.wall + budget.waitMs() - Date.parse("2027-01-15T00:00:00Z")) <= 1_000);
  clock.pass(budget.waitMs());
  assert.equal(budget.leftBytes, 1_000);
});

test("no period is paid twice: not over restarts, nor with a clock that is set ten years forward and back", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 500 }), day: fc.nat(3), isRestarted: fc.boolean() }), {
        maxLength: 60,
      }),
      (steps) => {
        const clock = new HandClock(NOON);
        let budget = budgetOf(clock, {});
        const sent = new Map<number, number>();
        for (const { bytes, day, isRestarted } of steps) {
          clock.wall = Date.parse(NOON) + (day === 3 ? 3_650 : day) * DAY;
          if (isRestarted) budget = budgetOf(clock, {}, "UTC", JSON.parse(JSON.stringify(budget.save())) as object);
          if (budget.waitMs() > 0) continue;
          budget.spend(bytes);
          sent.set(day, (sent.get(day) ?? 0) + bytes);
        }
        for (const bytes of sent.values()) assert.ok(bytes < 1_000 + 500);
      },
    ),
    RUNS,
  );
});

const windowsOf = (clock: HandClock, windows: WindowConfig[], zone = "UTC") => new Windows({ clock, windows, zone });

test("a window is open from its minute on for as long as it is said, in its zone", () => {
  const clock = new HandClock("2026-11-24T01:59:59.999Z");
  const windows = windowsOf(clock, [{ cron: "0 2 * * *", durationMs: HOUR }]);
  assert.equal(windows.waitMs(), 1);
  assert.equal(windows.openMs(), 0);
  clock.pass(1);
  assert.equal(windows.waitMs(), 0);
  assert.equal(windows.openMs(), HOUR);
  clock.pass(HOUR - 1);
  assert.equal(windows.openMs(), 1);
  clock.pass(1);
  assert.equal(windows.openMs(), 0);
  assert.equal(windows.waitMs(), 23 * HOUR);
  const berlin = windowsOf(
    new HandClock("2026-11-24T01:00:00Z"),
    [{ cron: "0 2 * * *", durationMs: HOUR }],
    "Europe/Berlin",
  );
  assert.equal(berlin.openMs(), HOUR);
});

test("windows that overlap or touch are one", () => {
  const clock = new HandClock("2026-11-24T02:30:00Z");
  const windows = windowsOf(clock, [
    { cron: "0 2 * * *", durationMs: HOUR },
    { cron: "0 3 * * *", durationMs: HOUR },
    { cron: "30 3 * * *", durationMs: 2 * HOUR },
  ]);
  assert.equal(windows.openMs(), 3 * HOUR);
  assert.equal(windowsOf(clock, [{ cron: "*/10 * * * *", durationMs: 660_000 }]).waitMs(), 0);
});

test("whoever waits as told finds a window open, whatever the windows", () => {
  const window = fc.record({
    cron: fc.tuple(fc.nat(59), fc.nat(23), fc.constantFrom("*", "1", "1-5")).map(([m, h, d]) => `${m} ${h} * * ${d}`),
    durationMs: fc.integer({ min: 60_000, max: DAY }),
  });
  fc.assert(
    fc.property(fc.array(window, { minLength: 1, maxLength: 3 }), fc.nat(7 * DAY), (config, offsetMs) => {
      const clock = new HandClock(Date.parse(NOON) + offsetMs);
      const windows = windowsOf(clock, config);
      clock.pass(windows.waitMs());
      assert.equal(windows.waitMs(), 0);
      assert.ok(windows.openMs() > 0);
    }),
    { ...RUNS, numRuns: 25 },
  );
});

test("a pattern or a zone that is none is refused at once, and one that never comes waits for ever", () => {
  const clock = new HandClock(NOON);
  assert.throws(() => windowsOf(clock, [{ cron: "61 * * * *", durationMs: HOUR }]));
  assert.throws(() => windowsOf(clock, [{ cron: "0 2 * * *", durationMs: HOUR }], "Nowhere/There"));
  assert.throws(() => budgetOf(clock, {}, "Nowhere/There"));
  assert.equal(windowsOf(clock, [{ cron: "0 0 31 2 *", durationMs: HOUR }]).waitMs(), Number.POSITIVE_INFINITY);
});

test("window and budget yield to the overriding priority, the rate to nobody", () => {
  const clock = new HandClock(NOON);
  const pace = defaultsOf(Pace, {
    windows: [{ cron: "0 2 * * *", durationMs: HOUR }],
    budget: { bytesMax: 100 },
    rateBytesPerS: 50,
    overridePriority: 8,
  });
  const pacer = new Pacer({ clock, pace });
  assert.deepEqual(pacer.turn(8), { waitMs: 0 });
  assert.deepEqual(pacer.turn(7), { waitMs: LOOK_AGAIN_MS, hold: "window" });
  clock.wall = Date.parse("2026-11-25T02:00:00Z");
  assert.deepEqual(pacer.turn(7), { waitMs: 0 });
  pacer.spend(100);
  assert.deepEqual(pacer.turn(8), { waitMs: 1_000, hold: "rate" });
  clock.pass(1_000);
  assert.deepEqual(pacer.turn(8), { waitMs: 0 });
  assert.deepEqual(pacer.turn(7), { waitMs: LOOK_AGAIN_MS, hold: "budget" });
  assert.equal(pacer.leftBytes, 0);
  const again = new Pacer({ clock, pace, spent: pacer.save()! });
  assert.equal(again.turn(7).hold, "budget");
  assert.deepEqual(new Pacer({ clock, pace: defaultsOf(Pace, {}) }).turn(0), { waitMs: 0 });
});

test("the cheapest way that works is taken, and taken back after two probes in a row", () => {
  const clock = new HandClock(NOON);
  const ways = new Uplinks(clock, 3);
  assert.deepEqual([ways.failed(), ways.failed(), ways.current], [false, false, 0]);
  assert.equal(ways.failed(), true);
  assert.equal(ways.current, 1);
  assert.equal(ways.probeDue(), undefined);
  assert.equal(ways.probeInMs(), 30_000);
  clock.pass(30_000);
  assert.equal(ways.probeDue(), 0);
  assert.equal(ways.probed(0, false), false);
  assert.equal(ways.probeInMs(), 60_000);
  clock.pass(60_000);
  assert.equal(ways.probed(0, true), false, "once may be luck");
  clock.pass(ways.probeInMs());
  assert.equal(ways.probeDue(), 0);
  assert.equal(ways.probed(0, true), true);
  assert.deepEqual([ways.current, ways.switches], [0, 2]);
});

test("with all ways down they are tried one after the other, and a single way is never left", () => {
  const clock = new HandClock(NOON);
  const ways = new Uplinks(clock, 2);
  const seen = new Set<number>();
  for (let n = 0; n < 20; n++) {
    seen.add(ways.current);
    ways.failed();
    clock.pass(1_000);
  }
  assert.deepEqual(
    [...seen].toSorted((a, b) => a - b),
    [0, 1],
  );
  const only = new Uplinks(clock, 1);
  for (let n = 0; n < 10; n++) assert.equal(only.failed(), false);
  assert.equal(only.current, 0);
  assert.equal(only.probeInMs(), Number.POSITIVE_INFINITY);
});

test("a dearer way is never kept while the cheapest is found to work", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 100 }), (works) => {
      const clock = new HandClock(NOON);
      const ways = new Uplinks(clock, 3);
      for (const isUp of works) {
        clock.pass(15_000);
        const probe = ways.probeDue();
        if (probe !== undefined) ways.probed(probe, isUp);
        if (isUp) ways.succeeded();
        else ways.failed();
      }
      // From now on all is well: within the longest pause between probes, and two of them, it is back.
      for (let n = 0; n < 2 * (900_000 / 15_000 + 4); n++) {
        clock.pass(15_000);
        const probe = ways.probeDue();
        if (probe !== undefined) ways.probed(probe, true);
        ways.succeeded();
      }
      assert.equal(ways.current, 0);
    }),
    RUNS,
  );
});
