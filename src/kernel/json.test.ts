import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Failure } from "./error.ts";
import { JSON_DEPTH_CEILING, JSON_DEPTH_MAX, parseJson, stringifyJson } from "./json.ts";
import { JsonReader } from "./json-reader.ts";

const failure = (code: string, message?: RegExp) => (caught: unknown) => {
  assert.ok(caught instanceof Failure, String(caught));
  assert.equal(caught.code, code);
  if (message) assert.match(caught.message, message);
  return true;
};
const refuses = (text: string | Uint8Array, code: string, message?: RegExp) =>
  assert.throws(() => parseJson(text), failure(code, message), String(text).slice(0, 80));

test("integers beyond 2^53 are read exactly, wherever they stand", () => {
  assert.equal(parseJson("9007199254740991"), 9007199254740991);
  assert.equal(parseJson("9007199254740992"), 9007199254740992n);
  assert.equal(parseJson("-9007199254740993"), -9007199254740993n);
  assert.deepEqual(
    parseJson('{"origin":1732512345678901234,"a":[18446744073709551615,1,{"b":-9223372036854775808}]}'),
    {
      origin: 1732512345678901234n,
      a: [18446744073709551615n, 1, { b: -9223372036854775808n }],
    },
  );
  assert.deepEqual(parseJson('{"9":12345678901234567890,"1":1e20,"\\u0037":9007199254740993}'), {
    1: 1e20,
    7: 9007199254740993n,
    9: 12345678901234567890n,
  });
});

test("a string that looks like a large number stays a string, and fractions and exponents stay doubles", () => {
  const text =
    '{"a":"12345678901234567890","b":"x\\":12345678901234567890","c":1e300,"d":1.5,"e":12345678901234567890.0}';
  assert.deepEqual(parseJson(text), {
    a: "12345678901234567890",
    b: 'x":12345678901234567890',
    c: 1e300,
    d: 1.5,
    e: 12345678901234567890.0,
  });
  assert.ok(Object.is(parseJson("-0"), -0));
  assert.ok(Object.is((parseJson("[-0.0]") as number[])[0], -0));
});

test("a number that no double holds is refused, not read as Infinity", () => {
  refuses("1e400", "INPUT_MALFORMED", /line 1 column 1: the number is beyond/);
  refuses(`{"a":-${"9".repeat(400)}}`, "INPUT_MALFORMED", /line 1 column 6: the number is beyond/);
});

test("a name that comes twice in an object is refused by name", () => {
  refuses('{"a":1,\n "b":{"c":1, "c":2}}', "INPUT_MALFORMED", /line 2 column 14: the member name "c" appears twice/);
  refuses('{"a":1,"\\u0061":2}', "INPUT_MALFORMED", /"a" appears twice/);
  refuses('{"__proto__":1,"__proto__":2}', "INPUT_MALFORMED", /"__proto__" appears twice/);
  refuses('[{"a":12345678901234567890},{"a":1,"a":12345678901234567891}]', "INPUT_MALFORMED", /"a" appears twice/);
  assert.deepEqual(parseJson('[{"a":1},{"a":{"a":2}}]'), [{ a: 1 }, { a: { a: 2 } }]);
});

test("prototype names are ordinary members and pollute nothing", () => {
  for (const text of [
    '{"__proto__":{"admin":true},"constructor":{"prototype":{"x":1}},"toString":null}',
    '{"__proto__":{"1":12345678901234567890,"admin":true},"constructor":{"prototype":{"x":1}},"toString":null}',
  ]) {
    const value = parseJson(text) as Record<string, unknown>;
    assert.deepEqual(Object.keys(value), ["__proto__", "constructor", "toString"]);
    assert.equal(Object.getPrototypeOf(value), Object.prototype);
    assert.equal((value as { admin?: boolean }).admin, undefined);
    assert.equal(({} as { admin?: boolean }).admin, undefined);
    assert.equal(stringifyJson(value), text);
  }
});

