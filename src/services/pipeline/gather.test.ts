import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../../kernel/clock.ts";
import { decodeBlocks } from "../../kernel/events/codec.ts";
import { EVENTS_TOO_LARGE, encodeBlocks } from "../../kernel/events/codec.ts";
import { fail } from "../../kernel/error.ts";
import { JOURNAL_FULL } from "../../kernel/journal/errors.ts";
import type { Block } from "../../kernel/events/model.ts";
import { makeLog } from "../../kernel/log.ts";
import { Tracer } from "../../kernel/trace.ts";
import { makeLocalHouse } from "../../node/local.ts";
import { type Bus, bus } from "../bus/api.ts";
import { main as busMain } from "../bus/main.ts";
import { BATCH_BYTES_MAX, makeBatches } from "./batch.ts";
import { gather, type GatherOptions } from "./gather.ts";
import { Outbox } from "./outbox.ts";
import { PipelineStore } from "./store.ts";
import { blocksOf, call, events, temporary, until } from "../../../test/houses/uplink.ts";

const log = makeLog("pipeline", { level: "error" });
const quiet = makeLog("pipeline", { to: { write: () => undefined } });
const KEY = Buffer.alloc(32, 3);

interface Rig {
  readonly bus: Bus;
  outbox: Outbox;
  readonly store: PipelineStore;
  append(name: string, blocks: Uint8Array): Promise<void>;
  start(options?: Partial<GatherOptions>): void;
  stop(): Promise<void>;
  reopen(): Promise<void>;
  /** Sequences of all batches, batch by batch. */
  batches(): Promise<number[][]>;
}

async function makeRig(t: { after(work: () => unknown): void }): Promise<Rig> {
  const directory = temporary(t);
  const house = makeLocalHouse({ node: "edge1", directory, version: "test", log, dataKey: async () => KEY });
  await house.start(busMain, { keepBytes: 0 });
  const store = new PipelineStore({ path: join(directory, "pipeline.db"), key: KEY, log });
  const open = () =>
    Outbox.open({
      directory: join(directory, "pipeline"),
      key: KEY,
      sizeBytesMax: 2 ** 28,
      clock: systemClock,
      log,
      known: { followed: store.followed, stream: store.stream },
    });
  let stopping = new AbortController();
  let running: Promise<void> = Promise.resolve();
  const rig: Rig = {
    bus: house.connect(bus, "pipeline"),
    outbox: await open(),
    store,
    append: async (name, blocks) => void (await house.connect(bus, name).append({ body: { blocks } }, call())),
    start(options = {}) {
      stopping = new AbortController();
      const given = {
        bus: rig.bus,
        outbox: rig.outbox,
        store,
        filter: (block: Block) => block,
        batchEvents: 1_000,
        batchMs: 20,
      };
      running = gather({
        ...given,
        clock: systemClock,
        log: quiet,
        tracer: new Tracer("pipeline", systemClock),
        signal: stopping.signal,
        ...options,
      });
    },
    async stop() {
      stopping.abort();
      await running;
    },
    async reopen() {
      await rig.stop();
      await rig.outbox.journal.close();
      rig.outbox = await open();
    },
    async batches() {
      const found: number[][] = [];
      for (let after = 0; after < rig.outbox.journal.last;) {
        const { batches, next } = await rig.outbox.read(after, { bytesMax: 2 ** 24, recordsMax: 10_000 });
        for (const { blocks } of batches) found.push(decodeBlocks(blocks).flatMap(({ sequences }) => sequences));
        after = next;
      }
      return found;
    },
  };
  t.after(async () => {
    await rig.stop();
    await rig.outbox.journal.close();
    store.close();
    await house.stop();
  });
  return rig;
}

const nobody = (block: Block): void => assert.fail(`an event of ${block.series.deviceName} is lost`);
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const followedAll = async (rig: Rig) => rig.outbox.followed === (await rig.bus.backlog({}, call())).last;

test("events gather to a batch by count, and what is left goes after its time", async (t) => {
  const rig = await makeRig(t);
  for (let n = 1; n <= 25; n++) await rig.append("device-a", events("device-a", n * 10 - 9, n * 10));
  rig.start({ batchEvents: 100, batchMs: 50 });
  await until("all are followed", () => followedAll(rig));
  const batches = await rig.batches();
  assert.deepEqual(
    batches.map((b) => b.length),
    [100, 100, 50],
  );
  assert.deepEqual(batches.flat(), numbers(1, 250));
});

