/** Backfill: the cloud has what a pipeline made, asks for the range in full, and has each reading once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  call,
  EDGE,
  type EventsOptions,
  events,
  type NodeConfig,
  type RunningCloud,
  type RunningNode,
  startCloud,
  startNode,
  temporary,
  until,
} from "../../../../test/houses/uplink.ts";
import type { Backfill } from "../../cloud/backfill.api.ts";
import { coreData } from "../../core-data/api.ts";
import { main as dataMain } from "../../core-data/main.ts";
import { main as metadataMain } from "../../core-metadata/main.ts";

type Test = Parameters<typeof temporary>[0];

const FIRST_NS = 1_700_000_000_000_000_000n;
const ALL = { edge: EDGE, devices: [] as string[], resources: [] as string[], fromNs: 0n, toNs: 2n ** 62n };
const walk: EventsOptions = {
  devices: ["a", "b"],
  resources: 2,
  value: (s, k) => Math.round(50 * Math.sin(s / 40)) + (k === 1 ? 1_000 : 0),
};

interface Story {
  readonly cloud: RunningCloud;
  readonly node: RunningNode;
  /** Asks, and waits until it is over. */
  ask(wanted?: Partial<typeof ALL>): Promise<Backfill>;
  /** A device's readings at the cloud, by id. */
  at(device: string, resource?: string): Promise<Map<string, string>>;
  here(device: string): Promise<Map<string, string>>;
}

async function start(
  t: Test,
  functions: NonNullable<NodeConfig["pipeline"]>["functions"],
  more: object = {},
): Promise<Story> {
  const cloud = await startCloud(temporary(t));
  t.after(() => cloud.stop());
  const destinations = { cloud: { kind: "cloud", askEveryMs: 1_000 } };
  const node = await startNode(temporary(t), { pipeline: { functions: functions ?? [], destinations, ...more } });
  t.after(() => node.stop());
  await node.house.start(metadataMain);
  await node.house.start(dataMain);
  await node.enroll(cloud.url, await cloud.code());
  const data = node.house.connect(coreData, "gateway");
  const list = async () => (await cloud.cli.backfills({ edge: EDGE, limit: 100 }, call())).backfills;
  return {
    cloud,
    node,
    async ask(wanted) {
      const { id } = await cloud.cli.backfill({ body: { ...ALL, ...wanted } }, call());
      let found: Backfill | undefined;
      await until("the backfill is over", async () => {
        found = (await list()).find((one) => one.id === id);
        return found?.state === "done" || found?.state === "failed";
      });
      return found!;
    },
    async at(device, resource) {
      const which = resource === undefined ? {} : { resource };
      const asked = { edge: EDGE, device, ...which, offset: 0, limit: 100_000 };
      const { readings, totalCount } = await cloud.cli.readings(asked, call());
      assert.equal(readings.length, totalCount);
      const found = new Map(readings.map(({ id, value }) => [String(id), String(value)]));
      assert.equal(found.size, totalCount, "each is there once");
      return found;
    },
    async here(device) {
      const found = new Map<string, string>();
      for (let offset = 0; ; offset += 1_024) {
        const asked = { name: device, offset, limit: 1_024, numeric: false };
        const { readings, totalCount } = await data.readingsByDevice(asked, call());
        for (const { id, value } of readings) found.set(String(id), String(value));
        if (offset + 1_024 >= totalCount) return found;
      }
    },
  };
}

/** Appends events, and waits until core-data and the pipeline have them. */
async function append({ node }: Story, from: number, to: number, options: EventsOptions = walk): Promise<void> {
  for (let at = from; at <= to; at += 2_000)
    await node.append("device-a", events("device-a", at, Math.min(to, at + 1_999), options));
  const data = node.house.connect(coreData, "gateway");
  await until("core-data has them", async () => (await data.eventCount({}, call())).Count === to);
  await until("the pipeline has them", async () => {
    const { last } = await node.bus.backlog({}, call());
    const { waiting } = await node.destination();
    return (await node.pipeline.status({}, call())).position === last && waiting.batches === 0;
  });
}

