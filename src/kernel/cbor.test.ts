import assert from "node:assert/strict";
import { test } from "node:test";
import { Encoder } from "cbor-x";
import fc from "fast-check";
import { CBOR_DEPTH_CEILING, CBOR_DEPTH_MAX, decodeCbor, encodeCbor } from "./cbor.ts";
import { Failure } from "./error.ts";

const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(" ", ""));
const failure = (code: string, message?: RegExp) => (caught: unknown) => {
  assert.ok(caught instanceof Failure, String(caught));
  assert.equal(caught.code, code);
  if (message) assert.match(caught.message, message);
  return true;
};
const refuses = (bytes: string, code: string, message?: RegExp) =>
  assert.throws(() => decodeCbor(hex(bytes)), failure(code, message), bytes.slice(0, 80));

test("the examples of RFC 8949 appendix A are read as it says", () => {
  const examples: [string, unknown][] = [
    ["00", 0],
    ["17", 23],
    ["1818", 24],
    ["1903e8", 1000],
    ["1a000f4240", 1000000],
    ["1b000000e8d4a51000", 1000000000000],
    ["1bffffffffffffffff", 18446744073709551615n],
    ["c249010000000000000000", 18446744073709551616n],
    ["3bffffffffffffffff", -18446744073709551616n],
    ["c349010000000000000000", -18446744073709551617n],
    ["3903e7", -1000],
    ["f90000", 0],
    ["f98000", -0],
    ["f93c00", 1],
    ["fb3ff199999999999a", 1.1],
    ["f90001", 5.960464477539063e-8],
    ["fa7f7fffff", 3.4028234663852886e38],
    ["fb7e37e43c8800759c", 1e300],
    ["f97c00", Infinity],
    ["f97e00", NaN],
    ["f4", false],
    ["f6", null],
    ["f7", undefined],
    ["4401020304", new Uint8Array([1, 2, 3, 4])],
    ["62225c", '"\\'],
    ["62c3bc", "ü"],
    ["64f0908591", "𐅑"],
    ["8301820203820405", [1, [2, 3], [4, 5]]],
    ["a26161016162820203", { a: 1, b: [2, 3] }],
    ["5f42010243030405ff", new Uint8Array([1, 2, 3, 4, 5])],
    ["7f657374726561646d696e67ff", "streaming"],
    ["9fff", []],
    ["9f018202039f0405ffff", [1, [2, 3], [4, 5]]],
    ["bf6346756ef563416d7421ff", { Fun: true, Amt: -2 }],
    ["d9d9f700", 0],
  ];
  for (const [bytes, value] of examples) assert.deepEqual(decodeCbor(hex(bytes)), value, bytes);
});

const leaf = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ minLength: 60, maxLength: 90 }),
  fc.double(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.constantFrom(
    0,
    -0,
    23,
    24,
    255,
    256,
    65535,
    65536,
    2 ** 32 - 1,
    2 ** 32,
    2 ** 53 - 1,
    -(2 ** 53) + 1,
    0.5,
    -24,
    -25,
  ),
  fc.bigInt({ min: 2n ** 53n, max: 2n ** 70n }),
  fc.bigInt({ min: -(2n ** 70n), max: -(2n ** 53n) }),
  fc.boolean(),
  fc.constant(null),
  fc.constant(undefined),
  fc.uint8Array(),
);
const tree = fc.letrec<{ any: unknown }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.array(tie("any"), { maxLength: 30 }),
    fc.dictionary(fc.string(), tie("any"), { maxKeys: 6, noNullPrototype: true }),
  ),
})).any;

test("every value comes back as it was: bytes, undefined, -0 and every bigint", () => {
  fc.assert(
    fc.property(tree, (value) => assert.deepEqual(decodeCbor(encodeCbor(value)), value)),
    { seed: 1, numRuns: 500 },
  );
});

