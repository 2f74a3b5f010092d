/** `holdfast follow`: the steps of the services as they come. */
import { setTimeout as sleep } from "node:timers/promises";
import { Failure, UNAVAILABLE } from "../../kernel/error.ts";
import { NODE_NOT_RUNNING } from "../../node/codes.ts";
import { SPANS_MAX, type StoredSpan, trace } from "../../services/trace/api.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { type Link, withLink } from "../link.ts";
import { openHints, openPage, type Page } from "../page.ts";
import { filterOf, FILTERS, FILTERS_HELP, spanLines } from "../spans.ts";

const LOOK_MS = 500;

const help = `Usage: holdfast follow [options]

Shows the steps of the services as they come, until Ctrl-C. Services hand theirs
over every second.

${FILTERS_HELP}
  --failed         that failed
${COMMON_HELP}

With --json: a line of JSON for each step.

Example:
  holdfast follow --failed`;

export const command: Command = {
  name: "follow",
  summary: "Show the steps of the services as they come.",
  help,
  async run(args) {
    const { values } = readArguments(args, { ...COMMON, ...FILTERS, failed: { type: "boolean" } });
    const filter = { ...filterOf(values), ...(values.failed ? { failed: true } : {}) };
    const page = openPage();
    const widths: number[] = [];
    const show = (spans: readonly StoredSpan[]) => {
      if (values.json) return spans.forEach((span) => page.json(span));
      const others = spans.filter((span) => !isOwn(span)).sort((a, b) => Number(a.startNs) - Number(b.startNs));
      if (others.length > 0) page.lines(spanLines(page, others, Date.now(), widths.length === 0, widths));
    };
    return withLink({ state: values.state, role: "viewer" }, (link) => follow(link, filter, show, openHints()));
  },
};

/** Each look is a step too; of those nobody wants to be told. */
const isOwn = ({ service, operation }: StoredSpan): boolean => service === "gateway" && operation === "trace newest";

/** Shows what comes from now on; a node that is away for a while is waited for. */
async function follow(
  link: Link,
  filter: object,
  show: (spans: readonly StoredSpan[]) => void,
  hints: Page | undefined,
): Promise<never> {
  const client = link.service(trace);
  const look = (after: number) => client.newest({ ...filter, after, limit: SPANS_MAX }, link.call());
  let { next } = await look(Number.MAX_SAFE_INTEGER);
  let away = false;
  for (;;) {
    try {
      const answer = await look(next);
      if (answer.missed > 0) hints?.line(`... ${answer.missed} more came than were looked at in time`);
      show(answer.spans);
      ({ next } = answer);
      away = false;
    } catch (error) {
      const isAway = error instanceof Failure && [NODE_NOT_RUNNING.code, UNAVAILABLE.code].includes(error.code);
      if (!isAway) throw error;
      if (!away) hints?.line("... the node does not run; waiting for its next start");
      away = true;
    }
    await sleep(LOOK_MS);
  }
}
