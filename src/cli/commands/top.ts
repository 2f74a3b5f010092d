/** `holdfast top`: throughput, errors and latency of every operation. */
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
const SECONDS_PER_MINUTE = 60;

const help = `Usage: holdfast top [options]

Shows what the services did in the last minutes, the most frequent first: how
often, how many failed, and how long it took (half within p50, all but one in a
hundred within p99). A step on a batch of events counts once.

  --minutes N      look at so many (default ${MINUTES}, at most ${MINUTES_MAX})
  --limit N        at most so many rows (default ${LIMIT})
${COMMON_HELP}

With --json: {"minutes", "rows": [{"service", "operation", "count", "errors",
"p50Us", "p90Us", "p99Us", "maxUs"}]}.

Example:
  holdfast top --minutes 60`;

export const command: Command = {
  name: "top",
  summary: "Show throughput and latency of every operation.",
  help,
  async run(args) {
    const { values } = readArguments(args, { ...COMMON, minutes: { type: "string" }, limit: { type: "string" } });
    const minutes = wholeNumber(values.minutes, { name: "--minutes", min: 1, max: MINUTES_MAX, default: MINUTES });
    const limit = wholeNumber(values.limit, { name: "--limit", min: 1, max: LIMIT_MAX, default: LIMIT });
    const page = openPage();
    await withLink({ state: values.state, role: "viewer" }, async (link) => {
      const { rows } = await link.service(trace).summary({ minutes }, link.call(TIMEOUT_MS));
      if (values.json) return page.json({ minutes, rows });
      if (rows.length === 0) return openHints()?.line("Nothing was done in that time.");
      page.lines(topLines(page, rows.slice(0, limit), minutes));
      if (rows.length > limit)
        openHints()?.line(`... and ${rows.length - limit} more; --limit ${rows.length} shows them`);
    });
    return EXIT.fine;
  },
};

type Row = OutputOf<typeof trace, "summary">["rows"][number];

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
    { title: "MAX", right: true, drop: 4 },
  ];
  const cells = rows.map((row): Cell[] => [
    plain(row.service),
    plain(row.operation),
    number(row.count),
    rate(row.count / (minutes * SECONDS_PER_MINUTE)),
    row.errors === 0 ? "0" : { text: number(row.errors), style: "red" },
    ...[row.p50Us, row.p90Us, row.p99Us, row.maxUs].map((us) => duration(us / 1000)),
  ]);
  return [page.style("dim", `the last ${count(minutes, "minute")}`), ...table(page, columns, cells)];
}

const rate = (perS: number): string => (perS >= 9.95 ? number(Math.round(perS)) : perS.toFixed(perS >= 0.095 ? 1 : 2));
