/** Steps of the services, found by what they are: the options that say which, and the lines that show them. */
import type { StoredSpan, Trace } from "../services/trace/api.ts";
import { durationOf, wholeNumber } from "./arguments.ts";
import type { Page } from "./page.ts";
import { type Cell, table, textOf } from "./table.ts";
import { plain, widthOf } from "./text.ts";
import { clockTime, duration, msOf, size } from "./units.ts";

/** Options of every command that looks for steps. */
export const FILTERS = {
  service: { type: "string" },
  operation: { type: "string" },
  device: { type: "string" },
  status: { type: "string" },
  least: { type: "string" },
  text: { type: "string" },
} as const;

/** How `--help` tells them. */
export const FILTERS_HELP = `  --service NAME   of this service alone
  --operation NAME of this operation alone, as 'holdfast top' calls it
  --device NAME    about this device alone
  --status N       that ended so (404, 503, ...; 0 is fine)
  --least TIME     that took at least so long (5ms, 2s)
  --text WORDS     with these words in the operation or the note`;

type Given = { readonly [K in keyof typeof FILTERS]?: string | undefined };
type Filter = Pick<Parameters<Trace["newest"]>[0], "service" | "operation" | "device" | "status" | "leastUs" | "text">;

const STATUS_MAX = 999;
const US_PER_MS = 1_000;
const NS_PER_MS = 1_000_000n;

/** Reads the filters. CLI_USAGE. */
export function filterOf({ service, operation, device, status, least, text }: Given): Filter {
  return {
    ...(service === undefined ? {} : { service }),
    ...(operation === undefined ? {} : { operation }),
    ...(device === undefined ? {} : { device }),
    ...(status === undefined
      ? {}
      : { status: wholeNumber(status, { name: "--status", min: 0, max: STATUS_MAX, default: 0 }) }),
    ...(least === undefined ? {} : { leastUs: leastUs(least) }),
    ...(text === undefined ? {} : { text }),
  };
}

/** A duration as durationOf reads it, and `250us` or `5ms` besides: what took so long is often shorter than a second. */
function leastUs(text: string): number {
  const short = /^(\d{1,9})(us|ms)$/.exec(text);
  if (short) return Number(short[1]) * (short[2] === "ms" ? US_PER_MS : 1);
  return durationOf(text, "--least") * US_PER_MS;
}

/** Nanoseconds since 1970 of so long before now. CLI_USAGE. */
export const sinceNs = (text: string, nowMs: number): bigint =>
  BigInt(Math.round(nowMs - durationOf(text, "--since"))) * NS_PER_MS;

/** What a step tells of itself beside its note: what was waited for, tried again, kept ready, sent. */
export function factsOf({ queuedUs, retries, cache, bytes }: StoredSpan): string[] {
  return [
    queuedUs === undefined ? "" : `${duration(queuedUs / US_PER_MS)} in the queue`,
    retries === undefined || retries === 0 ? "" : retries === 1 ? "tried again once" : `tried again ${retries} times`,
    cache === undefined ? "" : `cache: ${plain(cache)}`,
    bytes === undefined || bytes === 0 ? "" : size(bytes),
  ].filter((fact) => fact !== "");
}

const ID_SHORT = 8;
/** A page of so many columns has room for whole request ids. */
const ROOMY = 140;

/**
 * Lays out steps, a line each, with the request that each belongs to. `widths` are those of the pages before, under which
 * these lines are to stand; they grow.
 */
export function spanLines(
  page: Page,
  spans: readonly StoredSpan[],
  nowMs: number,
  titles = true,
  widths: number[] = [],
): string[] {
  const rows = spans.map((span): Cell[] => {
    const { service, operation, status, note = "", device, requestId = "", durationUs } = span;
    const said = [status >= 400 ? String(status) : "", plain(note), device === undefined ? "" : plain(device)];
    return [
      clockTime(msOf(span.startNs), nowMs),
      duration(durationUs / US_PER_MS),
      plain(service),
      status >= 400 ? { text: plain(operation), style: "red" } : plain(operation),
      plain(page.width >= ROOMY ? requestId : requestId.slice(0, ID_SHORT)),
      [...said.filter((part) => part !== ""), ...factsOf(span)].join(", "),
    ];
  });
  const columns = [
    { title: "BEGAN" },
    { title: "TOOK", right: true },
    { title: "SERVICE", min: 8 },
    { title: "OPERATION", min: 12 },
    { title: "REQUEST" },
    { title: "NOTE", min: 8, drop: 1 },
  ];
  columns.slice(0, -1).forEach((_, at) => {
    widths[at] = Math.max(widths[at] ?? 0, ...rows.map((row) => widthOf(textOf(row[at]))));
  });
  const kept = columns.map((column, at) => ({ ...column, wide: widths[at] }));
  return table(page, kept, rows).slice(titles ? 0 : 1);
}
