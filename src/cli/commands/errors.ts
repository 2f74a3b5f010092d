/** `holdfast errors`: what failed. */
import { COMMON_HELP } from "../arguments.ts";
import type { Command } from "../command.ts";
import { SEARCH_HELP, searchSpans } from "../span-search.ts";
import { FILTERS_HELP } from "../spans.ts";

const help = `Usage: holdfast errors [options]

Shows the steps that failed, the newest first, of the last hour unless --since
says otherwise. The note is the error's code: docs/errors.md tells what to do.

${FILTERS_HELP}
${SEARCH_HELP}
${COMMON_HELP}

With --json: {"spans": [...], "complete"}, as 'holdfast spans'.

Example:
  holdfast errors --since 24h --service pipeline`;

export const command: Command = {
  name: "errors",
  summary: "Show the steps that failed.",
  help,
  run: (args) => searchSpans(args, { order: "newest", failed: true, since: "1h" }),
};
