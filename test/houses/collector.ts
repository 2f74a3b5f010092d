/** A receiver of OTLP/HTTP that decodes protobuf by the official shapes (opentelemetry-proto 1.x), and answers as it is told. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";
import { createFileRegistry, fromBinary, fromJson, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

/** The messages as the .proto files have them, of each the fields that may come. */
const PROTO = `
ExportTraceServiceRequest: repeated ResourceSpans resource_spans = 1
ResourceSpans: Resource resource = 1, repeated ScopeSpans scope_spans = 2, string schema_url = 3
ScopeSpans: InstrumentationScope scope = 1, repeated Span spans = 2, string schema_url = 3
Span: bytes trace_id = 1, bytes span_id = 2, string trace_state = 3, bytes parent_span_id = 4, string name = 5, int32 kind = 6, fixed64 start_time_unix_nano = 7, fixed64 end_time_unix_nano = 8, repeated KeyValue attributes = 9, uint32 dropped_attributes_count = 10, Status status = 15, fixed32 flags = 16
Status: string message = 2, int32 code = 3
Resource: repeated KeyValue attributes = 1, uint32 dropped_attributes_count = 2
InstrumentationScope: string name = 1, string version = 2, repeated KeyValue attributes = 3
KeyValue: string key = 1, AnyValue value = 2
AnyValue: string string_value = 1, bool bool_value = 2, int64 int_value = 3, double double_value = 4
ExportMetricsServiceRequest: repeated ResourceMetrics resource_metrics = 1
ResourceMetrics: Resource resource = 1, repeated ScopeMetrics scope_metrics = 2
ScopeMetrics: InstrumentationScope scope = 1, repeated Metric metrics = 2
Metric: string name = 1, string description = 2, string unit = 3, Gauge gauge = 5, Sum sum = 7, Histogram histogram = 9
Gauge: repeated NumberDataPoint data_points = 1
Sum: repeated NumberDataPoint data_points = 1, int32 aggregation_temporality = 2, bool is_monotonic = 3
Histogram: repeated HistogramDataPoint data_points = 1, int32 aggregation_temporality = 2
NumberDataPoint: fixed64 start_time_unix_nano = 2, fixed64 time_unix_nano = 3, double as_double = 4, sfixed64 as_int = 6, repeated KeyValue attributes = 7
HistogramDataPoint: fixed64 start_time_unix_nano = 2, fixed64 time_unix_nano = 3, fixed64 count = 4, double sum = 5, repeated fixed64 bucket_counts = 6, repeated double explicit_bounds = 7, repeated Exemplar exemplars = 8, repeated KeyValue attributes = 9
Exemplar: fixed64 time_unix_nano = 2, double as_double = 3, bytes span_id = 4, bytes trace_id = 5, sfixed64 as_int = 6
ExportLogsServiceRequest: repeated ResourceLogs resource_logs = 1
ResourceLogs: Resource resource = 1, repeated ScopeLogs scope_logs = 2, string schema_url = 3
ScopeLogs: InstrumentationScope scope = 1, repeated LogRecord log_records = 2, string schema_url = 3
LogRecord: fixed64 time_unix_nano = 1, int32 severity_number = 2, string severity_text = 3, AnyValue body = 5, repeated KeyValue attributes = 6, uint32 dropped_attributes_count = 7, fixed32 flags = 8, bytes trace_id = 9, bytes span_id = 10, fixed64 observed_time_unix_nano = 11, string event_name = 12
`;
const SCALARS = new Set([
  "string",
  "bytes",
  "bool",
  "int32",
  "int64",
  "uint32",
  "fixed32",
  "fixed64",
  "sfixed64",
  "double",
]);

const registry = (() => {
  const messageType = PROTO.trim()
    .split("\n")
    .map((line) => {
      const [name, fields] = line.split(": ");
      const field = fields.split(", ").map((text) => {
        const [, repeated, type, fieldName, number] = /^(repeated )?(\w+) (\w+) = (\d+)$/.exec(text)!;
        const of = SCALARS.has(type)
          ? { type: `TYPE_${type.toUpperCase()}` }
          : { type: "TYPE_MESSAGE", typeName: `.otlp.${type}` };
        return {
          name: fieldName,
          jsonName: fieldName.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase()),
          number: Number(number),
          label: repeated ? "LABEL_REPEATED" : "LABEL_OPTIONAL",
          ...of,
        };
      });
      return { name, field };
    });
  const file = [{ name: "otlp.proto", package: "otlp", syntax: "proto3", messageType }];
  return createFileRegistry(fromJson(FileDescriptorSetSchema, { file } as never));
})();

const SERVICES: Readonly<Record<string, string>> = { traces: "Trace", metrics: "Metrics", logs: "Logs" };

/** Decodes a request; a field that the shapes do not have is left out, as every receiver does. */
export function decodeOtlp(path: string, body: Uint8Array): object {
  const shape = registry.getMessage(`otlp.Export${SERVICES[path.split("/v1/")[1]]}ServiceRequest`)!;
  return toJson(shape, fromBinary(shape, body)) as object;
}

/** As protobuf's own JSON has it: bytes in base64. */
export interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
}

/** Lists the spans of a request of traces, whatever resource they are of. */
export function spansIn(request: object): OtlpSpan[] {
  const { resourceSpans = [] } = request as { resourceSpans?: { scopeSpans: { spans: OtlpSpan[] }[] }[] };
  return resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
}

export interface OtlpRecord {
  readonly traceId?: string;
  readonly spanId?: string;
  readonly severityText: string;
  readonly body: { readonly stringValue: string };
}

/** Lists the log records of a request of logs. */
export function recordsIn(request: object): OtlpRecord[] {
  const { resourceLogs = [] } = request as { resourceLogs?: { scopeLogs: { logRecords: OtlpRecord[] }[] }[] };
  return resourceLogs.flatMap(({ scopeLogs }) => scopeLogs.flatMap(({ logRecords }) => logRecords));
}

export interface Taken {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly atMs: number;
  readonly request: object;
}

export interface Collector {
  readonly port: number;
  /** What was answered with 200. */
  readonly taken: Taken[];
  /** What came, answered or not. */
  asked: number;
  /** Answers a request instead of taking it, where it returns true. */
  refuse: (response: ServerResponse) => boolean;
  close(): void;
}

/** Starts a collector on loopback. */
export async function startCollector(port = 0): Promise<Collector> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      collector.asked++;
      if (collector.refuse(response)) return;
      const { url: path = "", headers } = request;
      const sent = Buffer.concat(chunks);
      const body = headers["content-encoding"] === "gzip" ? gunzipSync(sent) : sent;
      const isJson = headers["content-type"] === "application/json";
      const read = isJson ? (JSON.parse(body.toString()) as object) : decodeOtlp(path, body);
      collector.taken.push({ path, headers, atMs: performance.now(), request: read });
      response.writeHead(200, { "content-type": headers["content-type"] }).end();
    });
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const collector: Collector = {
    port: (server.address() as AddressInfo).port,
    taken: [],
    asked: 0,
    refuse: () => false,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
  return collector;
}
