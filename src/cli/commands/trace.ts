/** `holdfast trace`: the story of a request, an event or a reading over all services, the cloud included. */
import { setTimeout as sleep } from "node:timers/promises";
import { readRequestId } from "../../kernel/call.ts";
import { Failure, fail } from "../../kernel/error.ts";
import { type StoredSpan, trace, type Trace, TRACE_UNKNOWN } from "../../services/trace/api.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { type Link, withLink } from "../link.ts";
import { logLine } from "../log-line.ts";
import { openHints, openPage } from "../page.ts";
import { storyLines } from "../story.ts";
import { count } from "../units.ts";

/** Services hand over their steps every second: what happened just now is known a moment later. */
const LATE_MS = 1_500;
const LINES_MAX = 1_000;
const SHORT_ID = /^[0-9a-f]{8}[0-9a-f-]{0,27}$/;

const help = `Usage: holdfast trace ID [options]

Tells what happened to a request, or to an event or a reading: every step in
every service, in order of time, and when the cloud had it. The id is in the
answer's header X-Request-ID, in the log book, and in every event and reading;
a trace id or correlation id that a client sent finds his request too.
The first 8 digits are enough for a request that is in the log book.

  --logs           add the lines of the log book that name it
${COMMON_HELP}

With --json: {"requestId", "spans": [{"service", "operation", "startNs",
"durationUs", "status", ...}], "logs": [lines]}.

Examples:
  holdfast trace 0b1f5c3a
  ID=$(npx holdfast readings --limit 1 --json | jq -r '.readings[0].id')
  npx holdfast trace "$ID"`;

export const command: Command = {
  name: "trace",
  summary: "Tell the story of a request, an event or a reading.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, { ...COMMON, logs: { type: "boolean" } }, ["ID"]);
    const [given = ""] = positionals;
    const asked = given.trim().toLowerCase();
    const page = openPage();
    await withLink({ state: values.state, role: "viewer" }, async (link) => {
      const story = await storyOf(link, asked);
      const logs = values.logs
        ? await linesOf(link, [...new Set([story.requestId, ...story.spans.flatMap((s) => s.requestId ?? [])])])
        : [];
      if (values.json)
        return page.json({
          requestId: story.requestId,
          spans: story.spans,
          ...(values.logs ? { logs: logs.map((line) => readLine(line)) } : {}),
        });
      const nowMs = Date.now();
      page.lines(storyLines(page, story.requestId, story.spans, nowMs));
      if (story.left > 0) openHints()?.line(`... and ${count(story.left, "later step")}`);
      if (logs.length > 0) page.lines(["", ...logs.map((line) => logLine(page, line, nowMs))]);
    });
    return EXIT.fine;
  },
};

interface Story {
  readonly requestId: string;
  /** Later steps that are not told. */
  readonly left: number;
  readonly spans: StoredSpan[];
}

/** Asks by the id itself; else by the request that the log book has under it: its first digits, or the id a client gave it. */
async function storyOf(link: Link, asked: string): Promise<Story> {
  const whole = readRequestId(asked) ?? (/^[0-9a-f]{32}$/.test(asked) ? asked : undefined);
  if (whole === undefined && !SHORT_ID.test(asked))
    throw fail(CLI_USAGE, `'${asked}' is no id: it has 32 hexadecimal digits, of which the first 8 may do`);
  const client = link.service(trace);
  const found = whole === undefined ? undefined : await known(client, whole, link);
  if (found) return found;
  const other = await requestInLogs(link, asked);
  const again = other === undefined ? undefined : await known(client, other, link);
  if (again) return again;
  await sleep(LATE_MS);
  const id = other ?? (await requestInLogs(link, asked)) ?? whole;
  if (id === undefined) throw fail(TRACE_UNKNOWN, `the log book has no request that begins with '${asked}'`);
  return client.story({ id }, link.call()).then(withBigints);
}

async function known(client: Trace, id: string, link: Link): Promise<Story | undefined> {
  try {
    return withBigints(await client.story({ id }, link.call()));
  } catch (error) {
    if (error instanceof Failure && error.code === TRACE_UNKNOWN.code) return undefined;
    throw error;
  }
}

interface Answer {
  readonly requestId: string;
  readonly left: number;
  readonly spans: readonly (Omit<StoredSpan, "startNs"> & { readonly startNs: bigint | number })[];
}

/** A start that fits a double comes as one. */
const withBigints = ({ requestId, spans, left }: Answer): Story => ({
  requestId,
  left,
  spans: spans.map((span) => ({ ...span, startNs: BigInt(span.startNs) })),
});

/** Finds the newest request whose id begins with the digits, or that a client called by this id. */
async function requestInLogs({ node, call }: Link, asked: string): Promise<string | undefined> {
  const { lines } = await node.logs({ requestId: asked, lines: LINES_MAX }, call());
  const read = lines.map((line) => readLine(line)).reverse();
  const line =
    read.find(({ requestId }) => requestId?.startsWith(asked)) ??
    read.find(({ clientCorrelationId, clientTraceId }) => clientCorrelationId === asked || clientTraceId === asked);
  return line?.requestId;
}

interface LogRecord {
  readonly time?: string;
  readonly requestId?: string;
  readonly clientCorrelationId?: string;
  readonly clientTraceId?: string;
}

function readLine(line: string): LogRecord {
  try {
    return JSON.parse(line) as LogRecord;
  } catch {
    // The last words of a process that crashed name no request.
    return {};
  }
}

async function linesOf({ node, call }: Link, ids: readonly string[]): Promise<string[]> {
  const all = await Promise.all(ids.map((requestId) => node.logs({ requestId, lines: LINES_MAX }, call())));
  const unique = [...new Set(all.flatMap(({ lines }) => lines))];
  return unique.sort((a, b) => ((readLine(a).time ?? "") < (readLine(b).time ?? "") ? -1 : 1));
}
