import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { test } from "node:test";
import { call } from "../../../test/houses/bus.ts";
import { SetClock, temporary } from "../../../test/houses/edge.ts";
import { systemClock } from "../../kernel/clock.ts";
import { openDatabase } from "../../kernel/database.ts";
import { decodeBlocks, encodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { RetentionClock } from "../../kernel/retention-clock.ts";
import { makeLog } from "../../kernel/log.ts";
import { makeLocalHouse } from "../../node/local.ts";
import { bus, type Bus } from "../bus/api.ts";
import { main as busMain } from "../bus/main.ts";
import { Gaps } from "../pipeline/outbox/gaps.ts";
import { Outbox } from "../pipeline/outbox/outbox.ts";
import { PipelineStore } from "../pipeline/store.ts";
import { ChunkIndex } from "./chunk-index.ts";
import { EventQuery } from "./query.ts";
import { Remover } from "./remove.ts";
import { EventStore } from "./store.ts";

const KEY = Buffer.alloc(32, 3);
const log = makeLog("test", { to: new Writable({ write: (_chunk, _encoding, done) => done() }) });
/** Found in a chunk's bytes wherever they are not encrypted. */
const CANARY = "canary-of-the-forgotten-device";

const blockOf = (deviceName: string, from: number, rows: number): Block => {
  const numbers = Array.from({ length: rows }, (_, i) => from + i);
  return {
    publisher: { name: "device-x", epoch: 1 },
    series: {
      deviceName,
      profileName: "P",
      sourceName: "s",
      resources: [{ name: "r", valueType: "String" }],
    },
    sequences: numbers,
    origins: numbers.map(BigInt),
    columns: [numbers.map((n) => `${CANARY} ${n}`)],
    extras: new Map(),
  };
};

function openStore(directory: string) {
  const path = join(directory, "events.db");
  const store = new EventStore({ path, key: KEY, node: "edge1", log });
  const chunks = new ChunkIndex(store);
  const query = new EventQuery(store, chunks);
  const retention = new RetentionClock(new SetClock(), store.state("retentionMs"));
  const settle = (): void => store.settle(retention.nowMs());
  const add = (block: Block): void => {
    store.add([block], block.sequences.at(-1) ?? 0, 1000);
    settle();
  };
  return { path, store, query, add, remover: new Remover({ store, chunks, query, settle }) };
}

test("a device's events are unreadable when forget has begun, and another's stay", async (t) => {
  const directory = temporary(t);
  const edge = openStore(directory);
  for (let from = 1; from <= 6_000; from += 1_000) {
    edge.add(blockOf("gone", from, 1_000));
    edge.add(blockOf("stays", 100_000 + from, 1_000));
  }
  const read = (device: string) => edge.query.events({ device }, { offset: 0, limit: 10 }).events.length;
  assert.deepEqual([read("gone"), read("stays")], [10, 10]);
  // Not awaited: what counts is that the key is gone, not the room.
  const removing = edge.remover.forget("gone");
  assert.deepEqual([read("gone"), read("stays")], [0, 10]);
  await removing;
  assert.equal(edge.query.count({ device: "stays" }, "events"), 6_000);
  assert.equal(edge.query.count({ device: "gone" }, "events"), 0);
  // One that reports again begins anew.
  edge.add(blockOf("gone", 50_000, 10));
  assert.equal(read("gone"), 10);
  edge.store.close();
});

test("with the database's own key alone nobody reads a chunk, and a stop in the middle of forgetting brings none back", async (t) => {
  const directory = temporary(t);
  const edge = openStore(directory);
  edge.add(blockOf("gone", 1, 500));
  edge.add(blockOf("stays", 10_001, 500));
  // The key goes, and the node with it: the chunks were not dropped yet.
  edge.store.destroyKey("gone");
  edge.store.close();
  const raw = openDatabase({ path: edge.path, key: KEY, schema: { version: 3, migrations: ["", "", ""] } });
  const chunks = raw.prepare<{ blocks: Uint8Array }>("SELECT blocks FROM chunk").all();
  assert.equal(chunks.length, 2);
  for (const { blocks } of chunks) assert.ok(!Buffer.from(blocks).includes(CANARY), "a chunk can be read");
  assert.equal(raw.prepare<{ n: number }>("SELECT count(*) AS n FROM device_key").get()?.n, 1);
  raw.close();
  const again = openStore(directory);
  assert.equal(again.query.count({}, "events"), 500);
  assert.equal(again.query.events({ device: "stays" }, { offset: 0, limit: 5 }).events.length, 5);
  again.store.close();
});

async function followed(of: Bus, upTo: number): Promise<string[]> {
  const found: string[] = [];
  const ending = new AbortController();
  for await (const { records, next } of of.follow({ follower: "core-data/test", after: 0 }, call(ending.signal))) {
    for (const { payload } of records)
      for (const { series, sequences } of decodeBlocks(payload)) found.push(`${series.deviceName} ${sequences.length}`);
    if (next >= upTo) break;
  }
  ending.abort();
  return found;
}

test("the bus gives a forgotten device's events to nobody, from batches of several devices too, and after a restart", async (t) => {
  const directory = temporary(t);
  const open = async () => {
    const house = makeLocalHouse({ node: "edge1", directory, version: "test", log, dataKey: async () => KEY });
    await house.start(busMain, { keepBytes: 2 ** 20 });
    return house;
  };
  let house = await open();
  const append = (blocks: readonly Block[]) =>
    house.connect(bus, "device-x").append({ body: { blocks: encodeBlocks(blocks) } }, call());
  await append([blockOf("gone", 1, 3)]);
  await append([blockOf("gone", 4, 3), blockOf("stays", 7, 2)]);
  await house.connect(bus, "node").forgetDevice({ body: { device: "gone" } }, call());
  const { position } = await append([blockOf("stays", 9, 4), blockOf("gone", 13, 1)]);
  const wanted = ["stays 2", "stays 4", "gone 1"];
  assert.deepEqual(await followed(house.connect(bus, "core-data"), position), wanted);
  await house.stop();
  house = await open();
  assert.deepEqual(await followed(house.connect(bus, "core-data"), position), wanted);
  await assert.rejects(async () => house.connect(bus, "gateway").forgetDevice({ body: { device: "stays" } }, call()), {
    code: "CALLER_REFUSED",
  });
  await house.stop();
});

test("what waits of a forgotten device in the outbox goes nowhere, and the rest of its batch does", async (t) => {
  const directory = join(temporary(t), "pipeline");
  mkdirSync(directory, { recursive: true });
  const store = new PipelineStore({ path: join(directory, "pipeline.db"), key: KEY, log });
  const open = () =>
    Outbox.open({
      directory,
      key: KEY,
      sizeBytesMax: 2 ** 26,
      whenFull: "refuse",
      ageMsMax: Number.POSITIVE_INFINITY,
      destinations: ["cloud"],
      clock: systemClock,
      log,
      gaps: new Gaps(store.gaps, systemClock, log),
      saved: store.outbox,
      save: (state) => (store.outbox = state),
    });
  let outbox = await open();
  const add = (through: number, blocks: readonly Block[]) =>
    outbox.add({ pipeline: "all", destinations: ["cloud"], priority: 5 }, [
      { blocks: encodeBlocks(blocks), events: 9, readings: 9, through, queuedNs: systemClock.wallNs() },
    ]);
  await add(1, [blockOf("gone", 1, 3)]);
  await add(2, [blockOf("gone", 4, 3), blockOf("stays", 7, 2)]);
  outbox.forget("gone");
  await add(3, [blockOf("gone", 9, 1)]);
  for (const round of ["at once", "after a restart"]) {
    const { batches } = await outbox.queues.normal.read("cloud", 0, { bytesMax: 2 ** 24, recordsMax: 10 });
    assert.deepEqual(
      batches.map((batch) => outbox.isExpired(batch)),
      [true, false, false],
      round,
    );
    const left = batches.slice(1).map(({ blocks, events, readings }) => ({
      devices: decodeBlocks(blocks).map(({ series }) => series.deviceName),
      events,
      readings,
    }));
    assert.deepEqual(left, [
      { devices: ["stays"], events: 2, readings: 2 },
      { devices: ["gone"], events: 9, readings: 9 },
    ]);
    await outbox.close();
    outbox = await open();
  }
  await outbox.close();
  store.close();
});