test("a record larger than a batch is cut, and a crash in between leaves all of it or none", async (t) => {
  const rig = await makeRig(t);
  await rig.append("device-a", events("device-a", 1, 950, { devices: ["a", "b"] }));
  rig.start({ batchEvents: 100 });
  await until("all are followed", () => followedAll(rig));
  const batches = await rig.batches();
  assert.deepEqual(
    batches.map((b) => b.length),
    [100, 100, 100, 100, 100, 100, 100, 100, 100, 50],
  );
  assert.deepEqual(
    batches.flat().sort((x, y) => x - y),
    numbers(1, 950),
  );
  const { batches: all } = await rig.outbox.read(0, { bytesMax: 2 ** 24, recordsMax: 100 });
  assert.deepEqual(
    all.map(({ through }) => through),
    [...new Array<number>(9).fill(0), 1],
    "only the last says that the record is done",
  );
  assert.deepEqual(
    all.map((b) => [b.events, b.readings]),
    [...Array.from({ length: 9 }, () => [100, 100]), [50, 50]],
  );
});

test("events of which nothing leaves move the position on, without a batch, and the next start does not read them again", async (t) => {
  const rig = await makeRig(t);
  rig.start({ filter: () => undefined });
  for (let n = 1; n <= 30; n++) await rig.append("device-a", events("device-a", n, n));
  await until("all are followed", () => followedAll(rig));
  assert.equal(rig.outbox.journal.last, 0);
  await until(
    "the bus is told",
    async () => (await rig.bus.backlog({}, call())).followers.find((f) => f.name === "pipeline")?.position === 30,
  );
  assert.equal(rig.store.followed, 30, "noted before the bus was told");
  await rig.reopen();
  assert.equal(rig.outbox.followed, 30);
});

test("a position never passes a flush that is under way: should it fail, all of it is followed again", async (t) => {
  const rig = await makeRig(t);
  const journal = rig.outbox.journal;
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
  rig.start({ batchMs: 1, filter: (block) => (block.series.deviceName === "kept" ? block : undefined) });
  await rig.append("device-a", events("device-a", 1, 5, { devices: ["kept"] }));
  await until("the flush is under way", () => failures === 1);
  await rig.append("device-a", events("device-a", 6, 10, { devices: ["left out"] }));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(rig.outbox.followed, 0);
  release.resolve();
  await until("all are followed", () => followedAll(rig));
  assert.deepEqual(await rig.batches(), [numbers(1, 5)]);
});

test("a timed flush that fails ends the run, and the next one begins where the outbox stands", async (t) => {
  const rig = await makeRig(t);
  const journal = rig.outbox.journal;
  const append = journal.appendMany.bind(journal);
  let failures = 0;
  Object.assign(journal, {
    appendMany: (entries: Parameters<typeof append>[0]) =>
      failures++ < 3 ? Promise.reject(fail(JOURNAL_FULL, "full")) : append(entries),
  });
  rig.start({ batchMs: 1 });
  for (let n = 1; n <= 20; n++) await rig.append("device-a", events("device-a", n, n));
  await until("all are followed", () => followedAll(rig));
  assert.deepEqual((await rig.batches()).flat(), numbers(1, 20));
  assert.ok(failures > 3);
});

test("a record that cannot be read is passed by and said, and what is around it arrives", async (t) => {
  const rig = await makeRig(t);
  const lines: string[] = [];
  await rig.append("device-a", events("device-a", 1, 20));
  const whole = events("device-a", 21, 60, { value: (s) => `text ${s}` });
  // The bus looks at heads only; behind them this one is cut.
  await rig.append("device-a", whole.slice(0, whole.length - 8));
  await rig.append("device-a", events("device-a", 61, 80));
  rig.start({ log: makeLog("pipeline", { to: { write: (line: string) => void lines.push(line) } }) });
  await until("all are followed", () => followedAll(rig));
  assert.deepEqual((await rig.batches()).flat(), [...numbers(1, 20), ...numbers(61, 80)]);
  assert.equal(
    lines.filter((line) => /cannot be read and is passed by/.test(line) && /"position":2/.test(line)).length,
    1,
  );
});

test("the bus is told how far the pipeline is also when nothing comes any more: a full bus would wait for that", async (t) => {
  const rig = await makeRig(t);
  rig.start();
  const position = async () =>
    (await rig.bus.backlog({}, call())).followers.find((f) => f.name === "pipeline")?.position;
  await rig.append("device-a", events("device-a", 1, 1));
  await until("the first is confirmed", async () => (await position()) === 1);
  await rig.append("device-a", events("device-a", 2, 2));
  await until("the last is confirmed", async () => (await position()) === 2);
});

