import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import type { Failure } from "../../../kernel/error.ts";
import { GATEWAY_BUSY } from "../api.ts";
import { Admission, type Guest } from "./admission.ts";

/** What became of requests, by number; time passes with the work on them alone. */
class Crowd {
  readonly load = { running: 0 };
  readonly let: number[] = [];
  readonly refused: [number, Failure][] = [];
  readonly admission: Admission;
  readonly #workMs: number;
  nowMs = 0;
  #count = 0;

  constructor(options: { runningMax?: number; workMs?: number } = {}) {
    this.#workMs = options.workMs ?? 0;
    const clock = { monotonicMs: () => this.nowMs };
    this.admission = new Admission({ clock, load: this.load, runningMax: options.runningMax ?? 1_000 });
  }

  come(open = true): void {
    const number = ++this.#count;
    const guest: Guest = {
      open,
      run: () => {
        this.let.push(number);
        this.nowMs += this.#workMs;
      },
      refuse: (failure) => void this.refused.push([number, failure]),
    };
    this.admission.enter(guest);
  }

  async settled(): Promise<void> {
    while (this.admission.waiting > 0) await turn();
  }
}

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

test("what a turn has time for is let in at once; the rest in order, in the next turns, and nobody is refused", async () => {
  const crowd = new Crowd({ workMs: 1 });
  for (let i = 0; i < 30; i++) crowd.come();
  assert.deepEqual(crowd.let, [1, 2]);
  await crowd.settled();
  assert.deepEqual(crowd.let, numbers(1, 30));
  assert.deepEqual(crowd.refused, []);
});

test("a long halt refuses nobody and changes no order", async () => {
  const crowd = new Crowd();
  crowd.come();
  crowd.nowMs += 20;
  for (let i = 0; i < 20; i++) crowd.come();
  assert.deepEqual(crowd.let, [1]);
  await crowd.settled();
  assert.deepEqual(crowd.let, numbers(1, 21));
});

test("in a crowd who came last is let in first, and who has waited for a second is refused", async () => {
  const crowd = new Crowd({ workMs: 2.5 });
  const late: number[] = [];
  // Three come where there is time for one.
  for (let n = 1; crowd.nowMs < 1_400; n += 3) {
    for (let i = 0; i < 3; i++) crowd.come();
    if (crowd.let.at(-1)! < n - 30) late.push(n);
    await turn();
  }
  assert.ok(crowd.refused.length > 50, `${crowd.refused.length} refused`);
  assert.ok(late.length < crowd.let.length / 10, `${late.length} of ${crowd.let.length} were let in late`);
  const [, failure] = crowd.refused[0];
  assert.equal(failure.code, GATEWAY_BUSY.code);
  assert.equal(failure.retryAfterS, 1);
  const refused = crowd.refused.map(([number]) => number);
  assert.deepEqual(
    refused,
    refused.toSorted((a, b) => a - b),
    "the first that came",
  );
  await crowd.settled();
  assert.equal(crowd.let.length + crowd.refused.length, Math.max(...crowd.let, ...refused), "each has had an answer");
});

test("where as many are under way as may be, as many wait; one more is refused at once, and a place that comes free is taken", async () => {
  const crowd = new Crowd({ runningMax: 2 });
  crowd.load.running = 2;
  for (let i = 0; i < 3; i++) crowd.come();
  assert.deepEqual(
    crowd.refused.map(([number]) => number),
    [3],
  );
  await sleep(30);
  assert.deepEqual(crowd.let, []);
  crowd.load.running = 1;
  while (crowd.admission.waiting > 0) await sleep(1);
  assert.deepEqual(crowd.let, [1, 2]);
});

test("whose client has gone meanwhile is neither let in nor refused", async () => {
  const crowd = new Crowd({ runningMax: 5 });
  crowd.load.running = 5;
  crowd.come(false);
  crowd.come();
  crowd.load.running = 0;
  while (crowd.admission.waiting > 0) await sleep(1);
  assert.deepEqual(crowd.let, [2]);
  assert.deepEqual(crowd.refused, []);
});