test("nesting and size have limits, which the failure names", () => {
  const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
  assert.ok(parseJson(nested(JSON_DEPTH_MAX)));
  refuses(nested(JSON_DEPTH_MAX + 1), "INPUT_TOO_DEEP", /deeper than 64 levels at line 1 column 65/);
  refuses("[".repeat(10_000), "INPUT_TOO_DEEP");
  refuses('{"a":'.repeat(10_000), "INPUT_TOO_DEEP");
  assert.ok(parseJson(nested(JSON_DEPTH_CEILING), { depthMax: 1e9 }));
  assert.throws(() => parseJson(nested(JSON_DEPTH_CEILING + 1), { depthMax: 1e9 }), failure("INPUT_TOO_DEEP"));
  assert.throws(() => parseJson('"äää"', { bytesMax: 7 }), failure("INPUT_TOO_LARGE", /has 8 bytes; at most 7/));
  assert.throws(
    () => parseJson(Buffer.from('"äää"'), { bytesMax: 7 }),
    failure("INPUT_TOO_LARGE", /has 8 bytes; at most 7/),
  );
  assert.equal(parseJson('"äää"', { bytesMax: 8 }), "äää");
});

test("malformed text is refused with its place and what was expected", () => {
  refuses("", "INPUT_MALFORMED", /line 1 column 1: expected a value, found the end of the text/);
  refuses('{"a":1,}', "INPUT_MALFORMED", /column 8: expected a member name in double quotes, found "}"/);
  refuses("[1,\n2,]", "INPUT_MALFORMED", /line 2 column 3: expected a value, found "]"/);
  refuses('{"a" 1}', "INPUT_MALFORMED", /expected ':' after the member name "a", found "1"/);
  refuses('{"a":NaN}', "INPUT_MALFORMED", /expected a value, found "N"/);
  refuses('["a\nb"]', "INPUT_MALFORMED", /control character/);
  refuses('["a', "INPUT_MALFORMED", /expected a closing double quote, found the end/);
  refuses('["\\x"]', "INPUT_MALFORMED", /expected an escape/);
  refuses('["\\u12"]', "INPUT_MALFORMED", /four hexadecimal digits/);
  refuses("1 2", "INPUT_MALFORMED", /expected the end of the text, found "2"/);
  refuses("01", "INPUT_MALFORMED", /expected the end of the text/);
  refuses("\ufeff{}", "INPUT_MALFORMED", /byte order mark/);
  for (const text of [
    "+1",
    "1.",
    ".5",
    "'a'",
    "nul",
    "[1 2]",
    "{a:1}",
    "//\n1",
    "Infinity",
    "-",
    "1e",
    "\u00a01",
    '"\\',
  ])
    refuses(text, "INPUT_MALFORMED");
});

test("bytes that are not UTF-8 are refused with their place", () => {
  const bytes = Buffer.concat([Buffer.from('{"ä\ufffd":\n "'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]);
  refuses(bytes, "INPUT_MALFORMED", /line 2 column 3: byte 12 is not UTF-8/);
  refuses(Buffer.from([0x22, 0xe2, 0x82]), "INPUT_MALFORMED", /byte 1 is not UTF-8/);
  refuses(Buffer.from([0xef, 0xbb, 0xbf, 0x31]), "INPUT_MALFORMED", /byte order mark/);
  assert.equal(parseJson(Buffer.from('"\ufffd€"')), "\ufffd€");
  assert.deepEqual(parseJson(new Uint8Array(Buffer.from("xx[1]yy")).subarray(2, 5)), [1]);
});

/** What the engine makes of it with source text access: exact, and seven times as slow. */
const exactly = (text: string): unknown =>
  JSON.parse(text, (_key, value: unknown, { source }: { source?: string } = {}) =>
    typeof value === "number" && source !== undefined && /^-?\d+$/.test(source) && !Number.isSafeInteger(value)
      ? BigInt(source)
      : value,
  );

test("any JSON is read as JSON.parse reads it, the fast way and the careful way", () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), (text) => {
      const reference = exactly(text);
      assert.deepEqual(parseJson(text), reference);
      assert.deepEqual(parseJson(Buffer.from(text)), reference);
      assert.deepEqual(new JsonReader(text, 64).read(), reference);
    }),
    { seed: 1, numRuns: 300 },
  );
});

