import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Failure } from "../error.ts";
import { BlockBuilder } from "./blocks.ts";
import { decodeBlocks, encodeBlocks } from "./codec.ts";
import { type EdgexEvent, type EdgexReading, eventToRow, rowToEvent } from "./edgex.ts";
import { parseId, publisherTag } from "./ids.ts";
import { VALUE_TYPES, type ValueType } from "./model.ts";

const SEED = 20260803;
const TAG = publisherTag("node", "device-x");
const publisher = { name: "device-x", epoch: 5 };

/** An event through everything: row, block, bytes, block, event. */
function through(event: EdgexEvent): EdgexEvent {
  const { series, origin, values, extra } = eventToRow(event);
  const builder = new BlockBuilder({ publisher });
  builder.add(series, 1, origin, values, extra);
  const [block] = decodeBlocks(encodeBlocks(builder.blocks()));
  assert.ok(block);
  return rowToEvent(block, 0, TAG);
}

const refused = (code: string, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure && error.code === code && text.test(error.message), String(error));
  return true;
};

const pad = (text: string) => text.replace(/e([+-])(\d)$/, "e$10$2");
const goE = (x: number) => (Object.is(x, -0) ? "-0e+00" : pad(x.toExponential()));
const float = fc.double({ noNaN: true, noDefaultInfinity: true });
const integer = (type: string) => {
  const bits = BigInt(type.replace(/\D/g, ""));
  return type.startsWith("U")
    ? fc.bigInt({ min: 0n, max: 2n ** bits - 1n })
    : fc.bigInt({ min: -(2n ** (bits - 1n)), max: 2n ** (bits - 1n) - 1n });
};
const scalar = (type: ValueType): fc.Arbitrary<string> =>
  type === "Bool"
    ? fc.constantFrom("true", "false", "True", "1", "t", "F")
    : type === "Binary" || type === "Object"
      ? fc.constant("") // these have fields of their own
      : type === "String"
        ? fc.string({ unit: "binary" })
        : type === "Float64"
          ? fc.oneof(
              float.map(goE),
              float.map(String),
              float.map((x) => Math.min(Math.abs(x), 1e20).toFixed(2)),
              fc.constantFrom("NaN", "+Inf", "-Inf", "inf", "0x1p-2", "1.", ".5", "-0", "00.10", "1E5"),
            )
          : type === "Float32"
            ? fc
                .oneof(
                  fc.float({ noNaN: true, noDefaultInfinity: true }).map((x) => goE(Number(x.toPrecision(7)))),
                  fc.integer().map((n) => String(n / 1000)),
                )
                .filter((text) => Number.isFinite(Math.fround(Number(text))))
            : fc.oneof(
                integer(type).map(String),
                integer(type)
                  .filter((n) => n >= 0n)
                  .map((n) => `0${n}`),
              );
const valueText = (type: ValueType): fc.Arbitrary<string> =>
  type.endsWith("Array")
    ? fc
        .tuple(fc.array(scalar(type.slice(0, -5) as ValueType), { maxLength: 4 }), fc.constantFrom(", ", ","))
        .map(([items, comma]) => `[${items.join(comma)}]`)
    : scalar(type);

const json = fc.dictionary(
  fc.string(),
  fc.oneof(
    fc.string(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 80n }),
    fc.array(fc.integer()),
  ),
  { maxKeys: 4, noNullPrototype: true },
);
const label = fc.string({ unit: "grapheme", minLength: 1, maxLength: 8 }).filter((text) => text.trim() !== "");
const origin = fc.bigInt({ min: 1n, max: 2n ** 63n - 1n });
const reading = (event: { deviceName: string; profileName: string; origin: bigint }): fc.Arbitrary<EdgexReading> =>
  fc.constantFrom(...VALUE_TYPES).chain((valueType) =>
    fc
      .tuple(
        fc.record({ id: fc.uuid(), origin: fc.oneof(fc.constant(event.origin), origin), resourceName: label }),
        valueText(valueType),
        json,
        fc.uint8Array({ minLength: 1, maxLength: 9 }),
        fc.record(
          { units: label, tags: json.filter((tags) => Object.keys(tags).length > 0) },
          { requiredKeys: [], noNullPrototype: true },
        ),
        fc.boolean(),
      )
      .map(([own, value, objectValue, bytes, optional, isNull]) => ({
        id: own.id,
        origin: own.origin,
        deviceName: event.deviceName,
        resourceName: own.resourceName,
        profileName: event.profileName,
        valueType,
        ...optional,
        ...(isNull
          ? { value: null, binaryValue: null, objectValue: null }
          : valueType === "Binary"
            ? { binaryValue: Buffer.from(bytes).toString("base64"), mediaType: "image/png" }
            : valueType === "Object"
              ? { objectValue }
              : valueType === "ObjectArray"
                ? { objectValue: [objectValue] }
                : { value }),
      })),
  );
