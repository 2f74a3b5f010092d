import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { type Clock, systemClock } from "../../../kernel/clock.ts";
import type { Cloud } from "../../cloud/api.ts";
import {
  type After,
  call,
  EDGE,
  events,
  type NodeConfig,
  type RunningCloud,
  type RunningNode,
  startCloud,
  startNode,
  temporary,
  until,
} from "../../../../test/houses/uplink.ts";
import { Wire } from "../../../../test/houses/wire.ts";

type Accept = Cloud["accept"];
type Sent = Parameters<Accept>[0]["body"];

interface Rig {
  readonly cloud: RunningCloud;
  node: RunningNode;
  readonly wire: Wire;
  /** In front of the cloud's accept. */
  before: ((sent: Sent) => Promise<void> | void) | undefined;
  /** Appends so many events, in records of ten. */
  append(count: number): Promise<void>;
  /** Cuts the link, or mends it. */
  cut(isCut: boolean): void;
  events(): Promise<number>;
  restart(): Promise<void>;
}

async function makeRig(t: After, { clock, ...config }: NodeConfig & { clock?: Clock } = {}): Promise<Rig> {
  const directory = temporary(t);
  const wrap = (service: Cloud): Cloud => ({
    ...service,
    async accept(input, of) {
      await rig.before?.(input.body);
      return service.accept(input, of);
    },
  });
  const cloud = await startCloud(join(directory, "cloud"), { wrap });
  const wire = await Wire.open(cloud.port);
  const open = () =>
    startNode(join(directory, "node"), { pipeline: { batchEvents: 10, batchMs: 5, ...config.pipeline } }, clock);
  const node = await open();
  let appended = 0;
  const rig: Rig = {
    cloud,
    node,
    wire,
    before: undefined,
    async append(count) {
      for (const end = appended + count; appended < end; appended += 10)
        await rig.node.append("device-a", events("device-a", appended + 1, appended + 10, { devices: ["a", "b"] }));
    },
    cut(isCut) {
      wire.mode = isCut ? "cut" : "pass";
      if (isCut) wire.drop();
    },
    async restart() {
      await rig.node.stop();
      rig.node = await open();
    },
    events: async () => (await cloud.cli.edges({}, call())).edges[0]?.events ?? 0,
  };
  t.after(async () => {
    rig.before = undefined;
    await rig.node.stop();
    await wire.close();
    await cloud.stop();
  });
  await node.enroll(wire.url, await cloud.code());
  return rig;
}

/** What is kept is whole, in order and each once. */
async function assertWhole({ cloud }: Rig, to: number): Promise<void> {
  const [{ duplicates, outOfOrder, ranges }] = (await cloud.audit()).publishers;
  assert.deepEqual({ duplicates, outOfOrder, ranges }, { duplicates: 0, outOfOrder: 0, ranges: [{ from: 1, to }] });
}

const waits = (rig: Rig, batches: number) =>
  until(`${batches} batches wait`, async () => (await rig.node.destination()).waiting.batches >= batches);

test("what is new goes before what waits, and beside it; once the backlog is sent the two are one range again", async (t) => {
  const rig = await makeRig(t);
  await rig.append(10);
  await until("it is there", async () => (await rig.events()) === 10);
  rig.cut(true);
  await rig.append(3_000);
  await waits(rig, 300);
  const gate = Promise.withResolvers<void>();
  const sequences: number[] = [];
  let epoch = 0;
  rig.before = async ({ batches, epoch: of }) => {
    epoch = of;
    sequences.push(...batches.map(({ sequence }) => sequence));
    // The backlog is stuck on its way.
    if (batches[0].sequence <= 301) await gate.promise;
  };
  rig.cut(false);
  await until("the backlog is on its way", () => sequences.some((sequence) => sequence <= 301));
  for (let n = 1; n <= 5; n++) {
    await rig.append(10);
    await until("what is new is there", async () => (await rig.events()) >= 10 + n * 10);
  }
  assert.equal(await rig.events(), 60, "and nothing of the backlog");
  const ranges = async () => (await rig.cloud.as(`edge.${EDGE}`).mark({ stream: "normal", epoch }, call())).settled;
  assert.equal((await ranges()).length, 2);
  gate.resolve();
  await until("all is there", async () => (await rig.events()) === 3_060);
  await rig.append(10);
  await until("all is there", async () => (await rig.events()) === 3_070);
  await assertWhole(rig, 3_070);
  assert.equal((await ranges()).length, 1);
  await until("the node knows", async () => (await rig.node.destination()).waiting.batches === 0);
});

