import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { encodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import type { FollowItem } from "./api.ts";
import {
  allEvents,
  batch,
  call,
  eventsIn,
  followUntil,
  seriesOf,
  span,
  startBus,
  temporary,
} from "../../../test/houses/bus.ts";

const failure = (code: string) => ({ name: "Failure", code });
const append = (of: Awaited<ReturnType<typeof startBus>>, caller: string, blocks: Uint8Array) =>
  of.as(caller).append({ body: { blocks } }, call());

/** Events with values that nothing makes small, so that a journal fills. */
function large(name: string, epoch: number, sequence: number, bytes: number): Uint8Array {
  const series = { ...seriesOf("d1"), resources: [{ name: "blob", valueType: "Binary" as const, mediaType: "x/y" }] };
  const block: Block = {
    publisher: { name, epoch },
    series,
    sequences: [sequence],
    origins: [1n],
    columns: [[randomBytes(bytes)]],
    extras: new Map(),
  };
  return encodeBlocks([block]);
}

test("what was acknowledged is there after kill -9", async (t) => {
  const directory = temporary(t);
  const fixture = new URL("../../../test/houses/bus.ts", import.meta.url).href;
  const code = `
    const { batch, call, startBus } = await import(${JSON.stringify(fixture)});
    const bus = (await startBus(${JSON.stringify(directory)})).as("device-x");
    for (let s = 1; ; s += 10) {
      const { last } = await bus.append({ body: { blocks: batch("device-x", 5, s, s + 9, ["d1", "d2"]) } }, call());
      process.stdout.write(last + "\\n");
    }`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code], {
    cwd: fileURLToPath(new URL("../../..", import.meta.url)),
    stdio: ["ignore", "pipe", "inherit"],
  });
  let acknowledged = 0;
  for await (const chunk of child.stdout) {
    acknowledged = Math.max(acknowledged, ...String(chunk).trim().split("\n").slice(-2).map(Number));
    if (acknowledged >= 300) break;
  }
  child.kill("SIGKILL");
  await new Promise((resolve) => child.once("close", resolve));
  const bus = await startBus(directory);
  const kept = (await allEvents(bus.as("core-data"), "core-data"))
    .map((e) => Number(e.split("/")[2]))
    .sort((a, b) => a - b);
  assert.ok(kept.length >= acknowledged, `${acknowledged} were acknowledged, ${kept.length} are there`);
  assert.deepEqual(
    kept,
    Array.from({ length: kept.length }, (_, i) => i + 1),
    "each once, none missing",
  );
  // The publisher repeats what it has no acknowledgement for, and a bit more.
  const again = await append(bus, "device-x", batch("device-x", 5, 1, kept.length + 5));
  assert.equal(again.last, kept.length + 5);
  assert.equal((await allEvents(bus.as("core-data"), "core-data")).length, kept.length + 5);
  await bus.stop();
});

test("what is sent twice is kept once, also after a restart and after a trim", async (t) => {
  const directory = temporary(t);
  const config = { followers: ["core-data"], keepBytes: 0 };
  let bus = await startBus(directory, config);
  const first = await append(bus, "device-x", batch("device-x", 3, 1, 100));
  assert.deepEqual(await append(bus, "device-x", batch("device-x", 3, 1, 100)), {
    position: first.position,
    last: 100,
  });
  assert.deepEqual(await append(bus, "device-x", batch("device-x", 3, 51, 60)), {
    position: first.position,
    last: 100,
  });
  await bus.stop();
  bus = await startBus(directory, config);
  assert.equal((await append(bus, "device-x", batch("device-x", 3, 1, 100))).position, first.position);
  // An older epoch, from before the publisher's restart, has marks of its own.
  await append(bus, "device-x", batch("device-x", 4, 1, 10));
  assert.equal((await append(bus, "device-x", batch("device-x", 3, 91, 101))).last, 101);
  assert.deepEqual(await allEvents(bus.as("core-data"), "core-data"), [
    ...span("device-x", 3, 1, 100),
    ...span("device-x", 4, 1, 10),
    "device-x/3/101",
  ]);
  await Promise.all(
    Array.from({ length: 290 }, (_, i) => append(bus, "device-x", large("device-x", 4, 11 + i, 65_536))),
  );
  const { last } = await bus.as("core-data").backlog({}, call());
  await bus.as("core-data").confirm({ body: { follower: "core-data", position: last } }, call());
  await bus.stop();
  bus = await startBus(directory, config);
  const { first: oldest } = await bus.as("core-data").backlog({}, call());
  assert.ok(oldest > 1, "the first records were trimmed");
  assert.equal((await append(bus, "device-x", batch("device-x", 3, 1, 101))).position, last);
  assert.equal((await append(bus, "device-x", batch("device-x", 4, 1, 300))).position, last);
  await bus.stop();
});

