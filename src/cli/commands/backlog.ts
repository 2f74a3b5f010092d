/** `holdfast backlog`: what waits where, and what the cloud has acknowledged. */
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import { askBacklog, backlogLines } from "../backlog.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { withLink } from "../link.ts";
import { openPage } from "../page.ts";

const help = `Usage: holdfast backlog [options]

Shows what waits and what has arrived: the positions of the bus, how far each
follower is, what the outbox holds for each destination, what that has
acknowledged to have, and what was lost or let go of, if anything ever was:
the gap ledger, which the cloud is told, too.

${COMMON_HELP}

With --json: {"bus": {...} or null, "pipeline": {...} or null, "unknown": [why
one is null]}.
The exit status is 1 where one of them could not be asked.

Example:
  holdfast backlog --json | jq '.pipeline.destinations[].waiting'`;

export const command: Command = {
  name: "backlog",
  summary: "Show what waits, and what the cloud has.",
  help,
  async run(args) {
    const { values } = readArguments(args, COMMON);
    const page = openPage();
    return withLink({ state: values.state, role: "viewer" }, async (link) => {
      const backlog = await askBacklog(link);
      if (values.json) page.json(backlog);
      else page.lines(backlogLines(page, backlog, Date.now()));
      return backlog.unknown.length === 0 ? EXIT.fine : EXIT.failed;
    });
  },
};
