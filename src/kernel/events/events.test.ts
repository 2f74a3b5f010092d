import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Failure } from "../error.ts";
import { stringifyJson } from "../json.ts";
import { BlockBuilder, mergeBlocks, rowsInOrder, sliceBlock } from "./blocks.ts";
import { decodeBlocks, encodeBlocks, EVENTS_BYTES_MAX, headOfBlocks } from "./codec.ts";
import {
  type Block,
  type Extra,
  type Publisher,
  type Resource,
  type Series,
  type Value,
  VALUE_TYPES,
} from "./model.ts";

const SEED = 20260802;
const publisher: Publisher = { name: "device-host", epoch: 209_000_000 };
const seriesOf = (device: string, ...resources: string[]): Series => ({
  deviceName: device,
  profileName: "Host",
  sourceName: resources[0] ?? "Source",
  resources: resources.map((name) => ({ name, valueType: "Float64" })),
});

const name = fc.oneof(
  fc.string({ minLength: 1, maxLength: 12 }),
  fc.string({ unit: "binary", minLength: 1, maxLength: 6 }),
  fc.constantFrom("__proto__", "\ud800", "a/b%2F"),
);
const resource: fc.Arbitrary<Resource> = fc.record(
  { name, valueType: fc.constantFrom(...VALUE_TYPES), units: name, mediaType: name },
  { requiredKeys: ["name", "valueType"], noNullPrototype: true },
);
const series: fc.Arbitrary<Series> = fc.record(
  { deviceName: name, profileName: name, sourceName: name, resources: fc.array(resource, { maxLength: 4 }) },
  { noNullPrototype: true },
);
const value: fc.Arbitrary<Value> = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.bigInt(),
  fc.boolean(),
  fc.constantFrom(null, undefined),
  fc.string({ unit: "binary" }),
  fc.uint8Array({ maxLength: 9 }),
  fc.array(fc.integer(), { maxLength: 3 }),
  fc.dictionary(fc.string(), fc.string(), { maxKeys: 3, noNullPrototype: true }),
);
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const id = fc.oneof(
  fc.uuid(),
  fc.string(),
  fc.uuid().map((text) => text.toUpperCase()),
);
const tags = fc.dictionary(name, fc.oneof(fc.string(), fc.integer(), fc.boolean()), {
  maxKeys: 2,
  noNullPrototype: true,
});
const slots = <T>(of: fc.Arbitrary<T>, columns: number) =>
  fc.array(fc.option(of, { nil: undefined }), { maxLength: columns });
const extra = (columns: number): fc.Arbitrary<Extra> =>
  fc.record(
    {
      requestId: id,
      ids: slots(id, columns + 1),
      tags,
      origins: slots(int64, columns),
      readingTags: slots(tags, columns),
    },
    { requiredKeys: [], noNullPrototype: true },
  );
const block: fc.Arbitrary<Block> = fc
  .tuple(
    fc.record({ name, epoch: fc.nat(2 ** 31 - 1).map((n) => n * 2) }, { noNullPrototype: true }),
    series,
    fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), int64), { minLength: 1, maxLength: 30 }),
    fc.integer({ min: 0, max: 2 ** 40 }),
  )
  .chain(([who, what, rows, start]) => {
    let sequence = start;
    return fc.record(
      {
        publisher: fc.constant(who),
        series: fc.constant(what),
        sequences: fc.constant(rows.map(([gap]) => (sequence += gap))),
        origins: fc.constant(rows.map(([, origin]) => origin)),
        columns: fc.tuple(
          ...what.resources.map(() => fc.array(value, { minLength: rows.length, maxLength: rows.length })),
        ),
        extras: fc
          .array(fc.tuple(fc.nat(rows.length - 1), extra(what.resources.length)), { maxLength: 3 })
          .map((list) => new Map(list)),
      },
      { noNullPrototype: true },
    );
  });

test("blocks come back as they were, to the character", () => {
  fc.assert(
    fc.property(fc.array(block, { minLength: 1, maxLength: 4 }), (blocks) => {
      const bytes = encodeBlocks(blocks);
      assert.deepEqual(decodeBlocks(bytes), blocks);
      assert.deepEqual(
        headOfBlocks(bytes),
        blocks.map((one) => ({
          publisher: one.publisher,
          series: one.series,
          rows: one.sequences.length,
          firstSequence: one.sequences[0],
          lastSequence: one.sequences.at(-1),
        })),
      );
    }),
    { seed: SEED, numRuns: 250 },
  );
});

