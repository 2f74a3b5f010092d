import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { systemClock } from "./clock.ts";
import { forever } from "./forever.ts";
import { makeLog } from "./log.ts";

function start(work: (stop: () => void) => Promise<void>) {
  const stopping = new AbortController();
  const lines: string[] = [];
  const to = new PassThrough();
  to.on("data", (chunk: Buffer) => lines.push(...chunk.toString().trim().split("\n")));
  const options = {
    what: "the work",
    clock: systemClock,
    log: makeLog("test", { to }),
    signal: stopping.signal,
    baseMs: 1,
    maxMs: 2,
  };
  return { done: forever(options, () => work(() => stopping.abort())), lines, stop: () => stopping.abort() };
}

test("work that ends or fails is done again, and what lasts is a warning", async () => {
  let times = 0;
  const { done, lines } = start(async (stop) => {
    if (++times === 8) stop();
    if (times % 4 !== 0) throw new Error(`fault ${times}`);
  });
  await done;
  assert.equal(times, 8);
  const levels = lines.map((line) => (JSON.parse(line) as { level: number }).level);
  assert.deepEqual([levels[0], levels.at(-1)], [30, 40]);
});

test("it ends when it is told to, also within a pause, and a failure after that is not told", async () => {
  const { done, stop, lines } = start(
    () => new Promise((_, reject) => setImmediate(() => (stop(), reject(new Error("late"))))),
  );
  await done;
  assert.deepEqual(lines, []);
});