test("a batch that is refused can be looked at, sent again, and let go of, which the ledger of both sides tells", async (t) => {
  const rig = await makeRig(t);
  const blocks = new Map<number, Uint8Array>();
  rig.before = ({ batches }) => {
    for (const batch of batches) {
      // Spoilt on its way, the first time that it comes.
      if (blocks.size >= 2 || blocks.has(batch.sequence)) continue;
      blocks.set(batch.sequence, batch.blocks);
      batch.blocks = batch.blocks.slice(0, -2);
    }
  };
  await rig.append(10);
  await until("it is set aside", async () => (await rig.node.destination()).deadLetters === 1);
  await rig.append(10);
  await until("it is set aside", async () => (await rig.node.destination()).deadLetters === 2);
  await rig.append(10);
  await until("the queue goes on", async () => (await rig.events()) === 10);
  const { deadLetters } = await rig.node.pipeline.deadLetters({ limit: 10 }, call());
  assert.deepEqual(
    deadLetters.map(({ destination, pipeline, events: n }) => ({ destination, pipeline, n })),
    [
      { destination: "cloud", pipeline: "all", n: 10 },
      { destination: "cloud", pipeline: "all", n: 10 },
    ],
  );
  const [second, first] = deadLetters;
  const shown = await rig.node.pipeline.deadLetter({ id: first.id }, call());
  assert.equal(shown.unreadable, undefined, "what is here is whole");
  assert.deepEqual(shown.events.map(({ deviceName }) => deviceName).sort(), "aaaaabbbbb".split(""));
  await rig.node.pipeline.replayDeadLetter({ id: first.id }, call());
  await until("it is there", async () => (await rig.events()) === 20);
  await rig.node.pipeline.dropDeadLetter({ id: second.id }, call());
  await assert.rejects(rig.node.pipeline.dropDeadLetter({ id: second.id }, call()), {
    code: "PIPELINE_LETTER_UNKNOWN",
  });
  assert.equal((await rig.node.destination()).deadLetters, 0);
  const told = async () => (await rig.cloud.cli.gaps({ edge: EDGE, limit: 10 }, call())).gaps;
  await until("the cloud is told", async () => (await told()).length === 1);
  const { gaps } = await rig.node.pipeline.status({}, call());
  assert.deepEqual(await told(), gaps.newest);
  const [{ reason, from, to, events: n, pipelines }] = gaps.newest;
  assert.deepEqual([reason, from, to, n, pipelines], ["dropped-by-person", 2, 2, 10, ["all"]]);
  await rig.append(10);
  await until("it goes on", async () => (await rig.events()) === 30);
});

test("what waits for too long is not sent; the cloud learns how much it misses, and why", async (t) => {
  const rig = await makeRig(t, { pipeline: { outboxAgeMsMax: 400 } });
  await rig.append(10);
  await until("it is there", async () => (await rig.events()) === 10);
  rig.cut(true);
  await rig.append(50);
  await waits(rig, 5);
  const atMs = performance.now();
  await until("their time is over", () => performance.now() > atMs + 450);
  rig.cut(false);
  await until("nothing waits", async () => (await rig.node.destination()).waiting.batches === 0);
  const told = async () => (await rig.cloud.cli.gaps({ edge: EDGE, limit: 10 }, call())).gaps;
  await until("the cloud is told", async () => (await told()).reduce((sum, gap) => sum + gap.events, 0) === 50);
  assert.deepEqual(
    (await told()).map(({ reason, class: of, destination }) => [reason, of, destination]),
    [["expired", "normal", "cloud"]],
  );
  await rig.append(10);
  await until("what is new is there", async () => (await rig.events()) === 20);
});

