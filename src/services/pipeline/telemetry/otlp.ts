/** Telemetry in OTLP's words (opentelemetry-proto 1.x, OTLP/JSON): spans, log lines and metrics of every service, each as a resource of its own. */
import { BOUNDS_S } from "../../../kernel/metrics/histogram.ts";
import type { Family, Sample } from "../../../kernel/metrics/metrics.ts";
import type { Told } from "../../trace/metrics.api.ts";
import type { StoredSpan } from "../../trace/api.ts";
import type { TracedLine } from "./tail.ts";

/** Who tells. */
export interface Teller {
  readonly node: string;
  readonly version: string;
}

const SERVER = 2;
const STATUS_ERROR = 2;
const CUMULATIVE = 2;
/** W3C level 2, as OTLP has it: sampled and random. */
const FLAGS = 3;
const SAMPLED = 1;
/** A line is cut to so much of what it says beside its message. */
const LINE_ATTRIBUTES_MAX = 64;
const LINE_TEXT_MAX = 4_096;

const attribute = (key: string, value: string | number | boolean) => ({ key, value: anyValue(value) });

function anyValue(value: string | number | boolean): object {
  if (typeof value === "string") return { stringValue: value };
  if (typeof value === "boolean") return { boolValue: value };
  return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value };
}
const resourceOf = ({ node, version }: Teller, service: string, instance?: string) => ({
  attributes: [
    attribute("service.name", service),
    attribute("service.namespace", "holdfast"),
    attribute("service.version", version),
    attribute("host.name", node),
    ...(instance === undefined ? [] : [attribute("service.instance.id", instance)]),
  ],
});
const scopeOf = ({ version }: Teller) => ({ name: "holdfast", version });

/** The trace that a span is of: the request's; a step that handled events of many requests is a trace by itself. */
export const traceIdOf = ({ requestId, spanId }: StoredSpan): string =>
  requestId?.replaceAll("-", "") ?? `${spanId}${spanId}`;

/** Writes spans as an ExportTraceServiceRequest. */
export function tracesOf(teller: Teller, spans: readonly StoredSpan[]): object {
  const byService = Map.groupBy(spans, ({ service }) => service);
  return {
    resourceSpans: [...byService].map(([service, own]) => ({
      resource: resourceOf(teller, service),
      scopeSpans: [{ scope: scopeOf(teller), spans: own.map(spanOf) }],
    })),
  };
}

function spanOf(span: StoredSpan): object {
  const { spanId, parentId, operation, startNs, durationUs, status, note, ranges } = span;
  const told = { device: span.device, link: span.link, cache: span.cache, bytes: span.bytes, retries: span.retries };
  return {
    traceId: traceIdOf(span),
    spanId,
    ...(parentId === undefined ? {} : { parentSpanId: parentId }),
    name: operation,
    kind: SERVER,
    startTimeUnixNano: String(startNs),
    endTimeUnixNano: String(startNs + BigInt(durationUs) * 1000n),
    attributes: [
      ...(status === 0 ? [] : [attribute("http.response.status_code", status)]),
      ...(note === undefined ? [] : [attribute("holdfast.note", note)]),
      ...Object.entries(told).flatMap(([key, value]) =>
        value === undefined ? [] : [attribute(`holdfast.${key}`, value)],
      ),
      ...(ranges ?? []).map(({ publisher, epoch, from, to }) =>
        attribute("holdfast.events", `${publisher} ${epoch} ${from}-${to}`),
      ),
    ].filter(isFirst()),
    // What is asked wrongly is the asker's fault, and no error of the service (semantic conventions, HTTP server).
    ...(status >= 500 ? { status: { code: STATUS_ERROR, ...(note === undefined ? {} : { message: note }) } } : {}),
    flags: FLAGS,
  };
}

/** Keys of attributes are unique (opentelemetry-proto, KeyValue). */
function isFirst(): (one: { readonly key: string }) => boolean {
  const seen = new Set<string>();
  return ({ key }) => !seen.has(key) && Boolean(seen.add(key));
}

/** Writes log lines as an ExportLogsServiceRequest; `nowNs` is when they were seen. */
export function logsOf(teller: Teller, lines: readonly TracedLine[], nowNs: bigint): object {
  const byService = Map.groupBy(lines, ({ line }) => line.service);
  return {
    resourceLogs: [...byService].map(([service, own]) => ({
      resource: resourceOf(teller, service),
      scopeLogs: [{ scope: scopeOf(teller), logRecords: own.map((one) => logRecordOf(one, nowNs)) }],
    })),
  };
}

