/** `holdfast logs`: the node's log book. */
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "../../kernel/error.ts";
import type { Node } from "../../node/api.ts";
import { NODE_NOT_RUNNING } from "../../node/codes.ts";
import { COMMON, readArguments, wholeNumber } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { localNode } from "../local-node.ts";
import { logLine } from "../log-line.ts";
import { openHints, openPage, type Page } from "../page.ts";

const LINES = 100;
const LINES_MAX = 10_000;
const TIMEOUT_MS = 15_000;
/** A look at what came since the last one takes so many lines. */
const LOOK_LINES = 2_000;
const LOOK_MS = 500;

const help = `Usage: holdfast logs [options]

Shows the newest lines of the log book that the node keeps (encrypted, the
oldest go when it is full). A line begins with the time, and ends with the
request's id: 'holdfast trace ID' tells its story, the first 8 digits are
enough.

  --service NAME   of this service alone
  --request ID     of this request alone
  --lines N        so many (default ${LINES}, at most ${LINES_MAX})
  --follow         go on with those that come, until Ctrl-C
  --json           the lines as they are kept: JSON, one a line
  --state DIR      the node's state directory (default: as of 'holdfast start')

Examples:
  holdfast logs --service core-data --lines 20
  holdfast logs --follow --json | jq 'select(.level >= 40)'`;

const OPTIONS = {
  ...COMMON,
  service: { type: "string" },
  request: { type: "string" },
  lines: { type: "string" },
  follow: { type: "boolean", short: "f" },
} as const;

export const command: Command = {
  name: "logs",
  summary: "Show the log book, or follow it.",
  help,
  async run(args) {
    const { values } = readArguments(args, OPTIONS);
    const lines = wholeNumber(values.lines, { name: "--lines", min: 1, max: LINES_MAX, default: LINES });
    const wanted = {
      ...(values.service === undefined ? {} : { service: values.service }),
      ...(values.request === undefined ? {} : { requestId: values.request }),
    };
    const page = openPage();
    const show = (texts: readonly string[]) =>
      page.lines(values.json ? texts : texts.map((text) => logLine(page, text, Date.now())));
    const node = localNode(values.state);
    try {
      const first = await node.client.logs({ ...wanted, lines }, node.call(TIMEOUT_MS));
      if (first.lines.length === 0 && !values.follow) openHints()?.line("There are no such lines in the log book.");
      show(first.lines);
      if (values.follow)
        await follow({
          client: node.client,
          call: () => node.call(TIMEOUT_MS),
          wanted,
          last: first.lines,
          show,
          hints: openHints(),
        });
    } finally {
      node.close();
    }
    return EXIT.fine;
  },
};

interface FollowOptions {
  readonly client: Node;
  readonly call: () => ReturnType<ReturnType<typeof localNode>["call"]>;
  readonly wanted: { readonly service?: string; readonly requestId?: string };
  /** What was shown last. */
  readonly last: readonly string[];
  show(lines: readonly string[]): void;
  readonly hints: Page | undefined;
}

/** Shows lines as they come; a node that is away for a while is waited for. */
async function follow(options: FollowOptions): Promise<never> {
  let { last } = options;
  let away = false;
  for (;;) {
    await sleep(LOOK_MS);
    try {
      const { lines } = await options.client.logs({ ...options.wanted, lines: LOOK_LINES }, options.call());
      const fresh = after(last, lines);
      if (fresh.length === LOOK_LINES && last.length > 0)
        options.hints?.line("... more lines came than one look takes; some are left out");
      options.show(fresh);
      if (lines.length > 0) last = lines;
      away = false;
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== NODE_NOT_RUNNING.code) throw error;
      if (!away) options.hints?.line("... the node does not run; waiting for its next start");
      away = true;
    }
  }
}

/** What of the newest lines comes after those seen last: two lines in a row tell the place. */
export function after(seen: readonly string[], lines: readonly string[]): string[] {
  const [before, last] = [seen.at(-2), seen.at(-1)];
  for (let at = lines.length - 1; at >= 0; at--) {
    if (lines[at] === last && (at === 0 || before === undefined || lines[at - 1] === before))
      return lines.slice(at + 1);
  }
  return [...lines];
}
