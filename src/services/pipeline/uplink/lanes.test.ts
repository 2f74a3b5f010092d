import assert from "node:assert/strict";
import { test } from "node:test";
import { SequenceSet } from "../../../kernel/sequences.ts";
import { call, EDGE, events, startCloud, temporary } from "../../../../test/houses/uplink.ts";
import { holes, placeOf } from "./cloud.ts";

/** Pseudo-random numbers, the same each time. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => ((state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff) >>> 8) % below;
}

const EDGE_CALLER = `edge.${EDGE}`;

test("lanes that open and close, answers that are lost, batches that go: the cloud has each once, and one range in the end", async (t) => {
  const cloud = await startCloud(temporary(t));
  t.after(() => cloud.stop());
  const node = cloud.as(EDGE_CALLER);
  for (let round = 1; round <= 12; round++) {
    const random = seeded(round);
    const place = { stream: "normal", epoch: round };
    // Of 150 sequences some are for others, and some go before they are sent.
    const wanted = new Set(Array.from({ length: 150 }, (_, i) => i + 1).filter(() => random(4) > 0));
    let ours = new SequenceSet();
    let theirs = new SequenceSet();
    const dropped = new Set<number>();
    const ask = async () => {
      theirs = new SequenceSet((await node.mark(place, call())).settled);
      ours = new SequenceSet([...ours.ranges(), ...theirs.ranges()]);
    };
    const nextOf = (after: number, end: number) => {
      let next = after + 1;
      while (next < end && !ours.has(next) && !wanted.has(next)) ours.add(next, next++);
      return next < end && !ours.has(next) ? next : undefined;
    };
    const send = async (after: number, end: number) => {
      const batches: { sequence: number; previous: number }[] = [];
      let previous: number | undefined,
        opens = false;
      for (let at = after; batches.length < 1 + random(4);) {
        const sequence = nextOf(at, end);
        if (sequence === undefined) break;
        if (batches.length === 0) ({ previous, opens } = placeOf(sequence, ours, theirs));
        batches.push({ sequence, previous: batches.at(-1)?.sequence ?? previous! });
        at = sequence;
      }
      if (batches.length === 0) return;
      const whole = batches.map((b) => ({
        ...b,
        pipeline: "all",
        through: b.sequence,
        queuedNs: 1n,
        blocks: events("p", b.sequence, b.sequence, { epoch: round }),
      }));
      const absent = holes(ours, theirs);
      const body = { ...place, opens, absent, batches: whole, sentNs: 1n };
      if (random(5) === 0) return ask(); // The request is lost.
      const { durable } = await node.accept({ body }, call());
      if (random(5) === 0) return ask(); // The answer is.
      for (const hole of absent) theirs.add(hole.from, hole.to);
      theirs.add(Math.min(previous! + 1, batches[0].sequence), durable);
      for (const { sequence } of batches) if (sequence <= durable) ours.add(sequence, sequence);
    };
    let last = 20;
    let liveFrom = 0;
    for (let step = 0; last < 150 || ours.through(0) < 150; step++) {
      assert.ok(step < 3_000, "it comes to an end");
      last = Math.min(150, last + random(4));
      if (random(12) === 0 && ours.size < 8) liveFrom = last;
      if (random(15) === 0) {
        const gone = ours.through(0) + 1;
        if (gone <= last && !ours.has(gone) && wanted.has(gone)) dropped.add(gone);
        if (gone <= last) ours.add(gone, gone);
      }
      const kind = random(2);
      const after = ours.through(kind === 0 ? Math.max(liveFrom, ours.through(liveFrom)) : 0);
      await send(after, Math.min(ours.next(after) ?? 1_000, (kind === 0 ? last : Math.max(liveFrom, 0) || last) + 1));
    }
    // What is told last makes one range of all: as the next request does.
    wanted.add(151);
    while (!ours.has(151)) await send(150, 152);
    const { settled, pipelines } = await node.mark(place, call());
    assert.deepEqual(settled, [{ from: 1, to: 151 }], `round ${round}`);
    assert.deepEqual(pipelines, [{ name: "all", through: 151 }], "the furthest counts, whatever came last");
    const { publishers } = await cloud.audit();
    const found = publishers.find((p) => p.epoch === round)!;
    // Lost after it was sent, and dropped: it may be there.
    const expected = [...wanted].filter((n) => !dropped.has(n)).length;
    assert.ok(found.events >= expected && found.events <= wanted.size, `${found.events} of ${expected}`);
    assert.deepEqual([found.duplicates, found.outOfOrder], [0, 0]);
  }
});

test("a lane opens only where the node says so, and there are LANES_MAX of them at the most", async (t) => {
  const cloud = await startCloud(temporary(t));
  t.after(() => cloud.stop());
  const send = (sequence: number, previous: number, opens: boolean) =>
    cloud.as(EDGE_CALLER).accept(
      {
        body: {
          stream: "normal",
          epoch: 1,
          opens,
          sentNs: 1n,
          batches: [{ sequence, previous, pipeline: "all", queuedNs: 1n, blocks: events("p", sequence, sequence) }],
        },
      },
      call(),
    );
  await assert.rejects(send(10, 9, false), { code: "CLOUD_SEQUENCE_GAP" });
  for (let lane = 1; lane <= 64; lane++) await send(lane * 10, lane * 10 - 1, true);
  await assert.rejects(send(1_000, 999, true), { code: "CLOUD_SEQUENCE_GAP" });
  await send(11, 10, false);
});