const event: fc.Arbitrary<EdgexEvent> = fc
  .record({
    id: fc.uuid(),
    deviceName: label,
    profileName: label,
    sourceName: label,
    origin,
    tags: fc.option(
      json.filter((tags) => Object.keys(tags).length > 0),
      { nil: undefined },
    ),
  })
  .chain((base) =>
    fc.array(reading(base), { minLength: 1, maxLength: 5 }).map((readings) => {
      const made: EdgexEvent = {
        apiVersion: "v3",
        id: base.id,
        deviceName: base.deviceName,
        profileName: base.profileName,
        sourceName: base.sourceName,
        origin: base.origin,
        readings,
      };
      if (base.tags) made.tags = base.tags;
      return made;
    }),
  );

test("an EdgeX event comes back to the character, whatever its values and however they are written", () => {
  fc.assert(
    fc.property(event, (one) => {
      const back = through(one);
      assert.deepEqual(back, one);
      assert.deepEqual(Object.keys(back), Object.keys(one));
    }),
    { seed: SEED, numRuns: 150 },
  );
});

const minimal = (change: object, readingChange: object = {}): EdgexEvent => ({
  id: "8c0f4b62-32ce-4b9c-8d6b-0a6a5f4b2c11",
  deviceName: "D",
  profileName: "P",
  sourceName: "S",
  origin: 7n,
  readings: [
    {
      origin: 7n,
      deviceName: "D",
      resourceName: "R",
      profileName: "P",
      valueType: "Int8",
      value: "1",
      ...readingChange,
    },
  ],
  ...change,
});

test("an event that breaks EdgeX's rules is refused, naming the field", () => {
  const invalid = (text: RegExp) => refused("EVENTS_EVENT_INVALID", text);
  for (const field of ["deviceName", "profileName", "sourceName"])
    assert.throws(() => eventToRow(minimal({ [field]: " " })), invalid(new RegExp(field)));
  assert.throws(() => eventToRow(minimal({ id: "" })), invalid(/no id/));
  assert.throws(() => eventToRow(minimal({ readings: [] })), invalid(/no readings/));
  assert.throws(() => eventToRow(minimal({ origin: 1.5 })), invalid(/origin/));
  assert.throws(() => eventToRow(minimal({ origin: 0n })), invalid(/no origin/));
  assert.throws(() => eventToRow(minimal({}, { valueType: "Int9" })), invalid(/'R'.*'Int9'/));
  assert.throws(() => eventToRow(minimal({}, { deviceName: "E" })), invalid(/'E'/));
  assert.throws(() => eventToRow(minimal({}, { valueType: "Binary", binaryValue: "AAAA" })), invalid(/mediaType/));
  assert.throws(
    () => eventToRow(minimal({}, { valueType: "Binary", binaryValue: "A", mediaType: "x" })),
    refused("EVENTS_VALUE_INVALID", /base64/),
  );
  assert.throws(() => eventToRow(minimal({}, { value: 5 })), refused("EVENTS_VALUE_INVALID", /'R'/));
});

test("an optimised payload (ADR 0031) is filled in, and ids that nobody chose are derived", () => {
  const short = minimal(
    { sourceName: "R" },
    { deviceName: "", profileName: "", resourceName: "", origin: 0, valueType: "int8" },
  );
  const back = through(short);
  const [filled] = back.readings;
  assert.deepEqual(
    { ...filled, id: "" },
    { id: "", origin: 7n, deviceName: "D", resourceName: "R", profileName: "P", valueType: "Int8", value: "1" },
  );
  assert.deepEqual(parseId(filled?.id ?? ""), { tag: TAG, epoch: 5, sequence: 1, index: 1 });
});