test("another implementation reads what we write, and we read what it writes", () => {
  const peer = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });
  const shared: unknown[] = [
    {
      origin: 1732512345678901234n,
      name: "grün",
      tags: {},
      readings: [{ value: "1.5", n: -7, f: 1.1, b: true, x: null, u: undefined }],
    },
    [
      -9223372036854775808n,
      2 ** 32 - 1,
      -(2 ** 31),
      "x".repeat(300),
      Array.from({ length: 300 }, (_, i) => i * 1000),
      new Uint8Array(70_000),
    ],
  ];
  for (const value of shared) {
    assert.deepEqual(decodeCbor(peer.encode(value)), value);
    const theirs: unknown = peer.decode(encodeCbor(value));
    assert.equal(Buffer.compare(encodeCbor(theirs), encodeCbor(value)), 0);
  }
});

test("an integer is a number where that is exact, and a bigint where it is not", () => {
  assert.deepEqual(decodeCbor(encodeCbor([5n, -5n, 2n ** 53n - 1n, 2n ** 53n, -(2n ** 53n)])), [
    5,
    -5,
    2 ** 53 - 1,
    2n ** 53n,
    -(2n ** 53n),
  ]);
  assert.deepEqual(decodeCbor(hex("83 1b001fffffffffffff 1b0020000000000000 3b001fffffffffffff")), [
    2 ** 53 - 1,
    2n ** 53n,
    -(2n ** 53n),
  ]);
});

test("bytes are a copy of their own, and nothing given out is written again", () => {
  const body = encodeCbor({ a: new Uint8Array([1, 2, 3]) });
  const { a } = decodeCbor(body) as { a: Uint8Array };
  body.fill(0);
  assert.deepEqual(a, new Uint8Array([1, 2, 3]));
  assert.equal(a.buffer.byteLength, 3);
  const large = encodeCbor(["x".repeat(9_000_000)]);
  encodeCbor("again");
  assert.equal((decodeCbor(large) as string[])[0]?.length, 9_000_000);
});

test("prototype names are ordinary members and pollute nothing", () => {
  const value = decodeCbor(hex("a2 69 5f5f70726f746f5f5f a1 65 61646d696e f5 6b 636f6e7374727563746f72 01")) as Record<
    string,
    unknown
  >;
  assert.deepEqual(Object.keys(value), ["__proto__", "constructor"]);
  assert.equal((value as { admin?: boolean }).admin, undefined);
  assert.equal(({} as { admin?: boolean }).admin, undefined);
  assert.deepEqual(decodeCbor(encodeCbor(value)), value);
});

test("malformed input is refused with its place", () => {
  refuses("", "INPUT_MALFORMED", /at byte 0: more is announced/);
  refuses("0000", "INPUT_MALFORMED", /1 bytes follow the end/);
  refuses("a2 6161 01 6161 02", "INPUT_MALFORMED", /the key "a" appears twice/);
  refuses("bf 6161 01 6162 03 6161 02 ff", "INPUT_MALFORMED", /the key "a" appears twice/);
  refuses("a1 01 02", "INPUT_MALFORMED", /key of a map is not a text/);
  refuses("62 c328", "INPUT_MALFORMED", /not UTF-8/);
  refuses(`7828${"61".repeat(39)}ff`, "INPUT_MALFORMED", /not UTF-8/);
  refuses("ff", "INPUT_MALFORMED", /a break outside/);
  refuses("81ff", "INPUT_MALFORMED", /a break within/);
  refuses("bf6161ff", "INPUT_MALFORMED", /a break within/);
  refuses("5f6161ff", "INPUT_MALFORMED", /a chunk of another type/);
  refuses("5f5f4100ffff", "INPUT_MALFORMED", /a chunk of another type/);
  refuses("d81c00", "INPUT_MALFORMED", /tag 28 is not supported/);
  refuses("df00", "INPUT_MALFORMED", /tag of indefinite length/);
  refuses("c200", "INPUT_MALFORMED", /bignum that is not a byte string/);
  refuses(`c258c8${"ff".repeat(200)}`, "INPUT_MALFORMED", /bignum of 200 bytes/);
  refuses("e0", "INPUT_MALFORMED", /simple value 0/);
  refuses("f8ff", "INPUT_MALFORMED", /simple value 24/);
  refuses("1c", "INPUT_MALFORMED", /additional information 28/);
  refuses("9c", "INPUT_MALFORMED", /28 is reserved/);
  refuses("1f", "INPUT_MALFORMED");
  for (const cut of [
    "18",
    "19ff",
    "1aff",
    "1bff",
    "61",
    "42ff",
    "fb00",
    "81",
    "a1",
    "a16161",
    "9f",
    "bf",
    "5f",
    "c2",
    "d9d9f7",
  ])
    refuses(cut, "INPUT_MALFORMED");
});

