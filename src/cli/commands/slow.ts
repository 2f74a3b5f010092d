/** `holdfast slow`: what took longest. */
import { COMMON_HELP } from "../arguments.ts";
import type { Command } from "../command.ts";
import { SEARCH_HELP, searchSpans } from "../span-search.ts";
import { FILTERS_HELP } from "../spans.ts";

const help = `Usage: holdfast slow [options]

Shows the steps that took longest, of the last hour unless --since says
otherwise. 'holdfast trace ID' tells what the time went by with.

${FILTERS_HELP}
${SEARCH_HELP}
${COMMON_HELP}

With --json: {"spans": [...], "complete"}, as 'holdfast spans'.

Example:
  holdfast slow --service gateway --limit 10`;

export const command: Command = {
  name: "slow",
  summary: "Show the steps that took longest.",
  help,
  run: (args) => searchSpans(args, { order: "longest", since: "1h" }),
};
