/** EdgeX's value types and values as Sparkplug's. */
import type { Value, ValueType } from "../../../../kernel/events/model.ts";
import { stringifyJson } from "../../../../kernel/json.ts";
import { type MetricType, type MetricValue, TYPE } from "./payload.ts";

const TYPES: Readonly<Record<ValueType, MetricType>> = {
  Bool: TYPE.Boolean,
  String: TYPE.String,
  Uint8: TYPE.UInt8,
  Uint16: TYPE.UInt16,
  Uint32: TYPE.UInt32,
  Uint64: TYPE.UInt64,
  Int8: TYPE.Int8,
  Int16: TYPE.Int16,
  Int32: TYPE.Int32,
  Int64: TYPE.Int64,
  Float32: TYPE.Float,
  Float64: TYPE.Double,
  Binary: TYPE.Bytes,
  // Sparkplug has no free object: as JSON.
  Object: TYPE.String,
  ObjectArray: TYPE.String,
  BoolArray: TYPE.BooleanArray,
  StringArray: TYPE.StringArray,
  Uint8Array: TYPE.UInt8Array,
  Uint16Array: TYPE.UInt16Array,
  Uint32Array: TYPE.UInt32Array,
  Uint64Array: TYPE.UInt64Array,
  Int8Array: TYPE.Int8Array,
  Int16Array: TYPE.Int16Array,
  Int32Array: TYPE.Int32Array,
  Int64Array: TYPE.Int64Array,
  Float32Array: TYPE.FloatArray,
  Float64Array: TYPE.DoubleArray,
};

/** Tells the data type of a resource's metric. */
export const metricTypeOf = (valueType: ValueType): MetricType => TYPES[valueType];

/** Turns a reading's value into a metric's; undefined for null. */
export function metricValueOf(value: Value, valueType: ValueType): MetricValue | undefined {
  if (value === null || value === undefined) return undefined;
  if (value instanceof Uint8Array) return value;
  if (valueType === "Object" || valueType === "ObjectArray") return stringifyJson(value);
  if (Array.isArray(value)) return arrayOf(value as readonly unknown[], valueType);
  // The sender's own text of a number: what it says, if not how.
  if (typeof value === "string" && valueType !== "String")
    return valueType === "Int64" || valueType === "Uint64" ? BigInt(value) : Number(value);
  return value as number | bigint | boolean | string;
}

/** Items of so many bytes, little-endian one after the other (6.4.17). */
const WRITERS: Readonly<
  Record<string, readonly [bytes: number, write: (to: Buffer, item: unknown, at: number) => void]>
> = {
  Uint8Array: [1, (to, item, at) => to.writeUInt8(Number(item), at)],
  Uint16Array: [2, (to, item, at) => to.writeUInt16LE(Number(item), at)],
  Uint32Array: [4, (to, item, at) => to.writeUInt32LE(Number(item), at)],
  Uint64Array: [8, (to, item, at) => to.writeBigUInt64LE(BigInt(item as bigint | number), at)],
  Int8Array: [1, (to, item, at) => to.writeInt8(Number(item), at)],
  Int16Array: [2, (to, item, at) => to.writeInt16LE(Number(item), at)],
  Int32Array: [4, (to, item, at) => to.writeInt32LE(Number(item), at)],
  Int64Array: [8, (to, item, at) => to.writeBigInt64LE(BigInt(item as bigint | number), at)],
  Float32Array: [4, (to, item, at) => to.writeFloatLE(Number(item), at)],
  Float64Array: [8, (to, item, at) => to.writeDoubleLE(Number(item), at)],
};

function arrayOf(items: readonly unknown[], valueType: ValueType): Uint8Array {
  if (valueType === "StringArray")
    return Buffer.from(items.map((item) => `${String(item).replaceAll("\0", "")}\0`).join(""));
  if (valueType === "BoolArray") {
    const bytes = Buffer.alloc(4 + Math.ceil(items.length / 8));
    bytes.writeUInt32LE(items.length);
    // The first is the highest bit.
    items.forEach((item, k) => {
      if (item === true) bytes[4 + (k >> 3)] |= 0x80 >> (k & 7);
    });
    return bytes;
  }
  const [size, write] = WRITERS[valueType];
  const bytes = Buffer.alloc(items.length * size);
  items.forEach((item, k) => write(bytes, item, k * size));
  return bytes;
}
