import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { code, fail } from "../../kernel/error.ts";
import { Framing, PACKET_BYTES_MAX } from "./framing.ts";
import { Intake } from "./intake.ts";
import { Seen } from "./seen.ts";
import { EPOCHS_MAX, Marks, PUBLISHERS_MAX, Runs } from "./sequences.ts";
import { TopicTree } from "./topic-tree.ts";
import { eventTopic } from "../../kernel/event-topic.ts";
import { fitsTopic, mayUse } from "./topics.ts";
import { topicMatches } from "../../kernel/edgex.ts";

test("runs hold what was added, and tell what is missing, as a plain set would", () => {
  const range = fc
    .tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 15 }))
    .map(([from, more]) => [from, from + more] as const);
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), range, (added, [from, to]) => {
      const runs = new Runs();
      const model = new Set<number>();
      for (const [a, b] of added) {
        runs.add(a, b);
        for (let n = a; n <= b; n++) model.add(n);
      }
      const missing: number[] = [];
      for (const run of runs.missing(from, to)) for (let n = run.from; n <= run.to; n++) missing.push(n);
      assert.deepEqual(
        missing,
        Array.from({ length: to - from + 1 }, (_, i) => from + i).filter((n) => !model.has(n)),
      );
      assert.equal(runs.last, Math.max(0, ...model));
      for (let n = 1; n <= 80; n++) assert.equal(runs.has(n), model.has(n));
      assert.ok(
        runs.runs.every((run, i) => i === 0 || run.from > runs.runs[i - 1].to + 1),
        "runs that touch are one",
      );
    }),
    { seed: 1, numRuns: 300 },
  );
});

test("marks survive being stored, and are bounded in publishers, epochs and holes", () => {
  const marks = new Marks();
  marks.of("a", 1).add(1, 10);
  marks.of("a", 1).add(15, 20);
  marks.of("a", 2).add(1, 5);
  const again = new Marks();
  again.restore(marks.store());
  assert.deepEqual(again.store(), [
    ["a", 1, 1, 10, 15, 20],
    ["a", 2, 1, 5],
  ]);
  for (let epoch = 3; epoch < 50; epoch++) again.of("a", epoch).add(1, 1);
  assert.equal([...again.all()].length, EPOCHS_MAX);
  for (let i = 0; i < PUBLISHERS_MAX + 10; i++) again.of(`p${i}`, 1).add(1, 1);
  assert.equal([...again.all()].length, PUBLISHERS_MAX);
  const runs = new Runs();
  for (let n = 1; n < 2000; n += 2) runs.add(n, n);
  assert.ok(runs.runs.length <= 256 && runs.last === 1999 && runs.runs[0].from === 1);
});

test("after a refused batch those behind it are refused too, until it comes again: nothing is kept out of order", async () => {
  const FULL = code(
    "BUS_FULL",
    "full",
    "Give the node's disk more room, or raise bus.sizeBytesMax; nothing acknowledged is lost.",
  );
  let nowMs = 0;
  let position = 0;
  const kept: string[] = [];
  const intake = new Intake({ marks: new Marks(), monotonicMs: () => nowMs, end: () => position });
  const take = (from: number, to: number, work: () => Promise<void> = async () => undefined) =>
    intake.take("p", 1, from, to, async () => {
      await work();
      kept.push(`${from}-${to}`);
      return ++position;
    });
  const full = () => Promise.reject(fail(FULL, "full"));
  await take(1, 10);
  await assert.rejects(take(11, 20, full));
  await assert.rejects(take(21, 30), { code: "BUS_FULL" });
  await Promise.all([take(11, 20), take(21, 30)]);
  assert.deepEqual(kept, ["1-10", "11-20", "21-30"]);
  await assert.rejects(take(31, 40, full));
  nowMs = 6_000;
  assert.deepEqual(await take(41, 50), { position: 4, last: 50 }, "a publisher that gave up goes on");
  assert.deepEqual(await take(31, 50), { position: 5, last: 50 });
  assert.equal(intake.settledThrough, 5);
});

