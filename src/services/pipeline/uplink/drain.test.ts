import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "../../../kernel/clock.ts";
import { Drain } from "./drain.ts";

function rig(): { drain: Drain; pass: (ms: number) => void } {
  let nowMs = 0;
  const clock: Clock = { monotonicMs: () => nowMs, wallMs: () => nowMs, wallNs: () => 0n };
  return { drain: new Drain(clock), pass: (ms) => void (nowMs += ms) };
}

/** A link: what live data takes alone, and how much longer beside a request of the backlog of this share. */
function drainBeside(
  { drain, pass }: ReturnType<typeof rig>,
  rounds: number,
  aloneMs: number,
  fullMs: number,
): number[] {
  const took: number[] = [];
  for (let i = 0; i < rounds; i++) {
    pass(50);
    const aside = drain.asideMs > 0;
    const done = aside ? undefined : drain.backlog();
    const live = drain.live();
    const ms = aloneMs + (aside ? 0 : fullMs * drain.share);
    pass(ms);
    if (!aside) took.push(ms);
    live();
    done?.(true);
  }
  return took;
}

test("beside live data the backlog finds the share that leaves it within twice its time, on any link", () => {
  for (const [aloneMs, fullMs] of [
    [5, 40],
    [200, 4_000],
    [2, 3],
  ]) {
    const r = rig();
    const took = drainBeside(r, 400, aloneMs, fullMs)
      .slice(50)
      .sort((a, b) => a - b);
    assert.ok(took[Math.floor(took.length * 0.99)] < 2 * aloneMs, `${aloneMs} ms alone, ${took.at(-1)} beside`);
    assert.ok(r.drain.share > 0.25 * Math.min(1, aloneMs / fullMs / 2), `no less than it need be: ${r.drain.share}`);
  }
});

test("before it knows what live data takes alone the backlog stands aside, and again after half a minute; never for long", () => {
  const { drain, pass } = rig();
  const answer = (ms: number) => {
    const live = drain.live();
    pass(ms);
    live();
  };
  assert.equal(drain.asideMs, 0, "nothing is live");
  answer(5);
  assert.ok(drain.asideMs > 0);
  for (let i = 0; i < 3; i++) answer(5);
  assert.equal(drain.asideMs, 0, "it knows");
  pass(1_000);
  for (let i = 0; i < 30; i++) {
    const done = drain.backlog();
    answer(5);
    done(true);
    pass(1_000);
  }
  assert.ok(drain.asideMs > 0, "what it knows is old");
  pass(2_000);
  assert.equal(drain.asideMs, 0, "nothing was live since");
});

test("alone it takes all; on a link that is slow or fails it asks for less, and for more again once it is not", () => {
  const { drain, pass } = rig();
  const ask = (ms: number, isDone = true) => {
    const done = drain.backlog();
    pass(ms);
    done(isDone);
  };
  for (let i = 0; i < 11; i++) ask(300);
  assert.equal(drain.share, 1, "far away is not slow");
  for (let i = 0; i < 4; i++) ask(2_000, i % 2 === 0);
  assert.equal(drain.share, 1 / 16);
  for (let i = 0; i < 10; i++) ask(300);
  assert.equal(drain.share, 1);
});

test("what is live later finds no long request before it: one takes ten milliseconds more than the quickest, or twice as long", () => {
  for (const [leastMs, fullMs] of [
    [3, 100],
    [200, 1_000],
  ]) {
    const { drain, pass } = rig();
    const took = Array.from({ length: 100 }, () => {
      const done = drain.backlog();
      const ms = leastMs + fullMs * drain.share;
      pass(ms);
      done(true);
      return ms;
    });
    const most = leastMs + Math.max(10, leastMs);
    assert.ok(Math.max(...took.slice(10)) < 2 * most, `${Math.max(...took.slice(10))} ms, ${leastMs} at the least`);
    assert.ok(took.reduce((a, b) => a + b) / took.length > most / 2, "nor shorter than it need be");
  }
});
