/** Sparkplug B's payload in protobuf: what an edge node writes, and what it reads of commands (Sparkplug 3.0, 6.4). */

/** Data types of metrics (6.4.16). */
export const TYPE = {
  Int8: 1,
  Int16: 2,
  Int32: 3,
  Int64: 4,
  UInt8: 5,
  UInt16: 6,
  UInt32: 7,
  UInt64: 8,
  Float: 9,
  Double: 10,
  Boolean: 11,
  String: 12,
  Bytes: 17,
  Int8Array: 22,
  Int16Array: 23,
  Int32Array: 24,
  Int64Array: 25,
  UInt8Array: 26,
  UInt16Array: 27,
  UInt32Array: 28,
  UInt64Array: 29,
  FloatArray: 30,
  DoubleArray: 31,
  BooleanArray: 32,
  StringArray: 33,
} as const;
export type MetricType = (typeof TYPE)[keyof typeof TYPE];

export type MetricValue = number | bigint | boolean | string | Uint8Array;

export interface Metric {
  readonly name?: string;
  readonly alias?: number;
  readonly timestampMs?: number;
  /** In births, and always for the writer: it decides how the value is written. */
  readonly type?: MetricType;
  readonly isHistorical?: boolean;
  /** undefined and no bytes on the wire: null. */
  readonly value?: MetricValue | undefined;
  /** Property `engUnit`. */
  readonly units?: string;
}

export interface Payload {
  readonly timestampMs?: number;
  readonly metrics: readonly Metric[];
  /** Absent in NDEATH. */
  readonly seq?: number;
}

// Wire types of protobuf.
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

class Writer {
  readonly #chunks: Buffer[] = [];

  varint(field: number, value: number | bigint): this {
    return this.#push(tag(field, VARINT), varint(value));
  }

  bytes(field: number, value: Uint8Array): this {
    return this.#push(
      tag(field, BYTES),
      varint(value.length),
      Buffer.from(value.buffer, value.byteOffset, value.length),
    );
  }

  text(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value));
  }

  float(field: number, value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    return this.#push(tag(field, FIXED32), bytes);
  }

  double(field: number, value: number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleLE(value);
    return this.#push(tag(field, FIXED64), bytes);
  }

  finish(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  #push(...chunks: Buffer[]): this {
    this.#chunks.push(...chunks);
    return this;
  }
}

const tag = (field: number, wire: number): Buffer => varint(field * 8 + wire);

function varint(value: number | bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

/** Writes a payload. */
export function encodePayload({ timestampMs, metrics, seq }: Payload): Buffer {
  const writer = new Writer();
  if (timestampMs !== undefined) writer.varint(1, timestampMs);
  for (const metric of metrics) writer.bytes(2, encodeMetric(metric));
  if (seq !== undefined) writer.varint(3, seq);
  return writer.finish();
}

function encodeMetric({ name, alias, timestampMs, type, isHistorical, value, units }: Metric): Buffer {
  const writer = new Writer();
  if (name !== undefined) writer.text(1, name);
  if (alias !== undefined) writer.varint(2, alias);
  if (timestampMs !== undefined) writer.varint(3, timestampMs);
  // A metric in data messages is known by its alias; only births tell the type (6.4.10).
  if (name !== undefined && type !== undefined) writer.varint(4, type);
  if (isHistorical) writer.varint(5, 1);
  if (value === undefined) writer.varint(7, 1);
  if (units !== undefined) writer.bytes(9, engUnit(units));
  if (value !== undefined) writeValue(writer, type ?? TYPE.String, value);
  return writer.finish();
}

/** A property set with one text in it. */
const engUnit = (units: string): Buffer =>
  new Writer().text(1, "engUnit").bytes(2, new Writer().varint(1, TYPE.String).text(8, units).finish()).finish();

function writeValue(writer: Writer, type: MetricType, value: MetricValue): void {
  if (value instanceof Uint8Array) writer.bytes(16, value);
  else if (type === TYPE.Boolean) writer.varint(14, value === true ? 1 : 0);
  else if (type === TYPE.String) writer.text(15, String(value));
  else if (type === TYPE.Float) writer.float(12, Number(value));
  else if (type === TYPE.Double) writer.double(13, Number(value));
  else if (type === TYPE.Int64 || type === TYPE.UInt64) writer.varint(11, BigInt(value));
  // Signed ones too are in the unsigned field, as 32 bits of two's complement.
  else writer.varint(10, Number(value) >>> 0);
}

/** A payload that is none, or is too large. */
export class PayloadError extends Error {}

/** Commands are small; what is larger is refused before it is read. */
const BYTES_MAX = 1_048_576;
const METRICS_MAX = 10_000;

interface Field {
  readonly field: number;
  readonly number: bigint;
  readonly bytes: Buffer;
}

function* fields(bytes: Buffer): Generator<Field> {
  let at = 0;
  const read = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new PayloadError("it ends in the middle of a number");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new PayloadError("a number has over ten bytes");
  };
  const cut = (length: number): Buffer => {
    if (length > bytes.length - at) throw new PayloadError("it ends in the middle of a field");
    return bytes.subarray(at, (at += length));
  };
  while (at < bytes.length) {
    const head = Number(read());
    const [field, wire] = [head >>> 3, head & 7];
    if (wire === VARINT) yield { field, number: read(), bytes: EMPTY };
    else if (wire === BYTES) yield { field, number: 0n, bytes: cut(Number(read())) };
    else if (wire === FIXED32 || wire === FIXED64) yield { field, number: 0n, bytes: cut(wire === FIXED32 ? 4 : 8) };
    else throw new PayloadError(`wire type ${wire} is none of protobuf 3`);
  }
}
const EMPTY = Buffer.alloc(0);

/** Reads a payload; fields that are not known are passed over. PayloadError for what is none. */
export function decodePayload(given: Uint8Array): Payload {
  if (given.length > BYTES_MAX) throw new PayloadError(`it has over ${BYTES_MAX} bytes`);
  const metrics: Metric[] = [];
  const payload: { timestampMs?: number; seq?: number } = {};
  for (const { field, number, bytes } of fields(Buffer.from(given.buffer, given.byteOffset, given.length))) {
    if (field === 1) payload.timestampMs = Number(number);
    else if (field === 3) payload.seq = Number(number);
    else if (field === 2) metrics.push(decodeMetric(bytes));
    if (metrics.length > METRICS_MAX) throw new PayloadError(`it has over ${METRICS_MAX} metrics`);
  }
  return { ...payload, metrics };
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function decodeMetric(given: Buffer): Metric {
  const metric: Writable<Metric> = {};
  let isNull = false;
  for (const { field, number, bytes } of fields(given)) {
    if (field === 1) metric.name = bytes.toString();
    else if (field === 2) metric.alias = Number(number);
    else if (field === 3) metric.timestampMs = Number(number);
    else if (field === 4) metric.type = Number(number) as MetricType;
    else if (field === 5) metric.isHistorical = number !== 0n;
    else if (field === 7) isNull = number !== 0n;
    else if (field === 10 || field === 11) metric.value = number;
    else if (field === 12 && bytes.length === 4) metric.value = bytes.readFloatLE();
    else if (field === 13 && bytes.length === 8) metric.value = bytes.readDoubleLE();
    else if (field === 14) metric.value = number !== 0n;
    else if (field === 15) metric.value = bytes.toString();
    else if (field === 16) metric.value = bytes;
  }
  if (isNull) delete metric.value;
  return metric;
}