test("one event of one reading takes few bytes beside its names", () => {
  const one: Block = {
    publisher,
    series: seriesOf("Host", "CpuBusy"),
    sequences: [70_001],
    origins: [1_785_000_000_123_456_789n],
    columns: [[12.625]],
    extras: new Map(),
  };
  const bytes = encodeBlocks([one]);
  const names = "device-host".length + "Host".length + "CpuBusy".length;
  assert.ok(bytes.length - names < 30, `${bytes.length} bytes, ${names} of them names`);
});

test("many series with names alike are compressed, and their heads read without the bodies", () => {
  const builder = new BlockBuilder({ publisher });
  for (let i = 0; i < 200; i++)
    builder.add(seriesOf(`Pump-Station-${i}`, "Pressure"), i + 1, 1_785_000_000_000_000_000n, [i / 10]);
  const bytes = encodeBlocks(builder.blocks());
  assert.ok(bytes.length < 200 * 40, `${bytes.length} bytes`);
  assert.equal(headOfBlocks(bytes)[199]?.series.deviceName, "Pump-Station-199");
  assert.deepEqual(decodeBlocks(bytes), builder.blocks());
});

test("only the wanted columns are decoded", () => {
  const builder = new BlockBuilder({ publisher });
  const two = seriesOf("Host", "Load", "Memory");
  for (let i = 1; i <= 50; i++) builder.add(two, i, BigInt(i), [i, -i]);
  const [only] = decodeBlocks(encodeBlocks(builder.blocks()), (wanted) => wanted.name === "Memory");
  assert.deepEqual(only?.columns, [new Array(50).fill(undefined), Array.from({ length: 50 }, (_, i) => -i - 1)]);
});

test("a builder groups events by series, the same object or the same content, and says when it is full", () => {
  const builder = new BlockBuilder({ publisher, rowsMax: 4 });
  const load = seriesOf("Host", "Load");
  assert.equal(builder.add(load, 1, 10n, [1]), true);
  assert.equal(builder.add(seriesOf("Host", "Memory"), 2, 11n, [2]), true);
  assert.equal(builder.add(seriesOf("Host", "Load"), 3, 12n, [3], { requestId: "r" }), true);
  assert.throws(() => builder.add(load, 3, 12n, [3]), /is not after/);
  assert.throws(() => builder.add(load, 4, 12n, []), /0 values for 1 resources/);
  assert.equal(builder.add(load, 5, 13n, [4]), false);
  assert.equal(builder.rows, 4);
  assert.deepEqual(
    builder.blocks().map((made) => made.sequences),
    [[1, 3, 5], [2]],
  );
  assert.deepEqual(builder.blocks()[0]?.extras, new Map([[1, { requestId: "r" }]]));
  builder.clear();
  assert.equal(builder.bytesEstimate, 0);
  assert.deepEqual(builder.blocks(), []);
});

test("a builder's estimate is not below what it comes to", () => {
  fc.assert(
    fc.property(block, (one) => {
      const builder = new BlockBuilder({ publisher: one.publisher });
      one.sequences.forEach((sequence, row) =>
        builder.add(
          one.series,
          sequence,
          one.origins[row],
          one.columns.map((column) => column[row]),
          one.extras.get(row),
        ),
      );
      const size = encodeBlocks(builder.blocks()).length;
      assert.ok(size <= builder.bytesEstimate * 1.5 + 200, `${size} bytes, estimated ${builder.bytesEstimate}`);
    }),
    { seed: SEED, numRuns: 100 },
  );
});

test("blocks cut in two and joined are the block again, and what does not follow is not joined", () => {
  fc.assert(
    fc.property(block, fc.nat(30), (one, at) => {
      const cut = Math.min(at, one.sequences.length - 1);
      if (cut === 0) return;
      const [head, tail] = [sliceBlock(one, 0, cut), sliceBlock(one, cut, one.sequences.length)];
      const before = stringifyJson(head.sequences);
      assert.deepEqual(mergeBlocks([head, tail]), [one]);
      assert.equal(stringifyJson(head.sequences), before);
      assert.deepEqual(mergeBlocks([tail, head]), [tail, head]);
    }),
    { seed: SEED, numRuns: 200 },
  );
});