test("the window over ids knows at least the newest so many, and where to read them again", () => {
  const seen = new Seen(100);
  const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
  for (let n = 1; n <= 1000; n++) seen.add(n % 2 ? id(n) : `not a uuid ${n}`, n);
  for (let n = 901; n <= 1000; n++) assert.ok(seen.has(n % 2 ? id(n) : `not a uuid ${n}`));
  assert.ok(!seen.has(id(701)) && seen.size <= 200 && seen.after < 901 && seen.after >= 700);
});

test("the tree of filters finds whom a topic concerns as matching each filter would", () => {
  const level = fc.constantFrom("a", "b", "", "+");
  const filter = fc
    .tuple(fc.array(level, { minLength: 1, maxLength: 4 }), fc.boolean())
    .map(([levels, deep]) => [...levels, ...(deep ? ["#"] : [])].join("/"));
  const topic = fc
    .array(fc.constantFrom("a", "b", "c", ""), { minLength: 1, maxLength: 5 })
    .map((levels) => levels.join("/"));
  fc.assert(
    fc.property(fc.uniqueArray(filter, { maxLength: 12 }), topic, (filters, asked) => {
      const tree = new TopicTree<string>();
      for (const f of filters) tree.add(f, f);
      const expected = filters.filter((f) => topicMatches(f, asked)).toSorted();
      assert.deepEqual([...tree.match(asked)].toSorted(), expected);
      assert.equal(tree.matches(asked), expected.length > 0);
      for (const f of filters) tree.remove(f, f);
      assert.equal(tree.size, 0);
      assert.equal(tree.match(asked).size, 0);
    }),
    { seed: 1, numRuns: 300 },
  );
  const tree = new TopicTree<string>();
  for (const f of ["#", "+/x"]) tree.add(f, f);
  assert.deepEqual([...tree.match("$SYS/x")], [], "a leading wildcard matches no $ topic");
});

test("names that a topic cannot hold are escaped in it, as EdgeX does, and recognised", () => {
  const series = { profileName: "P/1", deviceName: "größe + #1", sourceName: "a.b-c" };
  const topic = eventTopic("~device-x", series);
  assert.equal(topic, "edgex/events/device/device-x/P%2F1/gr%C3%B6%C3%9Fe%20%2B%20%231/a.b-c");
  assert.ok(fitsTopic("edgex/events/device/device-x/P%2F1/gr%C3%B6%C3%9Fe%20%2B%20%231/a%2Eb%2Dc", series));
  assert.ok(
    fitsTopic("edgex/events/device/device-x/P/1/größe/A", { profileName: "P/1", deviceName: "größe", sourceName: "A" }),
  );
});

test("a role's topics hold for its own name, and a filter may not ask for more than they allow", () => {
  assert.ok(mayUse("device-x", "publish", "edgex/events/device/device-x/P/d/s"));
  for (const name of ["device-y", "", "device-x/P", "device-#", "+", "core-data"])
    assert.ok(!mayUse(name, "publish", "edgex/events/device/device-x/P/d/s"), name);
  for (const filter of [
    "#",
    "+/#",
    "edgex/#",
    "edgex/events/#",
    "edgex/+/validate/device",
    "edgex/device-y/validate/device",
    "edgex/a#",
    "",
  ])
    assert.ok(!mayUse("device-x", "subscribe", filter), filter);
  assert.ok(!mayUse("open-edgex", "publish", "other/topic") && !mayUse("open-edgex", "subscribe", "$SYS/#"));
});

test("packets of any cut are counted right, and one that is too large is seen at its header", () => {
  const packet = (size: number) => {
    const length: number[] = [];
    for (let n = size; ; n = Math.floor(n / 128)) {
      length.push((n % 128) | (n >= 128 ? 0x80 : 0));
      if (n < 128) break;
    }
    return Buffer.concat([Buffer.from([0x30, ...length]), Buffer.alloc(Math.min(size, 300_000), 0xff)]);
  };
  const good = Buffer.concat([0, 1, 127, 128, 16_383, 16_384, 200_000].map(packet));
  for (const size of [1, 2, 7, 1000, good.length]) {
    const framing = new Framing();
    for (let at = 0; at < good.length; at += size) assert.ok(framing.accepts(good.subarray(at, at + size)));
    assert.ok(!framing.accepts(packet(PACKET_BYTES_MAX + 1)));
  }
  assert.ok(!new Framing().accepts(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80, 0x01])));
});
