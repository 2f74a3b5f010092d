import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { SetClock, temporary } from "../../../test/houses/edge.ts";
import type { Block } from "../../kernel/events/model.ts";
import { makeLog } from "../../kernel/log.ts";
import { ChunkIndex } from "./chunk-index.ts";
import { EventQuery } from "./query.ts";
import { Retainer } from "./retain.ts";
import { Retention } from "./retention.ts";
import { RetentionClock } from "../../kernel/retention-clock.ts";
import { EventStore } from "./store.ts";

const HOUR_MS = 3_600_000;
const LARGE = 2 ** 40;

function open(directory: string, clock: SetClock) {
  const log = makeLog("core-data", { level: "error" });
  const store = new EventStore({ path: join(directory, "events.db"), key: Buffer.alloc(32, 3), node: "edge1", log });
  const chunks = new ChunkIndex(store);
  const query = new EventQuery(store, chunks);
  const retention = new RetentionClock(clock, store.state("retentionMs"));
  const settle = () => store.settle(retention.nowMs());
  return {
    store,
    count: () => query.count({}, "events"),
    oldest: () => query.events({}, { offset: query.count({}, "events") - 1, limit: 1 }).events[0].origin,
    newest: () => query.events({}, { offset: 0, limit: 1 }).events[0].origin,
    retain: (keepHours: number, sizeBytesMax = LARGE) => {
      const parts = { store, chunks, settle, sizeBytesMax, retention: new Retention({ rules: [], keepHours }) };
      return new Retainer(parts).retain(retention.nowMs());
    },
    add(rows: number, from: number, value: () => number = () => 1, device = "d1") {
      const numbers = Array.from({ length: rows }, (_, i) => from + i);
      const block: Block = {
        publisher: { name: "device-x", epoch: 1 },
        series: {
          deviceName: device,
          profileName: "P",
          sourceName: "s",
          resources: [{ name: "r", valueType: "Float64" }],
        },
        sequences: numbers,
        origins: numbers.map(BigInt),
        columns: [numbers.map(value)],
        extras: new Map(),
      };
      store.add([block], from + rows, rows);
      settle();
    },
  };
}

test("events go when they came too long ago, whatever clock jumped and whatever their origin says", async (t) => {
  const directory = temporary(t);
  const clock = new SetClock();
  let edge = open(directory, clock);
  // Of 1970, by their origin.
  edge.add(2_000, 1);
  await edge.retain(24);
  clock.set(clock.wallMs() + 10 * 365 * 24 * HOUR_MS);
  await edge.retain(24);
  assert.equal(edge.count(), 2_000, "ten years ahead, and nothing is too old");
  edge.store.close();
  clock.set(Date.UTC(1975, 0, 1));
  edge = open(directory, clock);
  clock.pass(12 * HOUR_MS);
  edge.add(2_000, 2_001);
  await edge.retain(24);
  assert.equal(edge.count(), 4_000);
  clock.pass(13 * HOUR_MS);
  await edge.retain(24);
  assert.equal(edge.count(), 2_000, "those of 25 hours ago are gone, those of 13 are not");
  assert.equal(edge.oldest(), 2_001n);
  clock.pass(12 * HOUR_MS);
  await edge.retain(24);
  assert.equal(edge.count(), 0);
  edge.store.close();
});

test("a slow source's events are not kept for years by a chunk that never fills", async (t) => {
  const clock = new SetClock();
  const edge = open(temporary(t), clock);
  for (let hour = 0; hour < 24 * 10; hour++) {
    edge.add(1, hour + 1);
    clock.pass(HOUR_MS);
    await edge.retain(48);
  }
  assert.ok(edge.count() >= 48 && edge.count() <= 48 + 26, `${edge.count()} hours are left`);
  edge.store.close();
});

test("above the size the oldest go, as many as needed, and the newest stay", async (t) => {
  const edge = open(temporary(t), new SetClock());
  for (let i = 0; i < 30; i++) edge.add(4_096, i * 4_096 + 1, Math.random);
  const all = 30 * 4_096;
  assert.ok(edge.store.sizeBytes > 750_000);
  await edge.retain(24, 500_000);
  assert.ok(edge.store.sizeBytes <= 500_000);
  const left = edge.count();
  assert.ok(left > 50_000 && left < 100_000, `${left} are left`);
  assert.equal(edge.newest(), BigInt(all));
  assert.equal(edge.oldest(), BigInt(all - left + 1));
  await edge.retain(24, 500_000);
  assert.equal(edge.count(), left);
  edge.store.close();
});

test("a series of which nothing is left is forgotten, and comes again as if it were new", async (t) => {
  const directory = temporary(t);
  const clock = new SetClock();
  let edge = open(directory, clock);
  edge.add(10, 1, () => 1, "gone");
  clock.pass(30 * HOUR_MS);
  edge.add(10, 11, () => 1, "stays");
  await edge.retain(24);
  assert.deepEqual(
    edge.store.series.like({}).map((e) => e.series.deviceName),
    ["stays"],
  );
  edge.add(5, 21, () => 1, "gone");
  edge.store.close();
  edge = open(directory, clock);
  assert.equal(edge.store.series.like({ device: "gone" })[0].rows, 5);
  assert.equal(edge.count(), 15);
  edge.store.close();
});