test("rows are walked in order of publisher and sequence, whatever the order of the blocks", () => {
  const at = (who: Publisher, device: string, sequences: number[]): Block => ({
    publisher: who,
    series: seriesOf(device, "R"),
    sequences,
    origins: sequences.map(BigInt),
    columns: [sequences],
    extras: new Map(),
  });
  const later = { name: "device-host", epoch: publisher.epoch + 1 };
  const other = { name: "a", epoch: 1 };
  const blocks = [
    at(later, "A", [1, 4]),
    at(publisher, "A", [3, 9]),
    at(publisher, "B", [1, 2, 5, 10]),
    at(publisher, "C", [4]),
    at(other, "A", [7]),
  ];
  const walked = [...rowsInOrder(blocks)].map(
    ({ block: of, row }) => `${of.publisher.name} ${of.publisher.epoch - publisher.epoch} ${of.sequences[row]}`,
  );
  assert.deepEqual(walked, [
    "a -208999999 7",
    ...[1, 2, 3, 4, 5, 9, 10].map((n) => `device-host 0 ${n}`),
    "device-host 1 1",
    "device-host 1 4",
  ]);
});

test("what exceeds a limit is refused with the limit in the message", () => {
  const rows = (count: number, columns: number): Block => ({
    publisher,
    series: seriesOf("Host", ...Array.from({ length: columns }, (_, k) => `R${k}`)),
    sequences: Array.from({ length: count }, (_, i) => i + 1),
    origins: new Array<bigint>(count).fill(1n),
    columns: Array.from({ length: columns }, () => new Array<Value>(count).fill(1)),
    extras: new Map(),
  });
  const tooLarge = (text: RegExp) => (error: unknown) =>
    error instanceof Failure && error.code === "EVENTS_TOO_LARGE" && text.test(error.message);
  assert.ok(encodeBlocks([rows(65_536, 1)]).length < 200);
  assert.throws(() => encodeBlocks([rows(65_537, 1)]), tooLarge(/65536/));
  assert.throws(() => encodeBlocks([rows(1, 1025)]), tooLarge(/1024/));
  assert.throws(() => encodeBlocks([rows(65_536, 65)]), tooLarge(/4194304/));
  assert.throws(() => encodeBlocks([{ ...rows(1, 1), series: seriesOf("n".repeat(1025), "R0") }]), tooLarge(/1024/));
  let state = SEED;
  const noise = new Uint8Array(5 * 1024 * 1024).map(
    () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24,
  );
  assert.throws(() => encodeBlocks([{ ...rows(1, 1), columns: [[noise]] }]), tooLarge(/4194304/));
  assert.equal(decodeBlocks(encodeBlocks([rows(3, 1)]))[0]?.sequences.length, 3, "a failure leaves nothing behind");
});

test("damaged, cut and invented bytes are refused as malformed, quickly and without much memory", () => {
  let state = SEED;
  const random = (below: number) => (((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32) * below) | 0;
  const samples = fc
    .sample(fc.array(block, { minLength: 1, maxLength: 3 }), { seed: SEED, numRuns: 40 })
    .map((blocks) => encodeBlocks(blocks));
  const bomb = new BlockBuilder({ publisher });
  for (let i = 1; i <= 300; i++) bomb.add(seriesOf(`D${i % 40}`, "Text"), i, BigInt(i), ["x".repeat(2000)]);
  samples.push(encodeBlocks(bomb.blocks()));
  const started = performance.now();
  for (const bytes of samples) {
    for (let round = 0; round < 80; round++) {
      const bad = bytes.slice(0, round % 4 === 0 ? random(bytes.length) : bytes.length);
      for (let k = 0; k <= round % 3; k++) bad[random(bad.length)] = round % 2 ? random(256) : 0xff;
      if (round % 7 === 0) bad.copyWithin(random(bad.length), random(bad.length));
      for (const read of [(it: Uint8Array) => decodeBlocks(it), headOfBlocks]) {
        try {
          read(bad);
        } catch (error) {
          assert.ok(error instanceof Failure && error.code === "EVENTS_MALFORMED", String((error as Error).stack));
        }
      }
    }
  }
  assert.ok(performance.now() - started < 60_000);
  for (const bad of [
    new Uint8Array(0),
    new Uint8Array(9).fill(0xe1),
    new Uint8Array(100),
    Buffer.from('{"apiVersion":"v3"}'),
    new Uint8Array(EVENTS_BYTES_MAX + 1).fill(0xe2),
  ]) {
    assert.throws(
      () => decodeBlocks(bad),
      (error) => error instanceof Failure && error.code === "EVENTS_MALFORMED",
    );
  }
});
