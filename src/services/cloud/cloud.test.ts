import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { encodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { SequenceSet } from "../../kernel/sequences.ts";
import { ACCEPT_WORK_MAX } from "./api.ts";
import { Audit } from "./audit.ts";
import { blocksOf, call, EDGE, events, type RunningCloud, startCloud, temporary } from "../../../test/houses/uplink.ts";

const edge = `edge.${EDGE}`;
const send = (
  cloud: RunningCloud,
  batches: { sequence: number; previous: number; blocks: Uint8Array; through?: number; pipeline?: string }[],
  of: {
    caller?: string;
    epoch?: number;
    stream?: string;
    opens?: boolean;
    absent?: { from: number; to: number }[];
  } = {},
) =>
  cloud.as(of.caller ?? edge).accept(
    {
      body: {
        stream: of.stream ?? "main",
        epoch: of.epoch ?? 1,
        ...(of.opens === undefined ? {} : { opens: of.opens }),
        ...(of.absent === undefined ? {} : { absent: of.absent }),
        sentNs: 1n,
        batches: batches.map((b) => ({ pipeline: "all", ...b, queuedNs: 1n })),
      },
    },
    call(),
  );
const mark = async (cloud: RunningCloud, caller = edge, epoch = 1) =>
  (await cloud.as(caller).mark({ stream: "main", epoch }, call())).settled.at(-1)?.to ?? 0;

async function started(t: { after(work: () => unknown): void }): Promise<RunningCloud> {
  const cloud = await startCloud(temporary(t));
  t.after(() => cloud.stop());
  return cloud;
}

test("a batch that comes again is kept once, one that leaves a hole is not taken, and the mark survives a restart", async (t) => {
  const directory = temporary(t);
  let cloud = await startCloud(directory);
  t.after(() => cloud.stop());
  const [one, two, three] = [events("p", 1, 10), events("p", 11, 20), events("p", 21, 30)];
  assert.equal((await send(cloud, [{ sequence: 3, previous: 0, blocks: one }])).durable, 3);
  assert.equal(
    (
      await send(cloud, [
        { sequence: 3, previous: 0, blocks: one },
        { sequence: 7, previous: 3, blocks: two },
      ])
    ).durable,
    7,
  );
  await assert.rejects(send(cloud, [{ sequence: 9, previous: 8, blocks: three }]), {
    code: "CLOUD_SEQUENCE_GAP",
    message: /batch 9 .* follows 8, which never came; the last before it is 7/,
  });
  assert.equal((await send(cloud, [{ sequence: 5, previous: 4, blocks: three }])).durable, 5, "backwards is the past");
  await cloud.stop();
  cloud = await startCloud(directory);
  assert.equal(await mark(cloud), 7);
  assert.equal((await send(cloud, [{ sequence: 8, previous: 7, blocks: three }])).durable, 8);
  const { publishers } = await cloud.audit();
  assert.deepEqual(publishers, [
    {
      pipeline: "all",
      name: "p",
      epoch: 1,
      events: 30,
      readings: 30,
      duplicates: 0,
      outOfOrder: 0,
      ranges: [{ from: 1, to: 30 }],
    },
  ]);
});

test("a node writes to its own streams alone, whatever it says, and who is no node writes nowhere", async (t) => {
  const cloud = await started(t);
  await send(cloud, [{ sequence: 5, previous: 0, blocks: events("p", 1, 5) }]);
  await send(cloud, [{ sequence: 1, previous: 0, blocks: events("p", 1, 5) }], { caller: "edge.other" });
  assert.equal(await mark(cloud), 5);
  assert.equal(await mark(cloud, "edge.other"), 1);
  assert.equal(await mark(cloud, edge, 2), 0, "another epoch is another count");
  for (const caller of ["", "cli", "node", "edge1", "gateway", "edge"]) {
    await assert.rejects(send(cloud, [{ sequence: 9, previous: 5, blocks: events("p", 6, 9) }], { caller }), {
      code: "CALLER_REFUSED",
    });
  }
  await assert.rejects(cloud.as(edge).edges({}, call()), { code: "CALLER_REFUSED" });
  await assert.rejects(cloud.as(edge).audit({ edge: EDGE }, call()), { code: "CALLER_REFUSED" });
});

test("what is malformed is refused with the field's name, and nothing of it is kept", async (t) => {
  const cloud = await started(t);
  const good = { sequence: 1, previous: 0, pipeline: "all", queuedNs: 1n, blocks: events("p", 1, 1) };
  const bad: [object, RegExp][] = [
    [{ ...good, sequence: 0 }, /sequence/],
    [{ ...good, sequence: 1e300 }, /sequence/],
    [{ ...good, sequence: 1.5 }, /sequence/],
    [{ ...good, previous: -1 }, /previous/],
    [{ ...good, queuedNs: "now" }, /queuedNs/],
    [{ ...good, queuedNs: 2n ** 80n }, /queuedNs/],
    [{ ...good, blocks: "text" }, /blocks/],
    [{ ...good, blocks: { length: 5 } }, /blocks/],
    [{ sequence: 1, previous: 0, pipeline: "all", queuedNs: 1n }, /blocks/],
  ];
  for (const [batch, message] of bad) {
    const body = { stream: "main", epoch: 1, sentNs: 1n, batches: [good, batch] } as Parameters<
      typeof cloud.cli.accept
    >[0]["body"];
    await assert.rejects(cloud.as(edge).accept({ body }, call()), { code: "INPUT_INVALID", message });
  }
  await assert.rejects(send(cloud, []), { code: "INPUT_INVALID" });
  await assert.rejects(send(cloud, [{ ...good }], { stream: "x".repeat(201) }), { code: "INPUT_INVALID" });
  assert.equal(await mark(cloud), 0);
});

test("a batch that cannot be read is refused for good and passed, and told again to who did not hear it", async (t) => {
  const cloud = await started(t);
  const good = events("p", 1, 100);
  const torn = good.slice(0, good.length - 5);
  const batches = [
    { sequence: 1, previous: 0, blocks: good },
    { sequence: 2, previous: 1, blocks: torn },
    { sequence: 3, previous: 2, blocks: new Uint8Array() },
    { sequence: 4, previous: 3, blocks: events("p", 101, 110) },
  ];
  const first = await send(cloud, batches);
  assert.equal(first.durable, 4);
  assert.deepEqual(
    first.refused.map((r) => r.sequence),
    [2, 3],
  );
  const again = await send(cloud, batches);
  assert.deepEqual([again.durable, again.refused], [first.durable, first.refused]);
  const { refused } = await cloud.as(edge).mark({ stream: "main", epoch: 1 }, call());
  assert.deepEqual(refused, first.refused);
  const [status] = (await cloud.cli.edges({}, call())).edges;
  assert.deepEqual([status.batches, status.events, status.refused], [2, 110, 2]);
  assert.equal(cloud.lines.filter((line) => line["msg"] === "a batch can never be kept").length, 2);
});

test("a form of a later version is not refused: the node keeps it until the cloud is updated, and what is before it is kept", async (t) => {
  const cloud = await started(t);
  const newer = Uint8Array.from(events("p", 6, 9));
  newer[0] = 0xe9;
  const batches = [
    { sequence: 1, previous: 0, blocks: events("p", 1, 5) },
    { sequence: 2, previous: 1, blocks: newer },
  ];
  assert.equal((await send(cloud, batches)).durable, 1);
  await assert.rejects(send(cloud, batches), { code: "CLOUD_OLDER" });
  assert.equal(await mark(cloud), 1);
});

test("a few bytes that stand for millions of values cost a request so much and no more", async (t) => {
  const cloud = await started(t);
  const blocks = events("p", 1, 65_536, { resources: 60, value: () => 7 });
  assert.ok(blocks.length < 3_000, `${blocks.length} bytes for four million values`);
  const bombs = Array.from({ length: 64 }, (_, i) => ({ sequence: i + 1, previous: i, blocks }));
  const startMs = performance.now();
  const { durable } = await send(cloud, bombs);
  assert.equal(durable, 1, "the first is over the limit, and all that one request may cost");
  assert.ok(performance.now() - startMs < 5_000);
  const small = events("p", 1, 1_000, { resources: 100, value: () => 7 });
  const many = Array.from({ length: 64 }, (_, i) => ({ sequence: i + 2, previous: i + 1, blocks: small }));
  const answer = await send(cloud, many);
  assert.equal(answer.durable, 1 + Math.ceil(ACCEPT_WORK_MAX / 101_000));
  const rest = await send(cloud, many);
  assert.ok(rest.durable > answer.durable, "what is sent again goes on from there");
});

test("how far a node had read its source comes back with the mark, from the newest epoch", async (t) => {
  const cloud = await started(t);
  const through = async (epoch: number) =>
    (await cloud.as(edge).mark({ stream: "main", epoch }, call())).pipelines[0]?.through;
  assert.equal(await through(1), undefined);
  await send(cloud, [{ sequence: 1, previous: 0, through: 40, blocks: events("p", 1, 1) }]);
  assert.equal(await through(1), 40);
  await send(cloud, [{ sequence: 1, previous: 0, through: 60, blocks: events("p", 2, 2) }], { epoch: 5 });
  assert.equal(await through(6), 60);
});

test("readings come newest first, over batches that overlap, by page and by resource", async (t) => {
  const cloud = await started(t);
  // Events 1 to 100 of two publishers whose times interleave, in batches of ten that come one way and the other.
  let previous = 0;
  for (let from = 1; from <= 100; from += 10) {
    const odd = blocksOf("odd", from, from + 9, { devices: ["d"], resources: 2 });
    const even = blocksOf("even", from, from + 9, {
      devices: ["d"],
      resources: 2,
      value: (s, k) => (k === 1 && s % 2 ? undefined : s + 0.5),
    });
    for (const block of even) block.origins.forEach((origin, i) => (block.origins[i] = origin + 500_000n));
    const sequence = previous + 1;
    await send(cloud, [
      { sequence, previous, blocks: encodeBlocks(from % 20 > 10 ? [...odd, ...even] : [...even, ...odd]) },
    ]);
    previous = sequence;
  }
  const read = (input: { resource?: string; offset?: number; limit?: number }) =>
    cloud.cli.readings({ edge: EDGE, device: "d", offset: 0, limit: 1_000, ...input }, call());
  const all = await read({});
  assert.equal(all.totalCount, 350);
  assert.equal(all.readings.length, 350);
  const origins = all.readings.map((r) => r.origin);
  assert.deepEqual(
    origins,
    [...origins].sort((a, b) => (a < b ? 1 : a > b ? -1 : 0)),
  );
  assert.equal(new Set(all.readings.map((r) => r.id)).size, 350);
  for (const offset of [0, 1, 7, 100, 349, 350, 400]) {
    const page = await read({ offset, limit: 20 });
    assert.deepEqual(page.readings, all.readings.slice(offset, offset + 20), `from ${offset}`);
  }
  const one = await read({ resource: "r1" });
  assert.equal(one.totalCount, 150);
  assert.deepEqual(
    one.readings,
    all.readings.filter((r) => r.resourceName === "r1"),
  );
  assert.deepEqual((await read({ resource: "r1", offset: 140, limit: 5 })).readings, one.readings.slice(140, 145));
  assert.deepEqual(await read({ resource: "none" }), { totalCount: 0, readings: [] });
  assert.deepEqual(await cloud.cli.readings({ edge: "other", device: "d", offset: 0, limit: 5 }, call()), {
    totalCount: 0,
    readings: [],
  });
});

test("totals of each node are told; a node whose row is gone with an older database is counted from there", async (t) => {
  const cloud = await started(t);
  await send(cloud, [
    {
      sequence: 1,
      previous: 0,
      blocks: events("p", 1, 10, { resources: 3, value: (s, k) => (k < 2 ? s : undefined) }),
    },
  ]);
  await send(cloud, [{ sequence: 1, previous: 0, blocks: events("p", 1, 1) }], { caller: "edge.b" });
  const { edges } = await cloud.cli.edges({}, call());
  assert.deepEqual(
    edges.map((e) => [e.edge, e.batches, e.events, e.readings]),
    [
      ["b", 1, 1, 1],
      [EDGE, 1, 10, 20],
    ],
  );
});

test("the authority is the same after a restart; when it is gone, that is said", async (t) => {
  const directory = temporary(t);
  let cloud = await startCloud(directory);
  t.after(() => cloud.stop());
  const authority = async () => (await cloud.as("").authority({}, call())).caPem;
  const before = await authority();
  await cloud.stop();
  cloud = await startCloud(directory);
  assert.equal(await authority(), before);
  await cloud.stop();
  rmSync(join(directory, "cloud", "authority.sealed"));
  cloud = await startCloud(directory);
  assert.notEqual(await authority(), before);
  assert.ok(cloud.lines.some((line) => /every node must be enrolled again/.test(String(line["msg"]))));
});

test("the audit sees what is missing, what is twice and what came late, and holds ranges, not events", () => {
  const audit = new Audit();
  const add = (from: number, to: number, epoch = 1, devices = ["a", "b", "c"]) =>
    audit.add("all", blocksOf("p", from, to, { epoch, devices }));
  add(1, 100);
  add(101, 200);
  add(301, 400);
  add(351, 352);
  add(250, 250);
  audit.add("all", [...blocksOf("p", 401, 401), ...blocksOf("p", 401, 401)]);
  const [found] = audit.result();
  assert.deepEqual(found.ranges, [
    { from: 1, to: 200 },
    { from: 250, to: 250 },
    { from: 301, to: 401 },
  ]);
  assert.equal(found.duplicates, 3);
  assert.equal(found.outOfOrder, 3);
  add(1, 10, 2);
  add(402, 402);
  const late = audit.result().find(({ epoch }) => epoch === 1);
  assert.equal(late?.outOfOrder, 4, "an epoch that comes after the next one is late, too");
});

test("a million events of many devices are audited in a few ranges; what the filter left out makes many, of which some are told", () => {
  const devices = Array.from({ length: 50 }, (_, i) => `d${i}`);
  const audit = new Audit();
  for (let from = 1; from <= 1_000_000; from += 10_000)
    audit.add("all", blocksOf("p", from, from + 9_999, { devices }));
  assert.deepEqual(audit.result(), [
    {
      pipeline: "all",
      name: "p",
      epoch: 1,
      events: 1_000_000,
      readings: 1_000_000,
      duplicates: 0,
      outOfOrder: 0,
      ranges: [{ from: 1, to: 1_000_000 }],
    },
  ]);
  const holes = new Audit();
  const onlyFirst = (blocks: Block[]) => blocks.filter((b) => b.series.deviceName === "d0");
  for (let from = 1; from <= 1_000_000; from += 10_000)
    holes.add("all", onlyFirst(blocksOf("p", from, from + 9_999, { devices })));
  const [{ ranges, rangesLeftOut }] = holes.result();
  assert.equal(ranges.length + rangesLeftOut!, 20_000);
});

test("a set of sequences counts as a plain one does, whatever comes in which order", () => {
  let seed = 7;
  const random = (below: number) => ((seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff) >>> 8) % below;
  for (let round = 0; round < 300; round++) {
    const [set, plain] = [new SequenceSet(), new Set<number>()];
    for (let i = 0; i < 30; i++) {
      const from = 1 + random(60);
      const to = from + random(8);
      let known = 0;
      for (let n = from; n <= to; n++)
        if (plain.has(n)) known++;
        else plain.add(n);
      assert.equal(set.add(from, to), known);
    }
    const listed = set.ranges(100).flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
    assert.deepEqual(
      listed,
      [...plain].sort((a, b) => a - b),
    );
    for (const [i, range] of set.ranges(100).entries())
      assert.ok(i === 0 || set.ranges(100)[i - 1].to < range.from - 1);
  }
});
