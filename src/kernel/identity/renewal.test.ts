import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../clock.ts";
import { keepRenewed, type RenewalOptions, watchClockJump } from "./renewal.ts";
import type { Certificate } from "./tls.ts";

const certificate: Certificate = { certPem: "c", keyPem: "k" };
/** Real time that can be set: what is added to the wall clock is the jump. */
const jumpy = () => {
  const clock = { ...systemClock, addedMs: 0, wallMs: () => systemClock.wallMs() + clock.addedMs };
  return clock;
};

/** Runs a renewal until `stop` says so, and tells when each attempt came, in milliseconds since the start. */
async function attempts(
  options: Partial<RenewalOptions> & { stop: (count: number) => boolean; fails?: (count: number) => boolean },
): Promise<{ atMs: number[]; taken: number }> {
  const ending = new AbortController();
  const startMs = performance.now();
  const atMs: number[] = [];
  let taken = 0;
  const renew = async (): Promise<Certificate> => {
    atMs.push(performance.now() - startMs);
    if (options.stop(atMs.length)) ending.abort();
    if (options.fails?.(atMs.length)) throw new Error("the authority is away");
    return certificate;
  };
  const keepAlive = setInterval(() => undefined, 1000);
  const renewal = keepRenewed({
    identity: { update: () => taken++ },
    renew,
    lifetimeMs: 300,
    clock: systemClock,
    signal: ending.signal,
    ...options,
  });
  await renewal.done;
  clearInterval(keepAlive);
  return { atMs, taken };
}

test("a certificate is renewed at a third of its lifetime, again and again, until the signal ends it", async () => {
  const { atMs, taken } = await attempts({ stop: (count) => count === 3 });
  assert.equal(taken, 3);
  atMs.forEach((ms, at) =>
    assert.ok(ms >= 90 * (at + 1) && ms < 110 * (at + 1) + 100, `attempt ${at + 1} at ${ms} ms`),
  );
});

test("a failed renewal is tried again soon and less and less often, and success returns to the third", async () => {
  const { atMs, taken } = await attempts({ stop: (count) => count === 5, fails: (count) => count < 4 });
  const gaps = atMs.slice(1).map((ms, at) => ms - (atMs[at] ?? 0));
  // 10, 20, 40 ms (give or take a tenth), then a third of 300 ms.
  [10, 20, 40, 100].forEach((ms, at) =>
    assert.ok((gaps[at] ?? 0) >= ms * 0.9 - 1 && (gaps[at] ?? 0) < ms * 1.1 + 60, gaps.join(" ")),
  );
  assert.equal(taken, 2);
});

test("a certificate that the identity refuses counts as a failed renewal", async () => {
  let refused = 0;
  const identity = {
    update: () => {
      if (refused++ === 0) throw new Error("not ours");
    },
  };
  const { atMs } = await attempts({ stop: (count) => count === 2, identity });
  assert.ok((atMs[1] ?? 0) - (atMs[0] ?? 0) < 90);
});

test("a wall clock that jumps by years expires nothing: the certificate is renewed at once", async () => {
  for (const years of [10, -50]) {
    const clock = jumpy();
    setTimeout(() => (clock.addedMs = years * 365 * 86_400_000), 20);
    const said: string[] = [];
    const log = { info: () => undefined, warn: (_: object, message: string) => said.push(message) };
    const { atMs } = await attempts({
      stop: (count) => count === 1,
      lifetimeMs: 86_400_000,
      clock,
      lookEveryMs: 5,
      log,
    });
    assert.ok((atMs[0] ?? 0) < 1000);
    assert.match(said.join(), /wall clock jumped/);
  }
});

test("being asked renews at once, and ending it ends the wait", async () => {
  const ending = new AbortController();
  let count = 0;
  const renew = async (): Promise<Certificate> => (count++, certificate);
  const renewal = keepRenewed({
    identity: { update: () => undefined },
    renew,
    lifetimeMs: 86_400_000,
    clock: systemClock,
    signal: ending.signal,
  });
  renewal.now();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(count, 1);
  ending.abort();
  await renewal.done;
  assert.equal(count, 1);
});

test("small steps and drift below the tolerance are no jump; their sum is", async () => {
  const clock = jumpy();
  const jumps: number[] = [];
  const jumped = new Promise<void>((resolve) => {
    const stop = watchClockJump(clock, (ms) => (jumps.push(ms), stop(), resolve()), { everyMs: 2, toleranceMs: 1000 });
  });
  const drift = setInterval(() => (clock.addedMs += 300), 10);
  await jumped;
  clearInterval(drift);
  assert.ok((jumps[0] ?? 0) > 1000 && (jumps[0] ?? 0) < 2500, String(jumps));
});