test("a header cannot ask for more than the bytes can hold", () => {
  for (const head of [
    "9affffffff",
    "bbffffffffffffffff",
    "9b0000000100000000",
    "5affffffff",
    "7bffffffffffffffff",
    "9a00100000",
    "ba00100000",
  ]) {
    refuses(head, "INPUT_MALFORMED", /more is announced/);
  }
  // Each level claims what is left: together 64 times the body, and yet nothing is made of it.
  const nested = Buffer.alloc(1_000_000, 0x80);
  for (let level = 0; level < 60; level++) nested.set([0x9a, 0x00, 0x0f, 0x00, 0x00], level * 5);
  const before = process.memoryUsage().heapUsed;
  assert.throws(() => decodeCbor(nested), failure("INPUT_MALFORMED", /more is announced/));
  assert.ok(process.memoryUsage().heapUsed - before < 10_000_000);
});

test("nesting and size have limits, which the failure names", () => {
  assert.ok(decodeCbor(hex(`${"81".repeat(CBOR_DEPTH_MAX)}00`)));
  refuses(`${"81".repeat(CBOR_DEPTH_MAX + 1)}00`, "INPUT_TOO_DEEP", /deeper than 64 levels at byte 65/);
  refuses("9f".repeat(10_000), "INPUT_TOO_DEEP");
  refuses("bf6161".repeat(10_000), "INPUT_TOO_DEEP");
  refuses("d9d9f7".repeat(10_000), "INPUT_TOO_DEEP");
  refuses("c2".repeat(100_000), "INPUT_MALFORMED");
  assert.throws(
    () => decodeCbor(hex("81".repeat(CBOR_DEPTH_CEILING + 1)), { depthMax: 1e9 }),
    failure("INPUT_TOO_DEEP"),
  );
  assert.ok(decodeCbor(hex(`${"81".repeat(CBOR_DEPTH_CEILING)}00`), { depthMax: 1e9 }));
  assert.throws(
    () => decodeCbor(new Uint8Array(11), { bytesMax: 10 }),
    failure("INPUT_TOO_LARGE", /11 bytes; at most 10/),
  );
});

test("damaged and random bytes end in a value or a Failure, quickly", () => {
  const whole = encodeCbor({
    id: "a-b-c",
    list: [1, -2, 1.5, 2n ** 60n, null, undefined, true],
    map: { a: { b: new Uint8Array(5) } },
    text: "ä".repeat(40),
  });
  const read = (bytes: Uint8Array) => {
    try {
      // What was read can be written again: it has no break, no tag, nothing strange in it.
      decodeCbor(encodeCbor(decodeCbor(bytes, { depthMax: CBOR_DEPTH_MAX - 1 })));
    } catch (error) {
      assert.ok(error instanceof Failure && error.code.startsWith("INPUT_"), `${String(error)} on ${bytes.toHex()}`);
    }
  };
  const edits = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(edits, fc.nat(whole.length), (changes, cut) => {
      const bytes = whole.slice(0, cut % 4 === 0 ? cut : whole.length);
      for (const [at, byte] of changes) if (at < bytes.length) bytes[at] = byte;
      read(bytes);
    }),
    { seed: 2, numRuns: 5000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), read), { seed: 3, numRuns: 5000 });
});

test("what CBOR is not used for here is an error of ours", () => {
  const loop: unknown[] = [];
  loop.push(loop);
  for (const value of [() => 1, Symbol("x"), new Map(), [new Set()], loop])
    assert.throws(() => encodeCbor(value), failure("KERNEL_INTERNAL"));
  assert.deepEqual(decodeCbor(encodeCbor([new Date(0), new Float64Array([1, 0.5]), new BigInt64Array([-1n])])), [
    "1970-01-01T00:00:00.000Z",
    [1, 0.5],
    [-1],
  ]);
});
