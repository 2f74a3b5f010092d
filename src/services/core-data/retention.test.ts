/** How long what is kept: docs/retention.md, its example executed, and what EdgeX's AutoEvents ask for. */
import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { callOf, edgeHouse, SetClock, temporary } from "../../../test/houses/edge.ts";
import { readConfig } from "../../kernel/config-file.ts";
import type { AutoEvent, Device } from "../../kernel/edgex.ts";
import { encodeBlocks } from "../../kernel/events/codec.ts";
import type { Block, Value } from "../../kernel/events/model.ts";
import { makeLog } from "../../kernel/log.ts";
import { RetentionClock } from "../../kernel/retention-clock.ts";
import { bus } from "../bus/api.ts";
import { main as busMain } from "../bus/main.ts";
import { coreMetadata } from "../core-metadata/api.ts";
import { main as metadataMain } from "../core-metadata/main.ts";
import { coreData } from "./api.ts";
import { ChunkIndex } from "./chunk-index.ts";
import { Holdings } from "./holdings.ts";
import { main } from "./main.ts";
import { EventQuery } from "./query.ts";
import { Remover } from "./remove.ts";
import { Retainer } from "./retain.ts";
import { Retention, type RetentionRule } from "./retention.ts";
import { EventStore } from "./store.ts";
import { Wishes } from "./wishes.ts";

const HOUR_MS = 3_600_000;
const LARGE = 2 ** 40;
type Test = Parameters<typeof temporary>[0];

const autoEvent = (sourceName: string, retention: NonNullable<AutoEvent["retention"]>): AutoEvent => ({
  interval: "1s",
  sourceName,
  retention,
});

function open(t: Test, rules: readonly RetentionRule[] = [], keepHours = 720) {
  const path = join(temporary(t), "events.db");
  const log = makeLog("core-data", { level: "error" });
  const clock = new SetClock();
  const store = new EventStore({ path, key: Buffer.alloc(32, 3), node: "edge1", log });
  const chunks = new ChunkIndex(store);
  const query = new EventQuery(store, chunks);
  const retentionClock = new RetentionClock(clock, store.state("retentionMs"));
  const settle = () => store.settle(retentionClock.nowMs());
  const retention = new Retention({ rules, keepHours });
  const parts = { store, chunks, retention, settle, sizeBytesMax: LARGE };
  const retainer = new Retainer(parts);
  const holdings = new Holdings({ ...parts, nowMs: () => retentionClock.nowMs() });
  let sequence = 0;
  t.after(() => store.close());
  return {
    path,
    store,
    query,
    clock,
    retention,
    remover: new Remover({ store, chunks, query, settle }),
    retain: (isInformed = true) => retainer.retain(retentionClock.nowMs(), isInformed),
    kept: (device?: string) =>
      holdings.list({ offset: 0, limit: 100, ...(device === undefined ? {} : { device }) }).sources,
    count: (device: string, resource?: string) =>
      query.count({ device, ...(resource === undefined ? {} : { resources: [resource] }) }, "readings"),
    /** Adds events of a device whose source has these resources. */
    add(device: string, resources: readonly string[], rows: number, value: (n: number) => Value = (n) => n) {
      const numbers = Array.from({ length: rows }, () => ++sequence);
      const block: Block = {
        publisher: { name: "device-x", epoch: 1 },
        series: {
          deviceName: device,
          profileName: "P",
          sourceName: "all",
          resources: resources.map((name) => ({ name, valueType: "Float64" })),
        },
        sequences: numbers,
        origins: numbers.map(BigInt),
        columns: resources.map(() => numbers.map(value)),
        extras: new Map(),
      };
      store.add([block], sequence, rows);
      settle();
    },
  };
}

const page = readFileSync(join(import.meta.dirname, "../../../docs/retention.md"), "utf8");
const example = /```yaml\n(.*?)```/s.exec(page)?.[1] ?? assert.fail("docs/retention.md has no example");
const config = readConfig(example, "docs/retention.md", [{ key: "core-data", schema: main.config }]);
const { retention: rules, keepHours } = config["core-data"] as { retention: RetentionRule[]; keepHours: number };

