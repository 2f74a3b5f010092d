import assert from "node:assert/strict";
import { readdirSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { test } from "node:test";
import { type Clock, systemClock } from "../../../kernel/clock.ts";
import { makeLog } from "../../../kernel/log.ts";
import { type After, events, temporary } from "../../../../test/houses/uplink.ts";
import type { QUEUE_CLASSES } from "../pacing/priority.ts";
import { PipelineStore } from "../store.ts";
import { Gaps } from "./gaps.ts";
import { Outbox, type OutboxOptions } from "./outbox.ts";
import type { Shipment } from "./record.ts";

const KEY = Buffer.alloc(32, 3);
const log = makeLog("test", { to: new Writable({ write: (_chunk, _encoding, done) => done() }) });
const DAY_MS = 86_400_000;

interface Rig {
  outbox: Outbox;
  readonly store: PipelineStore;
  readonly directory: string;
  add(shipment: Partial<Shipment>, through: number, count?: number, blocks?: Uint8Array): Promise<void>;
  reopen(between?: () => void): Promise<void>;
}

async function makeRig(t: After, options: Partial<OutboxOptions> = {}): Promise<Rig> {
  const directory = temporary(t);
  const store = new PipelineStore({ path: join(directory, "pipeline.db"), key: KEY, log });
  const clock = options.clock ?? systemClock;
  const open = () =>
    Outbox.open({
      directory,
      key: KEY,
      sizeBytesMax: 64 * 2 ** 20,
      whenFull: "refuse",
      ageMsMax: Number.POSITIVE_INFINITY,
      destinations: ["cloud"],
      clock,
      log,
      gaps: new Gaps(store.gaps, clock, log),
      saved: store.outbox,
      save: (state) => (store.outbox = state),
      ...options,
    });
  const rig: Rig = {
    outbox: await open(),
    store,
    directory,
    async add(shipment, through, count = 1, blocks = events("p", 1, 1)) {
      const batches = Array.from({ length: count }, () => ({
        blocks,
        events: 1,
        readings: 1,
        parts: [],
        through,
        emitted: through,
        queuedNs: clock.wallNs(),
      }));
      await rig.outbox.add({ pipeline: "all", destinations: ["cloud"], priority: 5, ...shipment }, batches);
    },
    async reopen(between) {
      await rig.outbox.close();
      between?.();
      rig.outbox = await open();
    },
  };
  t.after(async () => {
    await rig.outbox.close();
    store.close();
  });
  return rig;
}

const waitingIn = async ({ outbox }: Rig, name: (typeof QUEUE_CLASSES)[number], destination = "cloud") => {
  const queue = outbox.queues[name];
  const settled = queue.settled(destination).through(0);
  return (await queue.read(destination, settled, { bytesMax: 2 ** 26, recordsMax: 100_000 })).batches;
};
const FULL = { code: "PIPELINE_OUTBOX_FULL" };
/** What nothing compresses: the journal's size is that of the payload. */
const NOISE = Uint8Array.from({ length: 65_536 }, (_, i) => (i * 2_654_435_761) >>> 13);

test("how far each pipeline is comes from its last record, whatever its class, also when that was sent and trimmed", async (t) => {
  const rig = await makeRig(t);
  assert.equal(rig.outbox.followed("all"), undefined);
  await rig.add({ pipeline: "a", priority: 9 }, 7);
  await rig.add({ pipeline: "b", priority: 0 }, 5);
  await rig.add({ pipeline: "a", priority: 1 }, 12);
  const told = () => [rig.outbox.followed("a"), rig.outbox.followed("b")].map((mark) => [mark?.through, mark?.emitted]);
  assert.deepEqual(told(), [
    [12, 12],
    [5, 5],
  ]);
  await rig.reopen();
  assert.deepEqual(told()[0], [12, 12]);
  for (const { name, journal } of Object.values(rig.outbox.queues)) {
    rig.outbox.queues[name].settled("cloud").add(1, Math.max(1, journal.last));
  }
  rig.outbox.save();
  await rig.outbox.trim();
  await rig.reopen();
  assert.deepEqual(told(), [
    [12, 12],
    [5, 5],
  ]);
});

test("a batch goes to its own destinations; who is new gets what comes from now on", async (t) => {
  const rig = await makeRig(t, { destinations: ["cloud", "plant"] });
  await rig.add({ destinations: ["cloud"] }, 1);
  await rig.add({ destinations: ["plant", "cloud"] }, 2);
  await rig.add({ destinations: ["plant"] }, 3);
  const seen = async (destination: string) => (await waitingIn(rig, "normal", destination)).map((b) => b.through);
  assert.deepEqual(
    [await seen("cloud"), await seen("plant")],
    [
      [1, 2],
      [2, 3],
    ],
  );
  rig.outbox.save();
  await rig.outbox.close();
  rig.outbox = (await makeRig(t)).outbox;
});

test("at the cap it refuses, and takes batches again once a destination has had some", async (t) => {
  const rig = await makeRig(t, { sizeBytesMax: 4 * 2 ** 20 });
  const fill = async () => {
    for (let i = 0; ; i++) await rig.add({}, i + 1, 1, NOISE);
  };
  await assert.rejects(fill(), FULL);
  const { journal } = rig.outbox.queues.normal;
  assert.ok(rig.outbox.sizeBytes <= 4 * 2 ** 20);
  await assert.rejects(rig.add({ priority: 9 }, 1, 1, NOISE), FULL, "one disk for all classes");
  rig.outbox.queues.normal.settled("cloud").add(1, Math.floor(journal.last / 2));
  await rig.add({ priority: 9 }, 1, 1, NOISE);
  assert.equal(rig.store.gaps.size, 0, "nothing was dropped");
});

test("told to drop it drops the oldest of the lowest class, none above the new one's, and the ledger has each of them", async (t) => {
  const rig = await makeRig(t, { sizeBytesMax: 4 * 2 ** 20, whenFull: "drop" });
  const added = { low: 0, normal: 0, high: 0 };
  const add = async (name: keyof typeof added, priority: number) => {
    await rig.add({ priority, pipeline: name }, ++added[name], 1, NOISE);
  };
  for (let i = 0; i < 20; i++) await add("high", 9);
  for (let i = 0; i < 60; i++) await add("low", 0);
  for (let i = 0; i < 20; i++) await add("normal", 5);
  const left = async (name: keyof typeof added) => (await waitingIn(rig, name)).map((b) => b.through);
  assert.deepEqual([(await left("high")).length, (await left("normal")).length], [20, 20]);
  const low = await left("low");
  assert.ok(low.length > 0 && low.length < 60);
  assert.deepEqual(
    low,
    Array.from({ length: low.length }, (_, i) => 60 - low.length + 1 + i),
    "the newest are left",
  );
  const gaps = rig.store.gaps.list(10);
  assert.equal(gaps.length, 1, "one range, however often it was cut");
  assert.deepEqual(
    { ...gaps[0], firstNs: 0n, lastNs: 0n, atNs: 0n },
    {
      destination: "cloud",
      class: "low",
      epoch: rig.outbox.queues.low.stream.epoch,
      reason: "dropped-full",
      from: 1,
      to: 60 - low.length,
      pipelines: ["low"],
      events: 60 - low.length,
      readings: 60 - low.length,
      firstNs: 0n,
      lastNs: 0n,
      atNs: 0n,
    },
  );
  // What only higher classes hold is not dropped for a lower one.
  while ((await left("low")).length > 0) await add("high", 9);
  while (rig.outbox.sizeBytes + 1.1 * NOISE.length <= 4 * 2 ** 20) await add("high", 9);
  await assert.rejects(rig.add({ priority: 0 }, 61, 1, NOISE), FULL);
});

test("what has waited too long goes, and is told; a clock that jumps ten years ahead expires nothing", async (t) => {
  let [nowMs, wallMs] = [0, Date.UTC(2026, 0, 1)];
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => wallMs + nowMs,
    wallNs: () => BigInt(wallMs + nowMs) * 1_000_000n,
  };
  const rig = await makeRig(t, { clock, ageMsMax: 10 * DAY_MS });
  await rig.add({ ttlMs: DAY_MS, pipeline: "short" }, 1, 3);
  await rig.add({}, 2, 2);
  wallMs += 3_650 * DAY_MS;
  await rig.outbox.sweep();
  assert.equal(rig.store.gaps.size, 0, "the clock jumped, no time went by");
  wallMs -= 3_650 * DAY_MS;
  nowMs += 1.5 * DAY_MS;
  await rig.outbox.sweep();
  assert.deepEqual(
    rig.store.gaps.list(9).map(({ from, to, pipelines, events: n, reason }) => [from, to, pipelines, n, reason]),
    [[1, 3, ["short"], 3, "expired"]],
  );
  assert.equal((await waitingIn(rig, "normal")).length, 2);
  nowMs += 10 * DAY_MS;
  await rig.outbox.sweep();
  assert.equal((await waitingIn(rig, "normal")).length, 0);
  assert.equal(
    rig.store.gaps.list(9).reduce((sum, gap) => sum + gap.events, 0),
    5,
  );
});

