/** OTLP's messages in protobuf (opentelemetry-proto 1.x): what OTLP/JSON writes is encoded by these tables of field numbers. */
import { BinaryWriter } from "@bufbuild/protobuf/wire";

type Kind =
  | "string"
  | "hex"
  | "fixed64"
  | "fixed32"
  | "enum"
  | "bool"
  | "int64"
  | "double"
  | "packed64"
  | "packedDouble";
type Field = readonly [number: number, of: Kind | Table];
type Table = { readonly [field: string]: Field };

const AnyValue: Table = {
  stringValue: [1, "string"],
  boolValue: [2, "bool"],
  intValue: [3, "int64"],
  doubleValue: [4, "double"],
};
const KeyValue: Table = { key: [1, "string"], value: [2, AnyValue] };
const Resource: Table = { attributes: [1, KeyValue] };
const Scope: Table = { name: [1, "string"], version: [2, "string"] };

const Link: Table = { traceId: [1, "hex"], spanId: [2, "hex"], attributes: [4, KeyValue] };
const Span: Table = {
  traceId: [1, "hex"],
  spanId: [2, "hex"],
  parentSpanId: [4, "hex"],
  name: [5, "string"],
  kind: [6, "enum"],
  startTimeUnixNano: [7, "fixed64"],
  endTimeUnixNano: [8, "fixed64"],
  attributes: [9, KeyValue],
  links: [13, Link],
  status: [15, { message: [2, "string"], code: [3, "enum"] }],
  flags: [16, "fixed32"],
};
const Traces: Table = {
  resourceSpans: [1, { resource: [1, Resource], scopeSpans: [2, { scope: [1, Scope], spans: [2, Span] }] }],
};

const Exemplar: Table = {
  timeUnixNano: [2, "fixed64"],
  asDouble: [3, "double"],
  spanId: [4, "hex"],
  traceId: [5, "hex"],
};
const NumberPoint: Table = {
  startTimeUnixNano: [2, "fixed64"],
  timeUnixNano: [3, "fixed64"],
  asDouble: [4, "double"],
  attributes: [7, KeyValue],
};
const HistogramPoint: Table = {
  startTimeUnixNano: [2, "fixed64"],
  timeUnixNano: [3, "fixed64"],
  count: [4, "fixed64"],
  sum: [5, "double"],
  bucketCounts: [6, "packed64"],
  explicitBounds: [7, "packedDouble"],
  exemplars: [8, Exemplar],
  attributes: [9, KeyValue],
};
const Metric: Table = {
  name: [1, "string"],
  description: [2, "string"],
  unit: [3, "string"],
  gauge: [5, { dataPoints: [1, NumberPoint] }],
  sum: [7, { dataPoints: [1, NumberPoint], aggregationTemporality: [2, "enum"], isMonotonic: [3, "bool"] }],
  histogram: [9, { dataPoints: [1, HistogramPoint], aggregationTemporality: [2, "enum"] }],
};
const MetricsTable: Table = {
  resourceMetrics: [1, { resource: [1, Resource], scopeMetrics: [2, { scope: [1, Scope], metrics: [2, Metric] }] }],
};

const LogRecord: Table = {
  timeUnixNano: [1, "fixed64"],
  severityNumber: [2, "enum"],
  severityText: [3, "string"],
  body: [5, AnyValue],
  attributes: [6, KeyValue],
  flags: [8, "fixed32"],
  traceId: [9, "hex"],
  spanId: [10, "hex"],
  observedTimeUnixNano: [11, "fixed64"],
};
const Logs: Table = {
  resourceLogs: [1, { resource: [1, Resource], scopeLogs: [2, { scope: [1, Scope], logRecords: [2, LogRecord] }] }],
};

const TABLES = { traces: Traces, metrics: MetricsTable, logs: Logs } as const;
export type Signal = keyof typeof TABLES;

/** Encodes a request of OTLP/JSON. */
export function toProtobuf(signal: Signal, request: object): Uint8Array {
  const writer = new BinaryWriter();
  write(writer, TABLES[signal], request as Values);
  return writer.finish();
}

type Values = Readonly<Record<string, unknown>>;

function write(writer: BinaryWriter, table: Table, values: Values): void {
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) continue;
    const [number, of] = table[name];
    if (of === "packed64" || of === "packedDouble") {
      writer.tag(number, 2).fork();
      for (const one of value as (string | number)[]) {
        if (of === "packed64") writer.fixed64(BigInt(one));
        else writer.double(Number(one));
      }
      writer.join();
    } else for (const one of Array.isArray(value) ? (value as unknown[]) : [value]) writeOne(writer, number, of, one);
  }
}

function writeOne(writer: BinaryWriter, number: number, of: Kind | Table, value: unknown): void {
  if (typeof of === "object") {
    write(writer.tag(number, 2).fork(), of, value as Values);
    writer.join();
    return;
  }
  switch (of) {
    case "string":
      return void writer.tag(number, 2).string(value as string);
    case "hex":
      return void writer.tag(number, 2).bytes(Buffer.from(value as string, "hex"));
    case "fixed64":
      return void writer.tag(number, 1).fixed64(BigInt(value as string));
    case "double":
      return void writer.tag(number, 1).double(value as number);
    case "fixed32":
      return void writer.tag(number, 5).fixed32(value as number);
    case "bool":
      return void writer.tag(number, 0).bool(value as boolean);
    case "int64":
      return void writer.tag(number, 0).int64(BigInt(value as string));
    default:
      return void writer.tag(number, 0).int32(value as number);
  }
}
