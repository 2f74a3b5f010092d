/** The story of a request, an event or a reading: its steps over all services, as a tree in order of time. */
import type { StoredSpan } from "../services/trace/api.ts";
import type { Page } from "./page.ts";
import { factsOf } from "./spans.ts";
import { type Cell, table } from "./table.ts";
import { plain, widthOf, wrap } from "./text.ts";
import { clockTime, count, duration, msOf } from "./units.ts";

/** A step and how deep it stands below those that asked for it. */
export interface Step {
  readonly span: StoredSpan;
  readonly depth: number;
}

const NS_PER_MS = 1e6;
/** A deeper tree is shown no further to the right. */
const DEPTH_SHOWN_MAX = 8;

/** Puts each step below the one that asked for it, siblings in order of time; one whose asker is not known stands by itself. */
export function treeOf(spans: readonly StoredSpan[]): Step[] {
  const known = new Set(spans.map(({ spanId }) => spanId));
  const below = new Map<string | undefined, StoredSpan[]>();
  for (const span of spans) {
    const parent =
      span.parentId !== undefined && known.has(span.parentId) && span.parentId !== span.spanId
        ? span.parentId
        : undefined;
    below.set(parent, [...(below.get(parent) ?? []), span]);
  }
  const steps: Step[] = [];
  const left = new Set(spans);
  const place = (siblings: readonly StoredSpan[], depth: number): void => {
    for (const span of [...siblings].sort(byStart)) {
      if (!left.delete(span)) continue;
      steps.push({ span, depth });
      place(below.get(span.spanId) ?? [], depth + 1);
    }
  };
  place(below.get(undefined) ?? [], 0);
  // Steps that name each other as askers: told all the same.
  while (left.size > 0) place([left.values().next().value!], 0);
  return steps;
}

const byStart = (a: StoredSpan, b: StoredSpan): number =>
  a.startNs < b.startNs ? -1 : a.startNs > b.startNs ? 1 : b.durationUs - a.durationUs;

const endNs = (span: StoredSpan): bigint => span.startNs + BigInt(span.durationUs) * 1000n;
const min = (values: readonly bigint[]): bigint => values.reduce((a, b) => (a < b ? a : b));
const max = (values: readonly bigint[]): bigint => values.reduce((a, b) => (a > b ? a : b));

/** Lays out a story. */
export function storyLines(page: Page, id: string, spans: readonly StoredSpan[], nowMs: number): string[] {
  const first = min(spans.map(({ startNs }) => startNs));
  const last = max(spans.map(endNs));
  const services = new Set(spans.map(({ service }) => service)).size;
  const failures = spans.filter(({ status }) => status >= 400).length;
  const kept = spans.filter(
    ({ service, operation, status }) => service === "cloud" && operation === "accept" && status < 400,
  );
  const facts = [
    clockTime(msOf(first), nowMs),
    `${count(spans.length, "step")} in ${count(services, "service")}`,
    duration(Number(last - first) / NS_PER_MS),
    ...(failures > 0 ? [page.style("red", `${failures} failed`)] : []),
    ...(kept.length > 0
      ? [page.style("green", `kept by the cloud after ${duration(Number(min(kept.map(endNs)) - first) / NS_PER_MS)}`)]
      : []),
  ];
  return [page.style("bold", plain(id)), ...wrap(facts.join(", "), page.width), "", ...stepLines(page, spans, first)];
}

const COLUMNS = [{ title: "AT", right: true }, { title: "TOOK", right: true }, { title: "STEP" }];

/** A line a step; where notes do not fit beside the steps, all are below them. */
function stepLines(page: Page, spans: readonly StoredSpan[], first: bigint): string[] {
  const steps = treeOf(spans);
  const rows = steps.map(({ span, depth }): Cell[] => {
    const branch = depth === 0 ? "" : `${"  ".repeat(Math.min(depth, DEPTH_SHOWN_MAX) - 1)}└ `;
    const step = `${branch}${plain(span.service)}: ${plain(span.operation)}`;
    return [
      `+${duration(Number(span.startNs - first) / NS_PER_MS)}`,
      duration(span.durationUs / 1000),
      span.status >= 400 ? { text: step, style: "red" } : step,
    ];
  });
  const notes = steps.map(({ span }) => noteOf(span));
  const beside = table(
    page,
    [...COLUMNS, { title: "NOTE" }],
    rows.map((row, at) => [...row, notes[at]]),
  );
  if (beside.every((line) => widthOf(line) <= page.width)) return beside;
  const [head = "", ...lines] = table(page, [...COLUMNS.slice(0, 2), { title: "STEP", min: 24 }], rows);
  const indent = " ".repeat(widthOf(head) - "STEP".length + 2);
  const below = (note: string) =>
    note === "" ? [] : wrap(note, page.width - indent.length).map((part) => indent + page.style("dim", part));
  return [head, ...lines.flatMap((line, at) => [line, ...below(notes[at])])];
}

/** A step's note: what failed first, how many events it handled together. */
function noteOf(span: StoredSpan): string {
  const { status, note, ranges, device, link } = span;
  const events = (ranges ?? []).reduce((sum, { from, to }) => sum + to - from + 1, 0);
  return [
    `${status >= 400 ? status : ""} ${plain(note ?? "")}`.trim(),
    events > 1 && !note?.includes("event") ? `with ${count(events - 1, "other event")}` : "",
    device === undefined ? "" : plain(device),
    ...factsOf(span),
    link === undefined ? "" : `the client calls it ${plain(link)}`,
  ]
    .filter((part) => part !== "")
    .join(", ");
}
