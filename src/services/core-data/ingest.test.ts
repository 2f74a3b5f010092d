import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { openSync, readdirSync, statSync, writeSync, closeSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { batch, seriesOf } from "../../../test/houses/bus.ts";
import { callOf, edgeHouse, eventually, temporary } from "../../../test/houses/edge.ts";
import { BlockBuilder } from "../../kernel/events/blocks.ts";
import { encodeBlocks } from "../../kernel/events/codec.ts";
import { bus } from "../bus/api.ts";
import { main as busMain } from "../bus/main.ts";
import { coreData } from "./api.ts";
import { main } from "./main.ts";

type Test = Parameters<typeof edgeHouse>[0];

/** A house with the bus and core-data. */
async function start(t: Test, directory: string) {
  const house = edgeHouse(t, directory);
  await house.start(busMain);
  const local = await house.start(main);
  const data = house.connect(coreData, "gateway");
  const append = (name: string, blocks: Uint8Array) => house.connect(bus, name).append({ body: { blocks } }, callOf());
  const count = async () => (await data.eventCount({}, callOf())).Count;
  return { house, local, data, append, count, until: (n: number) => eventually(async () => (await count()) === n) };
}

test("what a device service appends is answered, newest first, and after a restart of all", async (t) => {
  const directory = temporary(t);
  const first = await start(t, directory);
  await first.append("device-x", batch("device-x", 5, 1, 3_000, ["d1", "d2", "d3"], 2));
  await first.until(3_000);
  await first.append("device-x", batch("device-x", 5, 3_001, 9_000, ["d1", "d2", "d3"], 2));
  await first.until(9_000);
  const before = await first.data.eventsByDevice({ name: "d2", offset: 100, limit: 50, numeric: false }, callOf());
  assert.equal(before.totalCount, 3_000);
  assert.deepEqual(
    before.events.map((e) => Number(e.readings[1].value)),
    Array.from({ length: 50 }, (_, i) => 8_998 - 3 * (100 + i)),
  );
  await first.house.stop();
  const second = await start(t, directory);
  assert.deepEqual(
    await second.data.eventsByDevice({ name: "d2", offset: 100, limit: 50, numeric: false }, callOf()),
    before,
  );
  assert.equal(await second.count(), 9_000);
});

test("kill -9 in the middle repeats nothing and skips nothing", async (t) => {
  const directory = temporary(t);
  const wanted = new Set<number>();
  let from = 0;
  for (let round = 0; round < 2; round++) {
    const child = fork(new URL("../../../test/houses/ingest.child.ts", import.meta.url), [directory, String(from)], {
      silent: true,
    });
    const ended = once(child, "exit");
    const enough = from + 6_000 + 700 * round;
    let acknowledged = from;
    child.on("message", (last: number) => {
      acknowledged = last;
      if (last >= enough) child.kill("SIGKILL");
    });
    await ended;
    assert.ok(acknowledged >= enough, "the child was killed, and did not end by itself");
    for (let n = from + 1; n <= acknowledged; n++) wanted.add(n);
    from = acknowledged + 1_000;
    const { house, data, count } = await start(t, directory);
    await eventually(async () => (await count()) >= wanted.size);
    const numbers: number[] = [];
    for (let offset = 0; offset < (await count()); offset += 1_024) {
      const { readings } = await data.allReadings({ offset, limit: 1_024, numeric: false }, callOf());
      numbers.push(...readings.map((r) => Number(r.value)));
    }
    const kept = new Set(numbers);
    assert.equal(kept.size, numbers.length, "each once");
    assert.deepEqual(
      [...wanted].filter((n) => !kept.has(n)),
      [],
      "none missing",
    );
    await house.stop();
  }
});

test("a damaged database is moved aside and filled again from the bus", async (t) => {
  const directory = temporary(t);
  const first = await start(t, directory);
  await first.append("device-x", batch("device-x", 5, 1, 6_000, ["d1"]));
  await first.until(6_000);
  await first.house.stop();
  const path = join(directory, "core-data", "events.db");
  const fd = openSync(path, "r+");
  for (let at = 4_096; at < statSync(path).size; at += 4_096) writeSync(fd, Buffer.alloc(64, 0x5a), 0, 64, at + 100);
  closeSync(fd);
  const second = await start(t, directory);
  await second.until(6_000);
  assert.ok(readdirSync(join(directory, "core-data")).some((name) => name.includes("damaged")));
  await second.house.stop();
  truncateSync(path, 8_192);
  const third = await start(t, directory);
  await third.until(6_000);
  await third.append("device-x", batch("device-x", 5, 6_001, 6_010, ["d1"]));
  await third.until(6_010);
});

test("damage that a question finds costs a moment, and no restart", async (t) => {
  const directory = temporary(t);
  const { append, until, data, house } = await start(t, directory);
  const resources = [{ name: "noise", valueType: "Binary" as const, mediaType: "x/y" }];
  // More than the database's cache holds.
  for (let sequence = 1; sequence <= 80; sequence++) {
    const builder = new BlockBuilder({ publisher: { name: "device-x", epoch: 5 } });
    builder.add({ ...seriesOf("d1"), resources }, sequence, BigInt(sequence), [randomBytes(65_536)]);
    await append("device-x", encodeBlocks(builder.blocks()));
  }
  await until(80);
  const path = join(directory, "core-data", "events.db");
  await eventually(() => statSync(path).size > 2_000_000);
  for (const file of [path, `${path}-wal`]) {
    const fd = openSync(file, "r+");
    for (let at = 0; at < statSync(file).size; at += 512) writeSync(fd, Buffer.alloc(64, 0x5a), 0, 64, at + 100);
    closeSync(fd);
  }
  const oldest = () => data.allEvents({ offset: 79, limit: 1, numeric: false }, callOf());
  await assert.rejects(oldest, { code: "DATABASE_DAMAGED" });
  const event = await eventually(async () => (await oldest()).events[0]);
  assert.equal(event.origin, 1n);
  await until(80);
  assert.ok(readdirSync(join(directory, "core-data")).some((name) => name.includes("damaged")));
  await house.stop();
});

test("what is in memory is written before long, and the bus told that it may go", async (t) => {
  const { house, local, append, until } = await start(t, temporary(t));
  await append("device-x", batch("device-x", 5, 1, 5_000, ["d1", "d2"]));
  await until(5_000);
  const watcher = house.connect(bus, "pipeline");
  const placeOf = async () =>
    (await watcher.backlog({}, callOf())).followers.find((f) => f.name === "core-data")?.position;
  // Full: written at once.
  const { last } = await watcher.backlog({}, callOf());
  await eventually(async () => (await placeOf()) === last);
  await append("device-x", batch("device-x", 5, 5_001, 5_002));
  await until(5_002);
  await local.stop();
  assert.equal(await placeOf(), last + 1, "and at the end");
});