function logRecordOf({ line, spanId }: TracedLine, nowNs: bigint): object {
  const { level, message, more, requestId, timeMs } = line;
  const { err, ...rest } = more;
  return {
    timeUnixNano: String(BigInt(Math.round(timeMs)) * 1_000_000n),
    observedTimeUnixNano: String(nowNs),
    ...severityOf(level),
    body: { stringValue: message.slice(0, LINE_TEXT_MAX) },
    attributes: [...Object.entries(rest).map(([key, value]) => lineAttribute(key, value)), ...exceptionOf(err)].slice(
      0,
      LINE_ATTRIBUTES_MAX,
    ),
    ...(requestId === undefined ? {} : { traceId: requestId.replaceAll("-", ""), flags: SAMPLED }),
    ...(spanId === undefined ? {} : { spanId }),
  };
}

/** OpenTelemetry's numbers (logs data model, "Severity fields") by pino's. */
function severityOf(level: number): { severityNumber: number; severityText: string } {
  const at = Math.min(SEVERITIES.length - 1, Math.max(0, Math.floor(level / 10) - 1));
  return { severityNumber: 1 + 4 * at, severityText: SEVERITIES[at] };
}
const SEVERITIES = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"] as const;

function lineAttribute(key: string, value: unknown): object {
  if (typeof value === "number" || typeof value === "boolean") return attribute(key, value);
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return attribute(key, (text ?? "").slice(0, LINE_TEXT_MAX));
}

/** Semantic conventions, "Exceptions on logs". */
function exceptionOf(err: unknown): object[] {
  if (err === undefined) return [];
  if (typeof err !== "object" || err === null) return [lineAttribute("exception.message", err)];
  const { type, message, stack } = err as Readonly<Record<string, unknown>>;
  const told = { type, message, stacktrace: stack };
  return Object.entries(told).flatMap(([key, value]) =>
    value === undefined ? [] : [lineAttribute(`exception.${key}`, value)],
  );
}

/** Writes metrics as an ExportMetricsServiceRequest; counters are cumulative since their instance began. */
export function metricsOf(teller: Teller, instances: readonly Told[], nowNs: bigint): object {
  return {
    resourceMetrics: instances.map(({ service, instance, ageS, families }) => {
      const timeUnixNano = String(nowNs - BigInt(Math.round(ageS * 1e9)));
      const startTimeUnixNano = String(startOf(families, BigInt(timeUnixNano)));
      const metrics = families
        .filter(({ type, samples }) => type !== "info" && samples.length > 0)
        .map((family) => metricOf(family, { startTimeUnixNano, timeUnixNano }));
      const resource = resourceOf(teller, service, instance);
      return { resource, scopeMetrics: [{ scope: scopeOf(teller), metrics }] };
    }),
  };
}

interface Times {
  readonly startTimeUnixNano: string;
  readonly timeUnixNano: string;
}

/** When the process began that counts; unknown where it does not tell. */
function startOf(families: readonly Family[], atNs: bigint): bigint {
  const uptime = families.find(({ name }) => name === "holdfast_process_uptime_seconds")?.samples[0]?.value;
  return uptime === undefined ? 0n : atNs - BigInt(Math.round(uptime * 1e9));
}

function metricOf({ name, help, type, samples }: Family, times: Times): object {
  const unit = /_(seconds|bytes)$/.exec(name)?.[1];
  const common = { name, description: help, unit: unit === "seconds" ? "s" : unit === "bytes" ? "By" : "1" };
  if (type === "histogram")
    return {
      ...common,
      histogram: { dataPoints: samples.map((s) => histogramPoint(s, times)), aggregationTemporality: CUMULATIVE },
    };
  const dataPoints = samples.map(({ labels, value = 0 }) => ({
    ...times,
    asDouble: value,
    attributes: attributesOf(labels),
  }));
  if (type === "gauge") return { ...common, gauge: { dataPoints } };
  return { ...common, sum: { dataPoints, aggregationTemporality: CUMULATIVE, isMonotonic: true } };
}

const attributesOf = (labels: Sample["labels"]) => Object.entries(labels).map(([key, value]) => attribute(key, value));

function histogramPoint({ labels, histogram }: Sample, times: Times): object {
  const { counts, sumS, exemplars } = histogram!;
  return {
    ...times,
    count: String(counts.reduce((sum, count) => sum + count, 0)),
    sum: sumS,
    bucketCounts: counts.map(String),
    explicitBounds: BOUNDS_S,
    exemplars: exemplars.map(({ exemplar: { requestId, valueS, atMs } }) => ({
      timeUnixNano: String(BigInt(Math.round(atMs)) * 1_000_000n),
      asDouble: valueS,
      traceId: requestId.replaceAll("-", ""),
    })),
    attributes: attributesOf(labels),
  };
}
