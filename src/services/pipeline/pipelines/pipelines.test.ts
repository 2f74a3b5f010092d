import assert from "node:assert/strict";
import { test } from "node:test";
import { SetClock } from "../../../../test/houses/edge.ts";
import { all, type Definition, type Definitions, numbers, PipelineRig } from "../../../../test/houses/pipelines.ts";
import { temporary, until } from "../../../../test/houses/uplink.ts";
import type { FunctionSpec } from "./definition.ts";

const through = (rig: PipelineRig) => until("all is followed", () => rig.isThrough());
const quick: FunctionSpec = { function: "BatchByTime", timeIntervalMs: 5 };
/** Windows of a second, by origin: events come every millisecond. */
const window: FunctionSpec = {
  function: "TumblingWindow",
  resources: ["*"],
  aggregates: ["count"],
  sizeMs: 1e3,
  latenessMs: 0,
};
/** How many readings the windows have told. */
const counted = async (rig: PipelineRig, pipeline = "all") => {
  const batches = await rig.batches(pipeline);
  return batches.flatMap(({ content }) =>
    content.flatMap(({ series, columns }) =>
      columns.flatMap((column, k) => (/count/.test(series.resources[k].name) ? column.map(Number) : [])),
    ),
  );
};
const sum = (list: readonly number[]) => list.reduce((total, n) => total + n, 0);

test("pipelines follow the bus side by side: each with its own filter, priority and destinations", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  rig.start({
    a: { topics: ["edgex/events/device/+/+/a/#"], functions: [quick], priority: 8 },
    b: {
      functions: [{ function: "FilterByDeviceName", deviceNames: ["b"], filterOut: false }, quick],
      destinations: ["plant", "cloud"],
      priority: 1,
      ttlMs: 60_000,
    },
    all: { functions: [quick] },
  });
  await rig.append("device-a", 1, 40, { devices: ["a", "b"] });
  await until("all have it", async () => {
    const of = await Promise.all(["a", "b", "all"].map((name) => rig.sequences(name)));
    return of.map((list) => list.length).join() === "20,20,40";
  });
  const [[a], [b], [whole]] = await Promise.all(["a", "b", "all"].map((name) => rig.batches(name)));
  assert.deepEqual([a.destinations, a.priority, a.expiresNs], [["cloud"], 8, undefined]);
  assert.deepEqual([b.destinations, b.priority, b.expiresNs], [["plant", "cloud"], 1, b.queuedNs + 60_000_000_000n]);
  assert.ok(a.content.every(({ series }) => series.deviceName === "a"));
  assert.equal(whole.events, 40);
  assert.ok(rig.outbox.queues.high.journal.last > 0 && rig.outbox.queues.low.journal.last > 0);
});

test("EdgeX's functions of export name a destination, and are held against what it is set to do", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  const functions: FunctionSpec[] = [
    quick,
    { function: "Transform", type: "json" },
    { function: "Compress", algorithm: "gzip" },
    { function: "MQTTExport", destination: "plant" },
  ];
  rig.start({ all: { destinations: [], functions } });
  await rig.append("device-a", 1, 10);
  await until("it is there", async () => (await rig.sequences()).length === 10);
  assert.deepEqual((await rig.batches())[0].destinations, ["plant"]);
  const refused = (given: Definition, message: RegExp) =>
    assert.rejects(rig.pipelines.set("x", given), { code: "PIPELINE_EXPORT_INVALID", message });
  await refused({ destinations: [] }, /goes nowhere/);
  await refused(
    { functions: [{ function: "HTTPExport", destination: "plant" }] },
    /kind https at .*'plant'.* has mqtt/,
  );
  await refused(
    { functions: [...functions, { function: "Encrypt", algorithm: "aes256" }] },
    /encryption aes256.* none/,
  );
  await refused({ destinations: ["plant"], functions: [{ function: "Compress", algorithm: "zstd" }] }, /has gzip/);
});

test("one that stands still holds up none of the others, and the bus keeps what it needs", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  const { journal } = rig.outbox.queues.low;
  const append = journal.appendMany.bind(journal);
  let isFull = true;
  Object.assign(journal, {
    appendMany: (of: Parameters<typeof append>[0]) => (isFull ? Promise.reject(new Error("no")) : append(of)),
  });
  rig.start({ slow: { functions: [quick], priority: 0 }, quick: { functions: [quick], priority: 9 } });
  for (let n = 1; n <= 20; n++) await rig.append("device-a", n, n);
  await until("one is through", async () => (await rig.sequences("quick")).length === 20);
  assert.equal((await rig.confirmed()) ?? 0, 0);
  isFull = false;
  await until("both are through", async () => (await rig.sequences("slow")).length === 20);
  await until("it is confirmed", async () => (await rig.confirmed()) === 20);
});

test("a new pipeline begins with the oldest that the bus has, or now", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  await rig.append("device-a", 1, 5);
  rig.start(all([], { events: 1_000, ms: 5 }));
  await through(rig);
  await rig.pipelines.set("old", { functions: [quick], from: "oldest" });
  await rig.pipelines.set("new", { functions: [quick], from: "now" });
  await rig.append("device-a", 6, 10);
  await until("both have what came", async () => (await rig.sequences("old")).length === 10);
  await until("both have what came", async () => (await rig.sequences("new")).length > 0);
  assert.deepEqual(await rig.sequences("new"), numbers(6, 10));
  assert.deepEqual(await rig.sequences("old"), numbers(1, 10));
});