test("of a batch that is partly there only the new part is kept", async (t) => {
  const bus = await startBus(temporary(t));
  await append(bus, "device-x", batch("device-x", 1, 1, 10, ["d1", "d2", "d3"]));
  const { last } = await append(bus, "device-x", batch("device-x", 1, 4, 25, ["d1", "d2", "d3"]));
  assert.equal(last, 25);
  const kept = await allEvents(bus.as("core-data"), "core-data");
  assert.deepEqual(kept.toSorted(), span("device-x", 1, 1, 25).toSorted());
  await bus.stop();
});

test("batches that overtake each other, and their repetitions, are kept once and in order", async (t) => {
  const bus = await startBus(temporary(t));
  const ranges = [
    [11, 20],
    [1, 10],
    [1, 10],
    [21, 30],
    [11, 20],
    [31, 31],
    [21, 31],
  ] as const;
  const answers = await Promise.all(
    ranges.map(([from, to]) => append(bus, "device-x", batch("device-x", 1, from, to))),
  );
  assert.ok(answers.every(({ last }, i) => last >= ranges[i][1]));
  assert.deepEqual(await allEvents(bus.as("core-data"), "core-data"), span("device-x", 1, 1, 31));
  // Numbers that a publisher gave up hold nothing up for long.
  assert.equal((await append(bus, "device-x", batch("device-x", 1, 40, 41))).last, 41);
  await bus.stop();
});

test("a batch of another publisher, of two epochs or of no events is refused, and nothing of it kept", async (t) => {
  const bus = await startBus(temporary(t));
  await assert.rejects(append(bus, "device-y", batch("device-x", 1, 1, 10)), failure("BUS_BATCH_REFUSED"));
  const series = seriesOf("d1");
  const block = (epoch: number, sequence: number): Block => ({
    publisher: { name: "device-x", epoch },
    series,
    sequences: [sequence],
    origins: [1n],
    columns: [[1]],
    extras: new Map(),
  });
  await assert.rejects(append(bus, "device-x", encodeBlocks([block(1, 1), block(2, 2)])), failure("BUS_BATCH_REFUSED"));
  await assert.rejects(append(bus, "device-x", encodeBlocks([block(1, 1), block(1, 1)])), failure("BUS_BATCH_REFUSED"));
  for (const bytes of [
    new Uint8Array(0),
    randomBytes(100),
    Buffer.from("{}"),
    batch("device-x", 1, 1, 10).subarray(0, 20),
  ]) {
    await assert.rejects(append(bus, "device-x", bytes), failure("BUS_BATCH_REFUSED"));
  }
  await assert.rejects(append(bus, "device-x", new Uint8Array(1_048_577)), failure("INPUT_TOO_LARGE"));
  assert.equal((await bus.as("core-data").backlog({}, call())).last, 0);
  await bus.stop();
});

test("a follower goes on where it stopped, without repeating or skipping, and gets what comes", async (t) => {
  const directory = temporary(t);
  let bus = await startBus(directory);
  for (let s = 1; s <= 91; s += 10) await append(bus, "device-x", batch("device-x", 1, s, s + 9));
  const seen: string[] = [];
  let after = 0;
  for (let round = 0; seen.length < 60; round++) {
    const [item] = await followUntil(
      bus.as("pipeline"),
      { follower: "pipeline", after, bytesMax: 100 + round },
      () => true,
    );
    seen.push(...eventsIn([item]));
    after = item.next;
  }
  await bus.stop();
  bus = await startBus(directory);
  const live = followUntil(
    bus.as("pipeline"),
    { follower: "pipeline", after },
    (items) => eventsIn(items).length >= 150 - seen.length,
  );
  for (let s = 101; s <= 141; s += 10) await append(bus, "device-x", batch("device-x", 1, s, s + 9));
  seen.push(...eventsIn(await live));
  assert.deepEqual(seen, span("device-x", 1, 1, 150));
  await bus.stop();
});

/** Collects garbage now, so that what is measured is what is held. */
function collect(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}

test("a follower that is slow or stops reading costs the bus no memory, and ends with its call", async (t) => {
  const bus = await startBus(temporary(t), { followers: [] });
  const stop = new AbortController();
  const stream = bus.as("core-data").follow({ follower: "core-data", after: 0, bytesMax: 100_000 }, call(stop.signal));
  const slow = stream[Symbol.asyncIterator]();
  await append(bus, "device-x", large("device-x", 1, 1, 90_000));
  await slow.next();
  collect();
  const before = process.memoryUsage().arrayBuffers;
  for (let s = 2; s <= 300; s += 23)
    await Promise.all(
      Array.from({ length: 23 }, (_, i) => append(bus, "device-x", large("device-x", 1, s + i, 90_000))),
    );
  collect();
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.ok(grown < 20_000_000, `27 MB went past the follower, ${Math.round(grown / 1e6)} MB are held`);
  const item = (await slow.next()).value as FollowItem;
  assert.equal(item.records.length, 2);
  stop.abort();
  assert.equal((await slow.next()).done, true);
  assert.equal(
    (await bus.as("core-data").backlog({}, call())).followers.find((f) => f.name === "core-data")?.connected,
    false,
  );
  await bus.stop();
});