test("damaged JSON is refused exactly where JSON.parse refuses it, and always as a Failure", () => {
  const seeds = [
    '{"a":[1,-2.5e3,"x\\n\\u00e9",true,null,{"b":12345678901234567890}],"c":{}}',
    '[[],{},"",0,-0,1e5,false]',
  ];
  const alphabet = '{}[]":,\\ntu0123456789.eE+- \n\u0000a\ud800'.split("");
  const edit = fc.tuple(fc.nat(80), fc.constantFrom(...alphabet), fc.nat(2));
  fc.assert(
    fc.property(fc.constantFrom(...seeds), fc.array(edit, { minLength: 1, maxLength: 4 }), (seed, edits) => {
      let text = seed;
      for (const [at, char, cut] of edits) text = text.slice(0, at) + char + text.slice(at + cut);
      const native = outcome(() => JSON.parse(text));
      const ours = outcome(() => parseJson(text));
      // We refuse more than the engine only for a name that comes twice and a number beyond the doubles.
      if (native === "refused") assert.equal(ours, "refused", text);
      else if (ours === "refused") assert.throws(() => parseJson(text), /appears twice|beyond the range/, text);
      assert.equal(
        outcome(() => new JsonReader(text, 64).read()),
        ours,
        text,
      );
    }),
    { seed: 2, numRuns: 3000 },
  );
});

function outcome(read: () => unknown): "read" | "refused" {
  try {
    read();
    return "read";
  } catch (error) {
    assert.ok(error instanceof SyntaxError || error instanceof Failure, String(error));
    return "refused";
  }
}

test("a value is written as JSON.stringify writes it, with bigint as an integer and bytes as base64", () => {
  assert.equal(
    stringifyJson({ origin: 1732512345678901234n, v: ["a", 1, null, undefined, () => 1], u: undefined }),
    '{"origin":1732512345678901234,"v":["a",1,null,null,null]}',
  );
  assert.equal(stringifyJson(-9223372036854775808n), "-9223372036854775808");
  assert.equal(stringifyJson({ b: new Uint8Array([0, 255, 1]), c: Buffer.from("hi") }), '{"b":"AP8B","c":"aGk="}');
  assert.equal(stringifyJson({ at: new Date(0), n: 1n }), '{"at":"1970-01-01T00:00:00.000Z","n":1}');
  const value = fc.object({
    maxDepth: 4,
    withBigInt: false,
    withDate: true,
    values: [
      fc.string({ unit: "binary" }),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constant(undefined),
      fc.boolean(),
    ],
  });
  fc.assert(
    fc.property(value, (plain) => {
      assert.equal(stringifyJson(plain), JSON.stringify(plain));
      // The bigint sends the whole value through our own writer.
      assert.equal(stringifyJson({ plain, big: 1n }), JSON.stringify({ plain, big: 1 }));
    }),
    { seed: 3, numRuns: 100 },
  );
});

test("what is written is read back as it was", () => {
  const leaf = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.maxSafeInteger(),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n }),
    fc.boolean(),
    fc.constant(null),
  );
  const tree = fc.letrec<{ any: unknown }>((tie) => ({
    any: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.array(tie("any"), { maxLength: 5 }),
      fc.dictionary(fc.string(), tie("any"), { maxKeys: 5, noNullPrototype: true }),
    ),
  })).any;
  fc.assert(
    fc.property(tree, (value) => assert.deepEqual(parseJson(stringifyJson(value)), value)),
    { seed: 4, numRuns: 500 },
  );
});

test("what JSON cannot hold is an error of ours, not silently null", () => {
  for (const value of [NaN, Infinity, { a: [NaN] }, { a: -Infinity, b: 1n }, undefined, () => 1]) {
    assert.throws(() => stringifyJson(value), failure("KERNEL_INTERNAL"));
  }
  const loop: unknown[] = [];
  loop.push(loop);
  assert.throws(() => stringifyJson(loop), failure("KERNEL_INTERNAL", /deeper than 1000/));
});
