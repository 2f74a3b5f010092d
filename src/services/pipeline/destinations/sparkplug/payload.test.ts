import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodePayload, encodePayload, type MetricType, PayloadError, TYPE } from "./payload.ts";
import { metricValueOf } from "./values.ts";

/** Made by protoc 3.21 of Eclipse Tahu's sparkplug_b.proto. */
const KNOWN =
  "08eaf2f5a8a02b12320a085072657373757265100118a2828395862b200a4a120a07656e67556e69741207080c420362617269000000000000f83f" +
  "12170a04436f6c64100218a2828395862b200350ffffffff0f121710ac0218a2828395862b280158ffffffffffffffffff01120410043801" +
  "120410057001120810067a04546573741207100782010201021207100865000080be18ff01";
const timestampMs = 1_479_123_452_194;
const metrics = [
  { name: "Pressure", alias: 1, timestampMs, type: TYPE.Double, value: 1.5, units: "bar" },
  { name: "Cold", alias: 2, timestampMs, type: TYPE.Int32, value: -1 },
  { alias: 300, timestampMs, type: TYPE.UInt64, isHistorical: true, value: 2n ** 64n - 1n },
  { alias: 4 },
  { alias: 5, type: TYPE.Boolean, value: true },
  { alias: 6, type: TYPE.String, value: "Test" },
  { alias: 7, type: TYPE.Bytes, value: Buffer.from([1, 2]) },
  { alias: 8, type: TYPE.Float, value: -0.25 },
];

test("a payload is, to the byte, what protobuf's own compiler makes of it", () => {
  assert.equal(encodePayload({ timestampMs: 1_486_144_502_122, metrics, seq: 255 }).toString("hex"), KNOWN);
});

test("a payload that protobuf's own compiler made is read", () => {
  const { timestampMs: at, seq, metrics: read } = decodePayload(Buffer.from(KNOWN, "hex"));
  assert.deepEqual([at, seq], [1_486_144_502_122, 255]);
  assert.deepEqual(
    read.map(({ name, alias, value, isHistorical }) => [name, alias, value, isHistorical]),
    [
      ["Pressure", 1, 1.5, undefined],
      ["Cold", 2, 0xffffffffn, undefined],
      [undefined, 300, 2n ** 64n - 1n, true],
      [undefined, 4, undefined, undefined],
      [undefined, 5, true, undefined],
      [undefined, 6, "Test", undefined],
      [undefined, 7, Buffer.from([1, 2]), undefined],
      [undefined, 8, -0.25, undefined],
    ],
  );
});

test("whatever bytes come, they are read or refused, and nothing else happens", () => {
  const known = Buffer.from(KNOWN, "hex");
  const refusedOrRead = (bytes: Uint8Array) => {
    try {
      decodePayload(bytes);
    } catch (error) {
      assert.ok(error instanceof PayloadError, String(error));
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), refusedOrRead), { seed: 7, numRuns: 2_000 });
  for (let length = 0; length < known.length; length++) refusedOrRead(known.subarray(0, length));
  for (let at = 0; at < known.length; at++) {
    const flipped = Buffer.from(known);
    flipped[at] ^= 0xff;
    refusedOrRead(flipped);
  }
  assert.throws(() => decodePayload(Buffer.alloc(1_048_577)), PayloadError);
});

test("numbers of every width come back as they were", () => {
  const roundTrip = (type: MetricType, value: number | bigint) =>
    decodePayload(encodePayload({ metrics: [{ type, value }] })).metrics[0].value;
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.double({ noNaN: true }), (whole, real) => {
      assert.equal(BigInt.asIntN(64, roundTrip(TYPE.Int64, whole) as bigint), whole);
      const small = Number(BigInt.asIntN(32, whole));
      assert.equal(Number(BigInt.asIntN(32, roundTrip(TYPE.Int32, small) as bigint)), small);
      assert.equal(roundTrip(TYPE.Double, real), real);
    }),
    { seed: 7 },
  );
});

test("arrays are written as Sparkplug 3.0 shows them in its examples", () => {
  // 6.4.17: the specification's own arrays and bytes.
  const hex = (value: readonly unknown[], type: Parameters<typeof metricValueOf>[1]) =>
    Buffer.from(metricValueOf(value, type) as Uint8Array).toString("hex");
  assert.equal(hex([-23, 123], "Int8Array"), "e97b");
  assert.equal(hex([-30000, 30000], "Int16Array"), "d08a3075");
  assert.equal(hex([-1, 315338746], "Int32Array"), "fffffffffaafcb12");
  assert.equal(hex([52, 3738], "Uint16Array"), "34009a0e");
  assert.equal(hex([1.23, 89.341], "Float32Array"), "a4709d3f98aeb242");
  assert.equal(
    hex([false, false, true, true, false, true, false, false, true, true, false, true], "BoolArray"),
    "0c00000034d0",
  );
  assert.equal(hex(["ABC", "hello"], "StringArray"), "41424300".concat("68656c6c6f00"));
  assert.equal(metricValueOf("1.0", "Float64"), 1);
  assert.equal(metricValueOf("007", "Int64"), 7n);
  assert.equal(metricValueOf({ a: 1n }, "Object"), '{"a":1}');
});