test("a node whose clock is an hour ahead is found out; nothing is rewritten, and queries can correct", async (t) => {
  const aheadMs = 3_600_000;
  const clock: Clock = {
    monotonicMs: () => systemClock.monotonicMs(),
    wallMs: () => systemClock.wallMs() + aheadMs,
    wallNs: () => systemClock.wallNs() + BigInt(aheadMs) * 1_000_000n,
  };
  const rig = await makeRig(t, { clock });
  for (let n = 1; n <= 4; n++) {
    await rig.append(10);
    await until("it is there", async () => (await rig.events()) === n * 10);
    await until("the node knows", async () => (await rig.node.destination()).waiting.batches === 0);
  }
  const [edge] = (await rig.cloud.cli.edges({}, call())).edges;
  assert.ok(Math.abs(edge.clock!.aheadMs - aheadMs) < 1_000 + edge.clock!.errorMs, JSON.stringify(edge.clock));
  assert.ok(edge.clock!.errorMs < 1_000);
  assert.ok(Math.abs(edge.dwellMs!.p50) < 5_000, "by both clocks, and their offset");
  const ask = { edge: EDGE, device: "a", offset: 0, limit: 1 };
  const [told] = (await rig.cloud.cli.readings(ask, call())).readings;
  const [corrected] = (await rig.cloud.cli.readings({ ...ask, corrected: true }, call())).readings;
  assert.equal(told.origin, 1_700_000_000_000_000_000n + 40n * 1_000_000n, "as it came");
  assert.equal(told.origin - corrected.origin, BigInt(Math.round(edge.clock!.aheadMs * 1e6)));
  assert.equal(told.id, corrected.id);
});

test("the cheaper of two ways is taken, the other when it fails; a probe tells when it is back", async (t) => {
  let jumpMs = 0;
  const clock: Clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + jumpMs };
  const second = await Wire.open(0);
  t.after(() => second.close());
  const first = await Wire.open(0);
  t.after(() => first.close());
  const pace = { windows: [], zone: "UTC", overridePriority: 10 };
  const way = (name: string, wire: Wire) => ({ name, url: wire.url, pace });
  const uplinks = [way("ethernet", first), way("lte", second)];
  const rig = await makeRig(t, {
    clock,
    pipeline: { destinations: { cloud: { kind: "cloud" as const, pace, uplinks } } },
  });
  first.to = second.to = rig.cloud.port;
  await rig.append(10);
  await until("it is there", async () => (await rig.events()) === 10);
  assert.equal((await rig.node.destination()).way, "ethernet");
  assert.equal(second.up, 0);
  first.mode = "cut";
  first.drop();
  await rig.append(10);
  await until("it is there, by the other way", async () => (await rig.events()) === 20);
  assert.equal((await rig.node.destination()).way, "lte");
  first.mode = "pass";
  for (let probe = 1; probe <= 2; probe++) {
    jumpMs += 60_000;
    await rig.append(10);
    await until("it is there", async () => (await rig.events()) === 20 + probe * 10);
  }
  await until("the cheaper way is taken", async () => {
    await rig.append(10);
    return (await rig.node.destination()).way === "ethernet";
  });
  await until("nothing waits", async () => (await rig.node.destination()).waiting.batches === 0);
  await assertWhole(rig, await rig.events());
});

test("a budget that is spent holds readings back and is remembered over a restart; the next day they go", async (t) => {
  let dayMs = 0;
  const clock: Clock = {
    monotonicMs: () => systemClock.monotonicMs() + dayMs,
    wallMs: () => systemClock.wallMs() + dayMs,
    wallNs: () => systemClock.wallNs() + BigInt(dayMs) * 1_000_000n,
  };
  const budget = { bytesMax: 30_000, per: "day" as const, startDay: 1 };
  const pace = { windows: [], zone: "UTC", overridePriority: 8, budget };
  const rig = await makeRig(t, {
    clock,
    pipeline: { destinations: { cloud: { kind: "cloud" as const, pace, uplinks: [] } } },
  });
  await until("the budget is spent", async () => {
    await rig.append(10);
    return (await rig.node.destination()).state === "holding";
  });
  const { reason, wireBytes } = await rig.node.destination();
  assert.match(reason!, /budget/);
  assert.ok(wireBytes.sent + wireBytes.received < 60_000);
  const before = await rig.events();
  await rig.append(100);
  await waits(rig, 10);
  assert.equal(await rig.events(), before);
  await rig.restart();
  await until("it holds again", async () => (await rig.node.destination()).state === "holding");
  assert.equal(await rig.events(), before);
  dayMs += 86_400_000;
  await rig.append(10);
  await until("the next day they go", async () => (await rig.events()) > before);
});
