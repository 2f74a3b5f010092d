import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Failure } from "../error.ts";
import type { Value, ValueType } from "./model.ts";
import { checkValue, textToValue, valueToText } from "./values.ts";

const SEED = 20260804;
const float = fc.double({ noNaN: true, noDefaultInfinity: true });

const refused = (code: string, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure && error.code === code && text.test(error.message), String(error));
  return true;
};

test("numbers are printed as Go prints them", () => {
  const pairs: [Value, ValueType, string][] = [
    [12.5, "Float64", "1.25e+01"],
    [0, "Float64", "0e+00"],
    [-0, "Float64", "-0e+00"],
    [1e100, "Float64", "1e+100"],
    [-1.5e-7, "Float64", "-1.5e-07"],
    [0.1, "Float32", "1e-01"],
    [Math.fround(0.1), "Float32", "1e-01"],
    [16777216, "Float32", "1.6777216e+07"],
    [3.4028234663852886e38, "Float32", "3.4028235e+38"],
    [1e-45, "Float32", "1e-45"],
    [-12, "Int8", "-12"],
    [2n ** 64n - 1n, "Uint64", "18446744073709551615"],
    [true, "Bool", "true"],
    ["x y", "String", "x y"],
    [[1, 2, 3], "Int32Array", "[1, 2, 3]"],
    [[1.5, -2], "Float64Array", "[1.5e+00, -2e+00]"],
    [[true, false], "BoolArray", "[true, false]"],
    [["a", "b c"], "StringArray", "[a, b, c]"],
  ];
  for (const [value, type, text] of pairs) assert.equal(valueToText(value as number, type), text);
});

test("a canonical text becomes a number, any other that EdgeX takes stays as it is", () => {
  const pairs: [string, ValueType, Value][] = [
    ["1.25e+01", "Float64", 12.5],
    ["12.5", "Float64", "12.5"],
    ["1e-01", "Float32", 0.1],
    ["NaN", "Float64", NaN],
    ["-Inf", "Float32", -Infinity],
    ["nan", "Float64", "nan"],
    ["-128", "Int8", -128],
    ["007", "Int8", "007"],
    ["+5", "Int64", "+5"],
    ["9223372036854775807", "Int64", 2n ** 63n - 1n],
    ["9007199254740991", "Int64", 2 ** 53 - 1],
    ["false", "Bool", false],
    ["0", "Bool", "0"],
    ["[1, 2]", "Uint8Array", [1, 2]],
    ["[1,2]", "Uint8Array", "[1,2]"],
    ["[]", "Int8Array", []],
    ["[a, b]", "StringArray", ["a", "b"]],
  ];
  for (const [text, type, value] of pairs) assert.deepEqual(textToValue(text, type), value, text);
});

test("a value beyond its type is refused, naming resource and value", () => {
  const bad: [string, ValueType][] = [
    ["abc", "Int8"],
    ["300", "Int8"],
    ["-1", "Uint8"],
    ["+1", "Uint8"],
    ["1.5", "Int32"],
    ["0x10", "Int32"],
    ["1e2", "Int32"],
    [" 5", "Int32"],
    ["", "Int32"],
    ["18446744073709551616", "Uint64"],
    ["", "Float64"],
    ["1e400", "Float64"],
    ["1e39", "Float32"],
    ["0x10", "Float64"],
    ["+nan", "Float64"],
    ["1_0", "Float64"],
    [" 1", "Float64"],
    ["yes", "Bool"],
    ["1, 2", "Int8Array"],
    ["[1, x]", "Int8Array"],
    ["[300]", "Uint8Array"],
    ["9".repeat(500), "Int64"],
  ];
  for (const [text, type] of bad)
    assert.throws(() => textToValue(text, type, "Temp"), refused("EVENTS_VALUE_INVALID", /^resource 'Temp': '.*/));
});

test("a value of our own devices is made canonical, or refused", () => {
  const good: [ValueType, Value, Value][] = [
    ["Int8", 5, 5],
    ["Int8", -0, 0],
    ["Int64", 5n, 5],
    ["Int64", "-7", -7],
    ["Uint64", 2n ** 63n, 2n ** 63n],
    ["Float32", Math.fround(12.3), 12.3],
    ["Float64", "1.5", 1.5],
    ["Float64", null, null],
    ["Uint8Array", [1n, 2], [1, 2]],
    ["Object", { a: [1n] }, { a: [1n] }],
    ["String", "", ""],
  ];
  for (const [type, value, made] of good) assert.deepEqual(checkValue(type, value, "R"), made);
  const circle: { [key: string]: unknown } = {};
  circle["self"] = circle;
  const bad: [ValueType, Value][] = [
    ["Int8", 300],
    ["Int8", 1.5],
    ["Int64", 2 ** 53],
    ["Uint8", -1n],
    ["Float64", NaN],
    ["Float64", Infinity],
    ["Float32", 1e39],
    ["Bool", 1],
    ["String", 5],
    ["Binary", "AA=="],
    ["Object", [1]],
    ["ObjectArray", {}],
    ["Object", { a: NaN }],
    ["Object", { a: undefined }],
    ["Object", circle],
    ["Int8Array", [1, null]],
    ["Int8Array", [300]],
    ["Float32Array", 5],
  ];
  for (const [type, value] of bad)
    assert.throws(() => checkValue(type, value, "R"), refused("EVENTS_VALUE_INVALID", /resource 'R'/));
});

test("what our own services say about a value prints and reads as the same value", () => {
  const of = fc
    .constantFrom<ValueType>("Float64", "Float32")
    .chain((type) =>
      fc.tuple(fc.constant(type), type === "Float64" ? float : fc.float({ noNaN: true, noDefaultInfinity: true })),
    );
  fc.assert(
    fc.property(of, ([type, value]) => {
      const made = checkValue(type, value) as number;
      assert.deepEqual(textToValue(valueToText(made, type), type), made);
      assert.ok(type === "Float64" ? Object.is(made, value) : Object.is(Math.fround(made), Math.fround(value)));
    }),
    { seed: SEED, numRuns: 2000 },
  );
});
