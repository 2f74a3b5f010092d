/** A search for steps, as 'spans', 'slow' and 'errors' make it. */
import { SPANS_MAX, trace, type Trace } from "../services/trace/api.ts";
import { COMMON, readArguments, wholeNumber } from "./arguments.ts";
import { EXIT } from "./exit.ts";
import { withLink } from "./link.ts";
import { openHints, openPage } from "./page.ts";
import { filterOf, FILTERS, sinceNs, spanLines } from "./spans.ts";

const TIMEOUT_MS = 30_000;
const LIMIT = 30;

export interface Search {
  readonly order: "newest" | "longest";
  readonly failed?: boolean;
  /** How far back, where nothing is said. */
  readonly since: string;
}

/** Options of a search. */
export const SEARCH_HELP = `  --since TIME     that began within the last (10m, 12h, 7d)
  --limit N        at most so many (default ${LIMIT}, at most ${SPANS_MAX})`;

const OPTIONS = {
  ...COMMON,
  ...FILTERS,
  since: { type: "string" },
  limit: { type: "string" },
  failed: { type: "boolean" },
  longest: { type: "boolean" },
} as const;

/** Runs a search and shows what it found; answers the exit status. CLI_USAGE. */
export async function searchSpans(args: readonly string[], search: Search): Promise<number> {
  const { values } = readArguments(args, OPTIONS);
  const limit = wholeNumber(values.limit, { name: "--limit", min: 1, max: SPANS_MAX, default: LIMIT });
  const nowMs = Date.now();
  const wanted: Parameters<Trace["spans"]>[0] = {
    ...filterOf(values),
    ...((search.failed ?? values.failed) ? { failed: true } : {}),
    fromNs: sinceNs(values.since ?? search.since, nowMs),
    order: values.longest ? "longest" : search.order,
    limit,
  };
  const page = openPage();
  await withLink({ state: values.state, role: "viewer" }, async (link) => {
    const { spans, complete } = await link.service(trace).spans(wanted, link.call(TIMEOUT_MS));
    if (values.json) return page.json({ spans, complete });
    if (spans.length === 0) openHints()?.line("There are no such steps in that time.");
    else page.lines(spanLines(page, spans, nowMs));
    if (!complete) openHints()?.line("... there was no time to look through all; --since 10m asks for less");
  });
  return EXIT.fine;
}