test("the page's example: vibrations go after a day, alarms stay ten years, all else goes by the default", async (t) => {
  const edge = open(t, rules, keepHours);
  edge.add("pump-1", ["Vibration", "Alarm", "Pressure"], 100);
  edge.add("motor", ["Vibration"], 100);
  const days = async (n: number) => {
    edge.clock.pass(n * 24 * HOUR_MS);
    await edge.retain();
    return ["Vibration", "Alarm", "Pressure"].map((name) => edge.count("pump-1", name));
  };
  assert.deepEqual(await days(0.9), [100, 100, 100]);
  assert.deepEqual(await days(0.2), [0, 100, 100]);
  assert.equal(edge.count("motor"), 100, "the rule is about pumps");
  assert.deepEqual(await days(7), [0, 100, 0]);
  assert.equal(edge.count("motor"), 0);
  const { readings } = edge.query.readings({ device: "pump-1" }, { offset: 0, limit: 200 });
  assert.deepEqual(new Set(readings.map(({ resourceName }) => resourceName)), new Set(["Alarm"]));
  assert.equal(readings.length, 100, "each event is there, with the reading that is left");
  assert.deepEqual(await days(3_700), [0, 0, 0]);
  assert.equal(edge.query.count({}, "events"), 0);
});

test("counts stay right whatever goes, and one event can still be removed of what is left", async (t) => {
  const edge = open(t, [{ devices: "*", resources: "short", keepHours: 1 }]);
  edge.add("d", ["short", "long"], 6_000, (n) => (n % 3 === 0 ? undefined : n));
  edge.add("d", ["short", "long"], 10);
  edge.clock.pass(2 * HOUR_MS);
  await edge.retain();
  assert.deepEqual([edge.count("d", "short"), edge.count("d", "long"), edge.count("d")], [0, 4_010, 4_010]);
  // Events that had no other reading are gone; those without any were none.
  assert.equal(edge.query.count({ device: "d" }, "events"), 4_010);
  const { id } = edge.query.events({ device: "d" }, { offset: 4_000, limit: 1 }).events[0];
  assert.ok(edge.remover.one(id));
  assert.equal(edge.count("d"), 4_009);
  edge.add("d", ["short", "long"], 5);
  await edge.retain();
  assert.deepEqual([edge.count("d", "short"), edge.count("d", "long")], [5, 4_014]);
  const [source] = edge.kept("d");
  assert.deepEqual([source.events, source.readings], [4_014, 4_019]);
});

test("an AutoEvent's duration counts for its source, its minCap stays however old, and a rule comes before it", async (t) => {
  const edge = open(t, [{ devices: "ruled", resources: "*", keepHours: 100 }]);
  const duration = { duration: "2h", minCap: 50 };
  edge.retention.learn(
    ["wished", "ruled"].map((name) => ({ name, autoEvents: [autoEvent("all", duration)] }) as unknown as Device),
  );
  for (const device of ["wished", "ruled", "other"]) for (let i = 0; i < 10; i++) edge.add(device, ["r"], 4_096);
  edge.add("wished", ["r"], 30);
  edge.clock.pass(3 * HOUR_MS);
  await edge.retain(false);
  assert.equal(edge.count("wished"), 40_990, "what devices want is not known yet");
  await edge.retain();
  const left = edge.count("wished");
  assert.ok(left >= 50 && left <= 30 + 4_096, `${left} are left`);
  assert.equal(edge.count("ruled"), 40_960);
  assert.equal(edge.count("other"), 40_960);
  assert.deepEqual(
    edge.kept().map(({ deviceName, keeps, eventsMin }) => [deviceName, keeps[0].seconds, keeps[0].by, eventsMin]),
    [
      ["ruled", 360_000, "rule", undefined],
      ["other", 2_592_000, "default", undefined],
      ["wished", 7_200, "device", 50],
    ].sort((a, b) => order(edge, a[0] as string) - order(edge, b[0] as string)),
  );
});

const order = (edge: ReturnType<typeof open>, device: string): number =>
  edge.kept().findIndex(({ deviceName }) => deviceName === device);