for (const [where, lostBytes] of [
  ["within a block", (bytes: number) => Math.floor(2.5 * bytes)],
  ["between two blocks", (bytes: number) => 3 * bytes],
] as const)
  test(`batches whose end the disk lost, cut ${where}, are not vouched for: a pipeline is as far as what is still here`, async (t) => {
    const rig = await makeRig(t);
    const sizes: number[] = [];
    for (let i = 1; i <= 40; i++) {
      await rig.add({}, i, 1, NOISE.subarray(0, 2_000));
      sizes.push(rig.outbox.sizeBytes);
    }
    rig.outbox.save();
    await rig.reopen(() => {
      const directory = join(rig.directory, "outbox", "normal");
      const last = readdirSync(directory)
        .filter((name) => name.endsWith(".seg"))
        .sort()
        .at(-1)!;
      const path = join(directory, last);
      truncateSync(path, statSync(path).size - lostBytes(sizes[39] - sizes[38]));
    });
    assert.ok(rig.outbox.isUnsure);
    const { through } = rig.outbox.followed("all")!;
    assert.ok(through > 0 && through < 40, `${through}`);
    assert.equal((await waitingIn(rig, "normal")).at(-1)?.through, through);
    rig.outbox.learn("all", 38);
    assert.deepEqual(rig.outbox.followed("all")?.through, 38, "the cloud knows better");
  });
