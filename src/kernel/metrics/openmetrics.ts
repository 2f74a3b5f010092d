/** Writes metrics for scrapers: OpenMetrics 1.0 (with exemplars), or Prometheus' older text format 0.0.4. */
import { BOUNDS_S, type Counts, type Exemplar } from "./histogram.ts";
import type { Family, Labels, MetricType, Sample } from "./metrics.ts";

/** The metrics of one instance of a service. */
export interface Told {
  readonly service: string;
  readonly instance: string;
  readonly families: readonly Family[];
}

export type TextFormat = "openmetrics" | "prometheus";

export const TEXT_TYPES: Readonly<Record<TextFormat, string>> = {
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
};

/** Picks the format that a scraper's Accept header asks for. */
export const formatFor = (accept: string | undefined): TextFormat =>
  accept?.includes("application/openmetrics-text") ? "openmetrics" : "prometheus";

/** A longer text is cut at a whole metric, and `holdfast_metrics_cut` says so: a scrape never takes the memory of the node. */
export const TEXT_BYTES_MAX = 8 * 1024 * 1024;
/** OpenMetrics 1.0, "Exemplars": names and values of an exemplar's labels are at most 128 characters; a trace id is 32. */
const TRACE_ID = "trace_id";

interface Merged {
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  readonly rows: { readonly told: Told; readonly sample: Sample }[];
}

/** Writes all, each row with the labels `service` and `instance_id` of who told it. */
export function writeMetrics(all: readonly Told[], format: TextFormat): string {
  const parts: string[] = [];
  let bytes = 0;
  let isCut = false;
  for (const family of merge(all)) {
    const text = familyText(family, format);
    if (bytes + text.length > TEXT_BYTES_MAX) {
      isCut = true;
      continue;
    }
    bytes += text.length;
    parts.push(text);
  }
  parts.push(`# HELP holdfast_metrics_cut Whether metrics were left out of this text, for its size.\n`);
  parts.push(`# TYPE holdfast_metrics_cut gauge\nholdfast_metrics_cut ${isCut ? 1 : 0}\n`);
  // OpenMetrics 1.0, "Overall Structure": the exposition ends with EOF, so that one which was cut is told apart.
  if (format === "openmetrics") parts.push("# EOF\n");
  return parts.join("");
}

/** The rows of a metric stand together, whoever told them (OpenMetrics 1.0, "MetricFamily": they are not interleaved). */
function merge(all: readonly Told[]): Iterable<Merged> {
  const merged = new Map<string, Merged>();
  for (const told of all) {
    for (const { name, help, type, samples } of told.families) {
      let family = merged.get(name);
      if (!family) merged.set(name, (family = { name, help, type, rows: [] }));
      // Two services that mean different things by one name: the first is told.
      if (family.type !== type) continue;
      for (const sample of samples) family.rows.push({ told, sample });
    }
  }
  return merged.values();
}

function familyText({ name, help, type, rows }: Merged, format: TextFormat): string {
  // 0.0.4 knows no info, and a counter by the name of its rows.
  const isOpen = format === "openmetrics";
  const suffix = type === "counter" ? "_total" : type === "info" ? "_info" : "";
  const [shown, shownType] = isOpen ? [name, type] : [name + suffix, type === "info" ? "gauge" : type];
  const unit = /_(seconds|bytes)$/.exec(name)?.[1];
  const lines = [`# HELP ${shown} ${escapeHelp(help)}`, `# TYPE ${shown} ${shownType}`];
  if (isOpen && unit !== undefined) lines.push(`# UNIT ${shown} ${unit}`);
  for (const { told, sample } of rows) {
    const labels = labelsText({ service: told.service, instance_id: told.instance, ...sample.labels });
    if (sample.histogram) lines.push(...histogramLines(name, labels, sample.histogram, isOpen));
    else lines.push(`${name}${suffix}{${labels}} ${numberText(sample.value ?? 0)}`);
  }
  return `${lines.join("\n")}\n`;
}

function* histogramLines(name: string, labels: string, histogram: Counts, isOpen: boolean): Iterable<string> {
  const exemplars = new Map(histogram.exemplars.map(({ bucket, exemplar }) => [bucket, exemplar]));
  let count = 0;
  for (const [i, more] of histogram.counts.entries()) {
    count += more;
    const le = i < BOUNDS_S.length ? boundText(BOUNDS_S[i]) : "+Inf";
    const exemplar = isOpen ? exemplarText(exemplars.get(i)) : "";
    yield `${name}_bucket{${labels},le="${le}"} ${count}${exemplar}`;
  }
  yield `${name}_sum{${labels}} ${numberText(histogram.sumS)}`;
  yield `${name}_count{${labels}} ${count}`;
}

const exemplarText = (exemplar: Exemplar | undefined): string =>
  exemplar === undefined
    ? ""
    : ` # {${TRACE_ID}="${exemplar.requestId.replaceAll("-", "")}"} ${numberText(exemplar.valueS)} ${(exemplar.atMs / 1000).toFixed(3)}`;

/** OpenMetrics 1.0, "Numbers": bounds are written as floats, `1.0`. */
const boundText = (bound: number): string => (Number.isInteger(bound) ? bound.toFixed(1) : String(bound));

function numberText(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}

const labelsText = (labels: Labels): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}="${escapeValue(value)}"`)
    .join(",");

const escapeHelp = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
const escapeValue = (text: string): string => escapeHelp(text).replaceAll('"', '\\"');