test("filters choose messages and events by their topics", async (t) => {
  const bus = await startBus(temporary(t));
  const payload = Buffer.from("{}");
  await append(bus, "device-x", batch("device-x", 1, 1, 10, ["d1", "d2"]));
  await bus
    .as("core-metadata")
    .publish({ body: { topic: "edgex/system-events/core-metadata/device/add/device-x/P", payload } }, call());
  await bus
    .as("core-metadata")
    .publish({ body: { topic: "edgex/system-events/core-metadata/device/add/device-y/P", payload } }, call());
  await append(bus, "device-x", batch("device-x", 1, 11, 20, ["d3"]));
  const chosen = async (topics?: string[]) =>
    (
      await followUntil(
        bus.as("trace"),
        { follower: "trace", after: 0, ...(topics ? { topics } : {}) },
        (items) => items.at(-1)!.next === 4 || items.at(-1)!.records.length > 0,
      )
    ).flatMap((i) => i.records.map((r) => `${r.position} ${r.kind} ${r.topic}`));
  const d1 = "edgex/events/device/device-x/Thermometer/d1/All";
  assert.deepEqual(await chosen(["edgex/system-events/+/device/add/device-y/#"]), [
    "3 message edgex/system-events/core-metadata/device/add/device-y/P",
  ]);
  assert.deepEqual(await chosen([d1]), [`1 events ${d1}`]);
  assert.equal((await chosen()).length, 2);
  assert.equal((await chosen(["edgex/events/#", "edgex/system-events/#"])).length, 4);
  const [only] = await followUntil(bus.as("trace"), { follower: "trace", after: 0, topics: [d1] }, () => true);
  assert.deepEqual(eventsIn([only]), ["device-x/1/2", "device-x/1/4", "device-x/1/6", "device-x/1/8", "device-x/1/10"]);
  await assert.rejects(
    followUntil(bus.as("device-host"), { follower: "device-host", after: 0 }, () => true),
    failure("BUS_TOPIC_REFUSED"),
  );
  await assert.rejects(
    bus.as("pipeline").confirm({ body: { follower: "core-data", position: 1 } }, call()),
    failure("BUS_FOLLOWER_REFUSED"),
  );
  await bus.stop();
});

test("a full journal refuses without dropping, and takes again once its followers have confirmed", async (t) => {
  const bus = await startBus(temporary(t), {
    sizeBytesMax: 2 ** 20,
    keepBytes: 0,
    followers: ["core-data", "pipeline"],
  });
  let s = 0;
  await assert.rejects(
    async () => {
      for (;;) await append(bus, "device-x", large("device-x", 1, ++s, 30_000));
    },
    (error: { code: string; retryAfterS?: number }) => error.code === "BUS_FULL" && error.retryAfterS === 1,
  );
  assert.equal(bus.health().state, "warning");
  const kept = await allEvents(bus.as("core-data"), "core-data");
  assert.deepEqual(kept, span("device-x", 1, 1, s - 1));
  const position = (await bus.as("core-data").backlog({}, call())).last;
  await bus.as("core-data").confirm({ body: { follower: "core-data", position } }, call());
  await new Promise((resolve) => setTimeout(resolve, 1_300));
  // The pipeline has not been heard of yet: nothing may go.
  await assert.rejects(append(bus, "device-x", large("device-x", 1, s, 30_000)), failure("BUS_FULL"));
  await bus.as("pipeline").confirm({ body: { follower: "pipeline", position } }, call());
  for (let tries = 0; ; tries++) {
    try {
      assert.equal((await append(bus, "device-x", large("device-x", 1, s, 30_000))).last, s);
      break;
    } catch (error) {
      if (tries === 30) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  assert.equal(bus.health().state, "passing");
  await bus.stop();
});

test("a state file that is damaged or missing costs a replay, not the start and not the events", async (t) => {
  const directory = temporary(t);
  let bus = await startBus(directory);
  await append(bus, "device-x", batch("device-x", 1, 1, 50));
  await bus.stop();
  const { writeFileSync, rmSync } = await import("node:fs");
  for (const spoil of [(path: string) => writeFileSync(path, randomBytes(200)), (path: string) => rmSync(path)]) {
    spoil(join(directory, "bus", "state"));
    bus = await startBus(directory);
    assert.equal((await append(bus, "device-x", batch("device-x", 1, 1, 50))).position, 1);
    await bus.stop();
  }
});

test("nothing that was appended can be read from the files", async (t) => {
  const directory = temporary(t);
  const bus = await startBus(directory);
  await append(bus, "device-canary", batch("device-canary", 1, 1, 10, ["canary-device"]));
  await bus.as("core-metadata").publish(
    {
      body: { topic: "edgex/system-events/core-metadata/device/add/device-canary/P", payload: Buffer.from("canary") },
    },
    call(),
  );
  await bus.stop();
  const { readdirSync } = await import("node:fs");
  const files = readdirSync(join(directory, "bus"), { recursive: true, withFileTypes: true }).filter((f) => f.isFile());
  assert.ok(files.length >= 2);
  for (const file of files) assert.ok(!readFileSync(join(file.parentPath, file.name)).includes("canary"), file.name);
});