test("a pipeline that is changed while it runs goes on where it was: nothing twice, nothing lost, what it held leaves", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  rig.start({ all: { functions: [window, quick] } });
  await rig.append("device-a", 1, 1_500);
  await until("a window is told", async () => (await counted(rig)).length > 0);
  await rig.pipelines.set("all", { functions: [quick], priority: 9 });
  await rig.append("device-a", 1_501, 1_600);
  await until("the rest comes as it is", async () => (await rig.batches()).some((batch) => batch.priority === 9));
  await through(rig);
  assert.equal(sum(await counted(rig)), 1_500, "what the window held was told when it ended");
  const rest = (await rig.batches()).filter(({ priority }) => priority === 9);
  assert.deepEqual(
    rest.flatMap(({ content }) => content.flatMap(({ sequences }) => sequences)),
    numbers(1_501, 1_600),
  );
});

test("a change holds over a restart, until the config says something new of the pipeline", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  const declared = all();
  rig.start(declared);
  await through(rig);
  await rig.pipelines.set("all", { priority: 1 });
  await rig.pipelines.set("extra", { priority: 2 });
  await rig.reopen();
  rig.start(declared);
  const shown = () =>
    rig.pipelines.status().map(({ name, origin, definition }) => [name, origin, definition["priority"]]);
  assert.deepEqual(shown(), [
    ["all", "changed", 1],
    ["extra", "changed", 2],
  ]);
  await through(rig);
  await rig.pipelines.remove("extra");
  await rig.reopen();
  rig.start({ all: { priority: 7 } });
  assert.deepEqual(shown(), [["all", "config", 7]]);
  assert.ok(rig.lines.some((line) => /says something new of this pipeline/.test(String(line["msg"]))));
});

test("a pipeline that is removed gives what its functions held, and what is queued stays; also when the config drops it", async (t) => {
  for (const how of ["removed", "dropped"] as const) {
    const rig = await PipelineRig.open(t, temporary(t));
    const declared: Definitions = { ...all(), windows: { functions: [window, quick] } };
    rig.start(declared);
    await rig.append("device-a", 1, 2_500);
    await until("windows are told", async () => (await counted(rig, "windows")).length >= 2);
    if (how === "removed") await rig.pipelines.remove("windows");
    else {
      await rig.reopen();
      rig.start(all());
    }
    await until("its last window is told", async () => sum(await counted(rig, "windows")) === 2_500);
    await until("it is gone", () => rig.store.pipelines.load("windows") === undefined);
    await rig.append("device-a", 2_501, 2_600);
    await through(rig);
    await until("the bus keeps nothing for it", async () => (await rig.confirmed()) === 2);
  }
});

test("what cannot be is refused by name and leaves all as it was: names, destinations, functions, numbers of them", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  rig.start();
  await through(rig);
  const refused = async (name: string, given: unknown, code: string, message: RegExp) =>
    assert.rejects(rig.pipelines.set(name, given), { code, message });
  await refused("a b", {}, "PIPELINE_NAME_INVALID", /'a b' is no name/);
  await refused("x", { destinations: ["mars"] }, "PIPELINE_DESTINATION_UNKNOWN", /'mars'.*cloud, plant/);
  await refused("x", { prioritty: 5 }, "CONFIG_KEY_UNKNOWN", /did you mean 'x.priority'/);
  await refused("x", { priority: 10 }, "CONFIG_VALUE_INVALID", /'x.priority' must be an integer from 0 to 9/);
  await refused("x", { functions: [{ function: "Nothing" }] }, "CONFIG_VALUE_INVALID", /'x.functions\[0\].function'/);
  await refused("x", { functions: [{ function: "Deadband", tolerance: -1 }] }, "CONFIG_VALUE_INVALID", /tolerance/);
  await refused("x", { functions: [{ function: "JSONLogic", rule: { no: 1 } }] }, "PIPELINE_LOGIC_INVALID", /'no'/);
  for (let n = 1; n < 8; n++) await rig.pipelines.set(`p${n}`, {});
  await refused("x", {}, "PIPELINE_TOO_MANY", /8 pipelines/);
  await assert.rejects(rig.pipelines.remove("x"), { code: "PIPELINE_UNKNOWN" });
  assert.equal(rig.pipelines.status().length, 8);
});

test("what leaves is listed by resource, and the counts hold over a restart", async (t) => {
  const rig = await PipelineRig.open(t, temporary(t));
  const declared = all([{ function: "FilterByResourceName", resourceNames: ["r0", "r1"], filterOut: false }]);
  rig.start(declared);
  await rig.append("device-a", 1, 100, { resources: 3, value: (s, k) => (k === 0 ? 1 : s * 1.37) });
  await through(rig);
  const before = rig.pipelines.leaves();
  assert.deepEqual(
    before.map(({ resourceName, readings, profileName }) => [profileName, resourceName, readings]),
    [
      ["Thermometer", "r0", 100],
      ["Thermometer", "r1", 100],
    ],
  );
  assert.ok(before[1].bytes > before[0].bytes);
  assert.deepEqual(before[0].functions, ["FilterByResourceName", "BatchByTimeAndCount"]);
  await rig.reopen();
  rig.start(declared);
  assert.deepEqual(rig.pipelines.leaves(), before);
});

test("what is due by time leaves though nothing comes any more, and after a restart it is not told again", async (t) => {
  const clock = new SetClock();
  const rig = await PipelineRig.open(t, temporary(t), clock);
  rig.start({ all: { functions: [window, quick] } });
  await rig.append("device-a", 1, 1_500);
  // The clock stands still: only what the test lets pass is time.
  await until("time has passed", async () => {
    clock.pass(400);
    return sum(await counted(rig)) === 1_500;
  });
  await rig.reopen();
  rig.start({ all: { functions: [window, quick] } });
  await rig.append("device-a", 3_001, 4_000);
  await through(rig);
  await until("time has passed", async () => {
    clock.pass(400);
    return sum(await counted(rig)) >= 2_500;
  });
  assert.equal(sum(await counted(rig)), 2_500);
});
