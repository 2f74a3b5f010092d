/** Telemetry in OTLP's words (opentelemetry-proto 1.x, OTLP/JSON): spans and metrics of every service, each as a resource of its own. */
import { BOUNDS_S } from "../../../kernel/metrics/histogram.ts";
import type { Family, Sample } from "../../../kernel/metrics/metrics.ts";
import type { Told } from "../../trace/metrics.api.ts";
import type { StoredSpan } from "../../trace/api.ts";

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

const attribute = (key: string, value: string | number) => ({
  key,
  value: typeof value === "number" ? { intValue: String(value) } : { stringValue: value },
});
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
