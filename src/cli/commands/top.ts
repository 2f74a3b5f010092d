/** `holdfast top`: throughput, errors and latency of every operation. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Output as OutputOf } from "../../kernel/contract.ts";
import { trace } from "../../services/trace/api.ts";
import { COMMON, COMMON_HELP, readArguments, wholeNumber } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { withLink } from "../link.ts";
import { openHints, openPage, type Page } from "../page.ts";
import { type Cell, table } from "../table.ts";
import { plain } from "../text.ts";
import { count, duration, number } from "../units.ts";

const MINUTES = 5;
const MINUTES_MAX = 1_440;
const LIMIT = 40;
const LIMIT_MAX = 10_000;
const TIMEOUT_MS = 60_000;
const LOOK_MS = 2_000;

const help = `Usage: holdfast top [options]

Shows what the services did in the last minutes, the most frequent first: how
often, how many failed, and how long it took (half within p50, all but one in a
thousand within p99.9; less than 1 % off). A step on a batch of events counts
once. With --follow it goes on, and A SECOND is what was done just now.

  --minutes N      look at so many (default ${MINUTES}, at most ${MINUTES_MAX})
  --limit N        at most so many rows (default ${LIMIT})
  --follow         show it anew every 2 s, until Ctrl-C
${COMMON_HELP}

With --json: {"minutes", "seconds", "rows": [{"service", "operation", "count",
"perS", "errors", "p50Us", ..., "p999Us", "maxUs"}]}, a line a look.

Example:
  holdfast top --minutes 60`;

const OPTIONS = {
  ...COMMON,
  minutes: { type: "string" },
  limit: { type: "string" },
  follow: { type: "boolean", short: "f" },
} as const;

export const command: Command = {
  name: "top",
  summary: "Show throughput and latency of every operation.",
  help,
  async run(args) {
    const { values } = readArguments(args, OPTIONS);
    const minutes = wholeNumber(values.minutes, { name: "--minutes", min: 1, max: MINUTES_MAX, default: MINUTES });
    const limit = wholeNumber(values.limit, { name: "--limit", min: 1, max: LIMIT_MAX, default: LIMIT });
    const page = openPage();
    const show = (rows: readonly Row[], seconds: number) => {
      if (values.json) return page.json({ minutes, seconds, rows });
      if (rows.length === 0) return openHints()?.line("Nothing was done in that time.");
      const lines = topLines(page, rows.slice(0, limit), minutes);
      if (values.follow) return page.replace(lines);
      page.lines(lines);
      if (rows.length > limit)
        openHints()?.line(`... and ${rows.length - limit} more; --limit ${rows.length} shows them`);
    };
    await withLink({ state: values.state, role: "viewer" }, async (link) => {
      for (let before: Look | undefined; ;) {
        const { rows, seconds } = await link.service(trace).summary({ minutes }, link.call(TIMEOUT_MS));
        const look = { rows, atMs: performance.now() };
        show(withRates(look, seconds, before), seconds);
        if (!values.follow) return;
        before = look;
        await sleep(LOOK_MS);
      }
    });
    return EXIT.fine;
  },
};

type Counted = OutputOf<typeof trace, "summary">["rows"][number];
interface Look {
  readonly rows: readonly Counted[];
  readonly atMs: number;
}
type Row = Omit<Counted, "total"> & { readonly perS: number };

/** Says how often a second: since the look before where there was one, else over all the time. */
export function withRates({ rows, atMs }: Look, seconds: number, before: Look | undefined): Row[] {
  const known = new Map(before?.rows.map((row) => [`${row.service} ${row.operation}`, row.total]));
  return rows.map(({ total, ...row }) => {
    const past = known.get(`${row.service} ${row.operation}`);
    // The trace service began anew in between: it counts from 0.
    const isLive = before !== undefined && (past ?? 0) <= total;
    return { ...row, perS: isLive ? ((total - (past ?? 0)) * 1_000) / (atMs - before.atMs) : row.count / seconds };
  });
}

/** Lays out the summary. */
export function topLines(page: Page, rows: readonly Row[], minutes: number): string[] {
  const columns = [
    { title: "SERVICE", min: 10 },
    { title: "OPERATION", min: 12 },
    { title: "COUNT", right: true },
    { title: "A SECOND", right: true, drop: 2 },
    { title: "FAILED", right: true },
    { title: "P50", right: true },
    { title: "P90", right: true, drop: 3 },
    { title: "P99", right: true },
    { title: "P99.9", right: true, drop: 4 },
    { title: "MAX", right: true, drop: 5 },
  ];
  const cells = rows.map((row): Cell[] => [
    plain(row.service),
    plain(row.operation),
    number(row.count),
    rate(row.perS),
    row.errors === 0 ? "0" : { text: number(row.errors), style: "red" },
    ...[row.p50Us, row.p90Us, row.p99Us, row.p999Us, row.maxUs].map((us) => duration(us / 1000)),
  ]);
  return [page.style("dim", `the last ${count(minutes, "minute")}`), ...table(page, columns, cells)];
}

const rate = (perS: number): string => (perS >= 9.95 ? number(Math.round(perS)) : perS.toFixed(perS >= 0.095 ? 1 : 2));
