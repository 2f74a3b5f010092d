import assert from "node:assert/strict";
import { test } from "node:test";
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { systemClock } from "./clock.ts";
import { Failure } from "./error.ts";
import { parseJson, stringifyJson } from "./json.ts";
import { isNanosSchema, Nanos, NANOS_MAX, NANOS_MIN, nanosOf, nowNanos, toNanos } from "./nanos.ts";

const Reading = Type.Object({ origin: Nanos, name: Type.String(), at: Type.Optional(Nanos) });
const readings = Compile(Type.Array(Reading));

test("nanoseconds are a bigint in types, and a compiled check accepts what the wire gives for them", () => {
  const reading: Static<typeof Reading> = { origin: 1732512345678901234n, name: "x" };
  assert.ok(readings.IsAccelerated());
  assert.ok(readings.Check([reading, { origin: 5, name: "y", at: NANOS_MIN }, { origin: NANOS_MAX, name: "z" }]));
  for (const origin of [NANOS_MAX + 1n, NANOS_MIN - 1n, 1.5, 1.7e18, NaN, "1", null, undefined, {}]) {
    assert.equal(readings.Check([{ origin, name: "x" }]), false, String(origin));
  }
  assert.match(
    readings.Errors([{ origin: "1", name: "x" }])[0]?.message ?? "",
    /whole number of nanoseconds within 64 bits/,
  );
});

test("nanoseconds cross JSON without being rounded", () => {
  const text = '[{"origin":1732512345678901234,"name":"x"},{"origin":-9223372036854775808,"name":"y","at":7}]';
  const value = parseJson(text);
  assert.ok(readings.Check(value));
  assert.equal(stringifyJson(nanosOf(readings.Type(), value)), text);
  assert.deepEqual(value, [
    { origin: 1732512345678901234n, name: "x" },
    { origin: NANOS_MIN, name: "y", at: 7n },
  ]);
});

test("small numbers become bigint wherever the schema says nanoseconds, and nowhere else", () => {
  const schema = Type.Object({
    event: Type.Union([Type.Null(), Type.Intersect([Reading, Type.Object({ count: Type.Integer() })])]),
    byName: Type.Record(Type.String(), Nanos),
    pair: Type.Tuple([Type.Number(), Nanos]),
    some: Type.Optional(Type.Array(Type.Union([Nanos, Type.Null()]))),
  });
  const value = {
    event: { origin: 1, name: "x", count: 2 },
    byName: { a: 3, constructor: 4 },
    pair: [5, 6],
    some: [7, null],
  };
  assert.ok(Compile(schema).Check(value));
  assert.deepEqual(nanosOf(schema, value), {
    event: { origin: 1n, name: "x", count: 2 },
    byName: { a: 3n, constructor: 4n },
    pair: [5, 6n],
    some: [7n, null],
  });
  assert.deepEqual(nanosOf(schema, { event: null, byName: {}, pair: [1, 2n] }), {
    event: null,
    byName: {},
    pair: [1, 2n],
  });
  const none = Type.Object({ a: Type.Integer() });
  assert.deepEqual(nanosOf(none, { a: 1 }), { a: 1 });
  assert.ok(isNanosSchema(Type.Optional(Nanos)) && !isNanosSchema(none));
});

test("a value that is no nanoseconds is refused with its name", () => {
  assert.equal(toNanos(7, "the field 'start'"), 7n);
  assert.throws(
    () => toNanos("7", "the field 'start'"),
    (error) => error instanceof Failure && /'start' must be a whole/.test(error.message),
  );
});

test("a stamp has the wall clock's time", () => {
  const before = BigInt(Date.now());
  const stamp = nowNanos(systemClock) / 1_000_000n;
  assert.ok(stamp >= before && stamp <= BigInt(Date.now()));
});