test("above maxCap events the oldest go, down to minCap, to the event; other sources are left alone", async (t) => {
  const edge = open(t);
  edge.retention.learn([
    { name: "capped", autoEvents: [autoEvent("all", { maxCap: 6_000, minCap: 5_000 })] },
    { name: "bounded", autoEvents: [autoEvent("all", { maxCap: 10 })] },
  ]);
  edge.add("capped", ["r"], 6_000);
  edge.add("bounded", ["r"], 5);
  edge.add("free", ["r"], 20_000);
  await edge.retain();
  assert.deepEqual([edge.count("capped"), edge.count("bounded")], [6_000, 5], "no more than may be");
  for (let i = 0; i < 4; i++) edge.add("capped", ["r"], 1_000);
  edge.add("bounded", ["r"], 7);
  await edge.retain();
  assert.deepEqual([edge.count("capped"), edge.count("bounded"), edge.count("free")], [5_000, 10, 20_000]);
  const { readings } = edge.query.readings({ device: "bounded" }, { offset: 9, limit: 1 });
  assert.equal(readings[0].origin, edge.query.events({ device: "bounded" }, { offset: 9, limit: 1 }).events[0].origin);
});

test("the file shrinks when what is in it goes", async (t) => {
  const edge = open(t, [{ devices: "noisy", resources: "*", keepHours: 1 }]);
  for (let i = 0; i < 300; i++) edge.add("noisy", ["r"], 4_096, Math.random);
  edge.add("quiet", ["r"], 100);
  const before = edge.kept("noisy")[0].bytes;
  edge.clock.pass(3 * HOUR_MS);
  await edge.retain();
  assert.equal(edge.count("noisy"), 0);
  assert.equal(edge.count("quiet"), 100);
  edge.store.close();
  const { size } = statSync(edge.path);
  assert.ok(before > 8_000_000 && size < 5_000_000, `${before} bytes were kept, the file has ${size}`);
});

test("what devices want is read from core-metadata, and told with what is kept", async (t) => {
  const house = edgeHouse(t, temporary(t));
  await house.start(busMain);
  await house.start(metadataMain);
  await house.start(main);
  const metadata = house.connect(coreMetadata, "gateway");
  const device = {
    name: "d1",
    serviceName: "device-x",
    profileName: "P",
    adminState: "UNLOCKED" as const,
    operatingState: "UP" as const,
    protocols: { other: {} },
    autoEvents: [autoEvent("all", { duration: "90m", maxCap: 100 })],
  };
  await metadata.addServices(
    { body: [{ service: { name: "device-x", baseAddress: "http://x", adminState: "UNLOCKED" } }] },
    callOf(),
  );
  const properties = { valueType: "Int8" as const, readWrite: "R" };
  const profile = { name: "P", deviceResources: [{ name: "all", properties }] };
  await metadata.addProfiles({ body: [{ profile }] }, callOf());
  const added = await metadata.addDevices({ body: [{ device }], bypassValidation: true, force: false }, callOf());
  assert.deepEqual(
    added?.map(({ statusCode, message }) => [statusCode, message]),
    [[201, undefined]],
  );
  const retention = new Retention({ rules: [], keepHours: 720 });
  const log = makeLog("core-data", { level: "error" });
  const wishes = new Wishes({
    metadata: house.connect(coreMetadata, "core-data"),
    retention,
    clock: new SetClock(),
    log,
    signal: new AbortController().signal,
  });
  assert.ok(await wishes.read());
  const resources = [{ name: "r", valueType: "Int8" as const }];
  const series = { deviceName: "d1", profileName: "P", sourceName: "all", resources };
  assert.deepEqual(retention.of(series), {
    resources: [{ seconds: 5_400, by: "device" }],
    secondsMax: 5_400,
    secondsMin: 5_400,
    eventsMin: 0,
    eventsMax: 100,
    eventsLeft: 100,
  });
  const block = { publisher: { name: "device-x", epoch: 1 }, series, sequences: [1], origins: [1n], columns: [[7]] };
  const blocks = encodeBlocks([{ ...block, extras: new Map() }]);
  await house.connect(bus, "device-x").append({ body: { blocks } }, callOf());
  const data = house.connect(coreData, "gateway");
  while ((await data.eventCount({}, callOf())).Count === 0);
  const { sources, totalCount, sizeBytes, sizeBytesMax } = await data.retention({ offset: 0, limit: 20 }, callOf());
  assert.deepEqual([totalCount, sources[0].deviceName, sources[0].readings], [1, "d1", 1]);
  assert.ok(sizeBytes > 0 && sizeBytesMax === 1_073_741_824 && sources[0].bytes > 0);
});