test("the cloud has the reduction, asks, and has everything, each reading once", async (t) => {
  const story = await start(t, [{ function: "Deadband", resources: ["*"], tolerance: 20 }]);
  await append(story, 1, 20_000);
  const before = (await story.at("a")).size + (await story.at("b")).size;
  assert.ok(before > 100 && before < 5_000, `${before} readings of the reduction`);
  const done = await story.ask();
  assert.deepEqual([done.state, done.share, done.reason], ["done", 1, undefined]);
  assert.equal(done.queued, 40_000);
  for (const device of ["a", "b"]) assert.deepEqual(await story.at(device), await story.here(device));
  assert.deepEqual([done.kept, done.known], [40_000 - before, before]);
  assert.equal((await story.node.pipeline.status({}, call())).backfills.length, 0, "the node is done with it");
  const { publishers } = await story.cloud.audit();
  for (const { duplicates, outOfOrder } of publishers) assert.deepEqual([duplicates, outOfOrder], [0, 0]);
});

test("a range, a device and a resource are asked for, and no more comes", async (t) => {
  const story = await start(t, [
    { function: "TumblingWindow", resources: ["*"], aggregates: ["mean"], sizeMs: 1_000, latenessMs: 0 },
  ]);
  await append(story, 1, 6_000);
  const at = (s: number) => FIRST_NS + BigInt(s) * 1_000_000n;
  const done = await story.ask({ devices: ["a"], resources: ["r1"], fromNs: at(1_001), toNs: at(3_000) });
  assert.deepEqual([done.kept, done.known, done.queued], [1_000, 0, 1_000]);
  const kept = [...(await story.at("a", "r1")).keys()];
  const here = await story.here("a");
  assert.ok(kept.length === 1_000 && kept.every((id) => here.has(id)), "with the ids that they have here");
  assert.equal((await story.at("a", "r0")).size, 0);
  assert.equal((await story.at("b", "r1")).size, 0);
});

test("what the cloud has in full already is not kept again", async (t) => {
  const story = await start(t, []);
  await append(story, 1, 5_000);
  const before = await story.at("a");
  const [first, second] = [await story.ask(), await story.ask({ devices: ["a"] })];
  assert.deepEqual([first.kept, first.known], [0, 10_000]);
  assert.deepEqual([second.kept, second.known], [0, 5_000]);
  assert.deepEqual(await story.at("a"), before);
});

test("a backfill tells no more than the pipelines do: what they filter and hide stays here", async (t) => {
  const story = await start(t, [
    { function: "FilterByResourceName", resourceNames: ["r0"], filterOut: false },
    { function: "Pseudonym", device: true },
    { function: "Deadband", resources: ["*"], tolerance: 20 },
  ]);
  await append(story, 1, 3_000);
  const { resources } = await story.node.pipeline.leaves({}, call());
  assert.deepEqual(
    resources.map(({ resourceName }) => resourceName),
    ["r0"],
  );
  assert.equal((await story.ask({ devices: ["a"] })).queued, 0, "the cloud knows no device of that name");
  const done = await story.ask();
  assert.equal(done.queued, 3_000);
  assert.equal((await story.at("a")).size, 0);
  const left = (await story.node.pipeline.leaves({}, call())).resources;
  assert.deepEqual(
    left.map(({ resourceName, readings }) => [resourceName, readings > 3_000]),
    [["r0", true]],
    "and what left is listed",
  );
});

test("a node that refuses says so; what cannot be asked for is refused, and one that is cancelled is forgotten", async (t) => {
  const story = await start(t, [], { backfill: "refuse" });
  const { cli } = story.cloud;
  const { state, reason } = await story.ask();
  assert.deepEqual([state, reason], ["failed", "the node's config says pipeline.backfill: refuse"]);
  const refused = (body: Partial<typeof ALL>) => cli.backfill({ body: { ...ALL, ...body } }, call());
  await assert.rejects(refused({ edge: "nobody" }), { code: "CLOUD_EDGE_UNKNOWN" });
  await assert.rejects(refused({ fromNs: 2n, toNs: 1n }), { code: "CLOUD_BACKFILL_INVALID" });
  await assert.rejects(cli.cancelBackfill({ edge: EDGE, id: "0123456789ab" }, call()), {
    code: "CLOUD_BACKFILL_UNKNOWN",
  });
  await story.node.stop();
  for (let n = 0; n < 16; n++) await refused({});
  await assert.rejects(refused({}), { code: "CLOUD_BACKFILLS_OPEN" });
  const { backfills } = await cli.backfills({ edge: EDGE, limit: 100 }, call());
  const { id } = backfills.find((one) => one.state === "asked")!;
  await cli.cancelBackfill({ edge: EDGE, id }, call());
  await refused({});
});