test("where the outbox is gone, what the bus was told to be kept is not sent a second time", async (t) => {
  const rig = await makeRig(t);
  await rig.append("device-a", events("device-a", 1, 5));
  await rig.bus.confirm({ body: { follower: "pipeline", position: 1 } }, call());
  await rig.append("device-a", events("device-a", 6, 10));
  rig.start();
  await until("all are followed", () => followedAll(rig));
  assert.deepEqual((await rig.batches()).flat(), numbers(6, 10));
});

test("a bus that begins anew is followed from its beginning, whatever was followed before, and after a restart too", async (t) => {
  const rig = await makeRig(t);
  // More than the bus takes for a follower of its own that knows better.
  rig.outbox.followed = 2 ** 25;
  rig.store.followed = 2 ** 25;
  rig.start();
  for (let n = 1; n <= 5; n++) await rig.append("device-a", events("device-a", n, n));
  await until("all are followed", async () => (await rig.batches()).flat().length === 5);
  await rig.reopen();
  assert.equal(rig.outbox.followed, 5);
  await rig.append("device-a", events("device-a", 6, 6));
  rig.start();
  await until("all are followed", async () => (await rig.batches()).flat().length === 6);
  assert.deepEqual((await rig.batches()).flat(), numbers(1, 6));
});

test("records of millions of values are taken one by one: memory holds one of them, batches a part", async (t) => {
  const rig = await makeRig(t);
  // Two million values in a few hundred bytes, several times over: one item of the stream holds them all.
  const [RECORDS, rows] = [4, 40_000];
  for (let n = 0; n < RECORDS; n++)
    await rig.append("device-a", events("device-a", n * rows + 1, (n + 1) * rows, { resources: 50, value: () => 1 }));
  global.gc?.();
  const before = process.memoryUsage().rss;
  let peak = 0;
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss - before)), 5);
  rig.start({ batchEvents: 10_000 });
  await until("all are followed", () => followedAll(rig), 60_000);
  clearInterval(watch);
  const batches = await rig.batches();
  assert.ok(batches.every((b) => b.length * 50 <= 262_144));
  assert.equal(batches.flat().length, RECORDS * rows);
  assert.ok(peak < 400 * 2 ** 20, `${Math.round(peak / 2 ** 20)} MiB`);
});

test("batches stay within their bytes: large values are spread over more of them, in order", () => {
  const blocks = blocksOf("p", 1, 64, { value: () => randomBytes(100_000) });
  const batches = makeBatches(blocks, 1_000, nobody);
  assert.deepEqual(
    batches.flatMap((b) => decodeBlocks(b.blocks).flatMap((x) => x.sequences)),
    numbers(1, 64),
  );
  for (const { blocks: bytes } of batches) assert.ok(bytes.length <= 2 * BATCH_BYTES_MAX);
});

test("events that fit a message apart and not together go in several batches; one that fits none is told", () => {
  // Text that is compressed at the bus: a reader inflates so much of a message and no more.
  const text = "x".repeat(200_000);
  const blocks = Array.from(
    { length: 300 },
    (_, i) => blocksOf("p", i + 1, i + 1, { devices: [`d${i}`], value: (s) => `${s} ${text}` })[0],
  );
  assert.throws(() => encodeBlocks(blocks), { code: EVENTS_TOO_LARGE.code });
  const batches = makeBatches(blocks, 1_000, nobody);
  assert.deepEqual(
    batches.flatMap((b) => decodeBlocks(b.blocks).flatMap((x) => x.sequences)),
    numbers(1, 300),
  );
  const lost: string[] = [];
  const huge = blocksOf("p", 1, 1, { devices: ["huge"], value: () => randomBytes(5_000_000) });
  assert.deepEqual(
    makeBatches(huge, 10, (block) => lost.push(block.series.deviceName)),
    [],
  );
  assert.deepEqual(lost, ["huge"]);
});

test("a long text that thousands of events share is not written out for each of them", () => {
  const text = randomBytes(150_000).toString("hex");
  const blocks = blocksOf("p", 1, 5_000, { value: (s) => (s % 2 ? text : "short") });
  const batches = makeBatches(blocks, 1, nobody);
  assert.ok(batches.reduce((sum, b) => sum + b.blocks.length, 0) < 16 * 2 ** 20);
  assert.deepEqual(
    batches.flatMap((b) => decodeBlocks(b.blocks).flatMap((x) => x.sequences)),
    numbers(1, 5_000),
  );
});
