import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { decodeBlocks, EVENTS_TOO_LARGE, encodeBlocks } from "../../kernel/events/codec.ts";
import { nobody, numbers } from "../../../test/houses/pipelines.ts";
import { blocksOf } from "../../../test/houses/uplink.ts";
import { BATCH_BYTES_MAX, makeBatches } from "./batch.ts";

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

test("the bytes of a batch are told by resource, and are all of them together", () => {
  const value = (s: number, k: number) => (k === 0 ? 1 : Math.sin(s) * 1e6);
  const [batch] = makeBatches(blocksOf("p", 1, 1_000, { resources: 2, devices: ["a", "b"], value }), 1_000, nobody);
  const [same, noise] = batch.parts;
  assert.deepEqual([same.resourceName, same.readings, noise.resourceName, noise.readings], ["r0", 1_000, "r1", 1_000]);
  assert.ok(noise.bytes > 5 * same.bytes, `${noise.bytes} and ${same.bytes}`);
  assert.ok(Math.abs(same.bytes + noise.bytes - batch.blocks.length) <= 2);
});
