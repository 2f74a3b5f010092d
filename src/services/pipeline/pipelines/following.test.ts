import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fail } from "../../../kernel/error.ts";
import { JOURNAL_FULL } from "../../../kernel/journal/errors.ts";
import { all, type Definitions, numbers, PipelineRig } from "../../../../test/houses/pipelines.ts";
import { call, events, temporary, until } from "../../../../test/houses/uplink.ts";

const through = (rig: PipelineRig, timeoutMs?: number) => until("all is followed", () => rig.isThrough(), timeoutMs);
const onlyDevice = (name: string): Definitions =>
  all([{ function: "FilterByDeviceName", deviceNames: [name], filterOut: false }], { events: 1_000, ms: 1 });

test("events gather to a batch by count, and what is left goes after its time", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  for (let n = 1; n <= 25; n++) await rig.append("device-a", n * 10 - 9, n * 10);
  rig.start(all([], { events: 100, ms: 50 }));
  await through(rig);
  const batches = await rig.batches();
  assert.deepEqual(
    batches.map((b) => b.events),
    [100, 100, 50],
  );
  assert.deepEqual(await rig.sequences(), numbers(1, 250));
});

test("a record larger than a batch is cut, and a crash in between leaves all of it or none", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  await rig.append("device-a", 1, 950, { devices: ["a", "b"] });
  rig.start(all([], { events: 100, ms: 20 }));
  await through(rig);
  const batches = await rig.batches();
  assert.deepEqual(
    batches.map((b) => [b.events, b.readings]),
    [...Array.from({ length: 9 }, () => [100, 100]), [50, 50]],
  );
  assert.deepEqual(
    (await rig.sequences()).sort((x, y) => x - y),
    numbers(1, 950),
  );
  assert.deepEqual(
    batches.map((b) => b.through),
    [...new Array<number>(9).fill(0), 1],
    "only the last says that the record is done",
  );
});

test("events of which nothing leaves move the position on, without a batch, and the next start does not read them again", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  rig.start(onlyDevice("nobody"));
  for (let n = 1; n <= 30; n++) await rig.append("device-a", n, n);
  await until("the bus is told", async () => (await rig.confirmed()) === 30);
  assert.deepEqual(await rig.batches(), []);
  assert.equal(rig.store.pipelines.load("all")?.position, 30, "noted before the bus was told");
});

test("a position never passes a flush that is under way: should it fail, all of it is followed again", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  const { journal } = rig.outbox.queues.normal;
  const append = journal.appendMany.bind(journal);
  const release = Promise.withResolvers<void>();
  let failures = 0;
  Object.assign(journal, {
    // The disk is full for the first flush, and says so late.
    async appendMany(entries: Parameters<typeof append>[0]) {
      if (failures++ > 0) return append(entries);
      await release.promise;
      throw fail(JOURNAL_FULL, "full");
    },
  });
  rig.start(onlyDevice("kept"));
  await rig.append("device-a", 1, 5, { devices: ["kept"] });
  await until("the flush is under way", () => failures === 1);
  await rig.append("device-a", 6, 10, { devices: ["left out"] });
  await sleep(50);
  assert.equal(rig.pipelines.position, 0);
  release.resolve();
  await through(rig);
  assert.deepEqual(await rig.sequences(), numbers(1, 5));
});

test("a timed flush that fails ends the run, is told, and the next one begins where the outbox stands", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  const { journal } = rig.outbox.queues.normal;
  const append = journal.appendMany.bind(journal);
  let failures = 0;
  let isFull = true;
  Object.assign(journal, {
    appendMany: (entries: Parameters<typeof append>[0]) =>
      isFull && ++failures ? Promise.reject(fail(JOURNAL_FULL, "full")) : append(entries),
  });
  rig.start(all([], { events: 1_000, ms: 1 }));
  for (let n = 1; n <= 20; n++) await rig.append("device-a", n, n);
  await until("it is told", () => rig.pipelines.status()[0]?.fault === "full" && failures > 2);
  isFull = false;
  await through(rig);
  assert.equal(rig.pipelines.status()[0].fault, undefined);
  assert.deepEqual(await rig.sequences(), numbers(1, 20));
});

test("a record that cannot be read is passed by and said, and what is around it arrives", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  await rig.append("device-a", 1, 20);
  const whole = events("device-a", 21, 60, { value: (s) => `text ${s}` });
  // The bus looks at heads only; behind them this one is cut.
  await rig.appendBytes("device-a", whole.slice(0, whole.length - 8));
  await rig.append("device-a", 61, 80);
  rig.start();
  await through(rig);
  assert.deepEqual(await rig.sequences(), [...numbers(1, 20), ...numbers(61, 80)]);
  const said = rig.lines.filter((line) => /cannot be read and is passed by/.test(String(line["msg"])));
  assert.deepEqual(
    said.map((line) => line["position"]),
    [2],
  );
});

test("the bus is told how far the pipelines are also when nothing comes any more: a full bus would wait for that", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  rig.start();
  await rig.append("device-a", 1, 1);
  await until("the first is confirmed", async () => (await rig.confirmed()) === 1);
  await rig.append("device-a", 2, 2);
  await until("the last is confirmed", async () => (await rig.confirmed()) === 2);
});

test("where database and outbox are gone, what the bus was told to be kept is not sent a second time", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  await rig.append("device-a", 1, 5);
  await rig.bus.confirm({ body: { follower: "pipeline", position: 1 } }, call());
  await rig.append("device-a", 6, 10);
  rig.start();
  await through(rig);
  assert.deepEqual(await rig.sequences(), numbers(6, 10));
});

test("a bus that begins anew is followed from its beginning, whatever was followed before, and after a restart too", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  rig.start();
  await rig.append("device-a", 1, 1);
  await through(rig);
  await rig.stop();
  // More than the bus takes for a follower of its own that knows better.
  rig.store.pipelines.note("all", { position: 2 ** 25, emitted: 1 });
  rig.start();
  for (let n = 2; n <= 5; n++) await rig.append("device-a", n, n);
  await until("all are followed", async () => (await rig.sequences()).length === 5);
  await rig.reopen();
  await rig.append("device-a", 6, 6);
  rig.start();
  await until("all are followed", async () => (await rig.sequences()).length === 6);
  assert.deepEqual(await rig.sequences(), numbers(1, 6));
});

test("records of millions of values are taken one by one: memory holds one of them, batches a part", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  // Two million values in a few hundred bytes, several times over: one item of the stream holds them all.
  const [RECORDS, rows] = [4, 40_000];
  for (let n = 0; n < RECORDS; n++)
    await rig.append("device-a", n * rows + 1, (n + 1) * rows, { resources: 50, value: () => 1 });
  global.gc?.();
  const before = process.memoryUsage().rss;
  let peak = 0;
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss - before)), 5);
  rig.start(all([], { events: 10_000, ms: 20 }));
  await through(rig, 60_000);
  clearInterval(watch);
  const batches = await rig.batches();
  assert.ok(batches.every((b) => b.events * 50 <= 262_144));
  assert.equal(
    batches.reduce((sum, b) => sum + b.events, 0),
    RECORDS * rows,
  );
  assert.ok(peak < 400 * 2 ** 20, `${Math.round(peak / 2 ** 20)} MiB`);
});
