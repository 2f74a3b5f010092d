/** Reads metrics as a strict scraper does, by the grammar and the rules of OpenMetrics 1.0; a text that breaks one throws. */

export interface Read {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly unit: string;
  readonly rows: readonly Row[];
}

export interface Row {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly exemplar?: { readonly labels: Readonly<Record<string, string>>; readonly value: number };
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABELS = String.raw`(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"(?:,(?=[a-zA-Z_]))?)*`;
const NUMBER = String.raw`[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+|Inf)|NaN`;
const ROW = new RegExp(
  `^(${NAME})(?:\\{(${LABELS})\\})? (${NUMBER})(?: # \\{(${LABELS})\\} (${NUMBER}) \\d+(?:\\.\\d+)?)?$`,
);
const ENDINGS: Readonly<Record<string, readonly string[]>> = {
  counter: ["_total"],
  gauge: [""],
  info: ["_info"],
  histogram: ["_bucket", "_sum", "_count"],
};
const EXEMPLAR_LENGTH_MAX = 128;

class Wrong extends Error {
  constructor(line: string, why: string) {
    super(`${why}: ${line}`);
  }
}

const numberOf = (text: string): number =>
  text.endsWith("Inf") ? Number(text.replace("Inf", "Infinity")) : Number(text);

function labelsOf(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [, name, value] of text.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g)) {
    if (name in labels) throw new Wrong(line, "a label comes twice");
    labels[name] = value.replaceAll(/\\(.)/g, (_, what: string) => (what === "n" ? "\n" : what));
  }
  return labels;
}

/** Reads a whole text; throws at the first thing that is against the rules. */
export function readOpenMetrics(text: string): Read[] {
  if (!text.endsWith("# EOF\n")) throw new Error("the text does not end with EOF");
  const families = new Map<string, Read & { rows: Row[] }>();
  let now: { name: string; type: string; help: string; unit: string; rows: Row[] } | undefined;
  for (const line of text.slice(0, -"# EOF\n".length).split("\n").slice(0, -1)) {
    const meta = /^# (HELP|TYPE|UNIT) ([^ ]+) (.*)$/.exec(line);
    if (meta) {
      const [, what, name, value] = meta;
      if (now?.name !== name) {
        if (families.has(name)) throw new Wrong(line, "a family is interleaved with others");
        now = { name, type: "unknown", help: "", unit: "", rows: [] };
        families.set(name, now);
      }
      if (now.rows.length > 0) throw new Wrong(line, "metadata comes behind rows");
      now[what.toLowerCase() as "help" | "type" | "unit"] = value;
      if (what === "UNIT" && !name.endsWith(`_${value}`)) throw new Wrong(line, "the unit is not the name's ending");
      continue;
    }
    if (!now) throw new Wrong(line, "a row is of no family");
    now.rows.push(readRow(line, now));
  }
  for (const family of families.values()) checkFamily(family);
  return [...families.values()];
}

function readRow(line: string, { name, type }: { name: string; type: string }): Row {
  const found = ROW.exec(line);
  if (!found) throw new Wrong(line, "a row is not of the grammar");
  const [, rowName, labels = "", value, exemplarLabels, exemplarValue] = found;
  if (!ENDINGS[type]?.some((ending) => name + ending === rowName)) throw new Wrong(line, `a row is not of a ${type}`);
  const row = { name: rowName, labels: labelsOf(labels, line), value: numberOf(value) };
  if (exemplarLabels === undefined) return row;
  if (!rowName.endsWith("_bucket")) throw new Wrong(line, "an exemplar is on a row that may have none");
  const exemplar = { labels: labelsOf(exemplarLabels, line), value: numberOf(exemplarValue) };
  if (Object.entries(exemplar.labels).join("").length > EXEMPLAR_LENGTH_MAX)
    throw new Wrong(line, "an exemplar is too long");
  if (exemplar.value > Number(row.labels["le"]?.replace("+Inf", "Infinity")))
    throw new Wrong(line, "an exemplar is not in its bucket");
  return { ...row, exemplar };
}

function checkFamily({ name, type, rows }: Read): void {
  const seen = new Set<string>();
  const histograms = new Map<string, Row[]>();
  for (const row of rows) {
    const key = `${row.name} ${JSON.stringify(Object.entries(row.labels).sort(([a], [b]) => (a < b ? -1 : 1)))}`;
    if (seen.has(key)) throw new Error(`a row comes twice: ${key}`);
    seen.add(key);
    if (type === "counter" && !(row.value >= 0)) throw new Error(`a counter is ${row.value}: ${key}`);
    if (type === "info" && row.value !== 1) throw new Error(`an info is not 1: ${key}`);
    const { le: _, ...labels } = row.labels;
    const of = JSON.stringify(labels);
    histograms.set(of, [...(histograms.get(of) ?? []), row]);
  }
  if (type === "histogram") for (const [labels, all] of histograms) checkHistogram(`${name}${labels}`, all);
}

function checkHistogram(what: string, rows: readonly Row[]): void {
  const buckets = rows.filter((row) => row.name.endsWith("_bucket"));
  const bounds = buckets.map(({ labels }) => numberOf(labels["le"]));
  if (bounds.at(-1) !== Number.POSITIVE_INFINITY) throw new Error(`there is no bucket +Inf: ${what}`);
  for (const [i, { value }] of buckets.entries()) {
    if (i === 0) continue;
    if (!(bounds[i] > bounds[i - 1])) throw new Error(`bounds do not rise: ${what}`);
    if (value < buckets[i - 1].value) throw new Error(`buckets fall: ${what}`);
  }
  const count = rows.find((row) => row.name.endsWith("_count"))?.value;
  if (count !== buckets.at(-1)!.value) throw new Error(`the count is not that of +Inf: ${what}`);
  if (!rows.some((row) => row.name.endsWith("_sum"))) throw new Error(`there is no sum: ${what}`);
}
