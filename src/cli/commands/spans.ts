/** `holdfast spans`: steps of the services, found by what they are. */
import { COMMON_HELP } from "../arguments.ts";
import type { Command } from "../command.ts";
import { SEARCH_HELP, searchSpans } from "../span-search.ts";
import { FILTERS_HELP } from "../spans.ts";

const help = `Usage: holdfast spans [options]

Finds steps of the services by what they are, the newest first; without options
those of the last hour. 'holdfast trace ID' tells the story that one belongs to,
the request's first 8 digits are enough.

${FILTERS_HELP}
  --failed         that failed
  --longest        the longest first
${SEARCH_HELP}
${COMMON_HELP}

With --json: {"spans": [{"requestId", "service", "operation", "startNs",
"durationUs", "status", ...}], "complete"}.

Example:
  holdfast spans --service core-command --device pump-7 --since 2h`;

export const command: Command = {
  name: "spans",
  summary: "Find steps by service, operation, device, status, time, text.",
  help,
  run: (args) => searchSpans(args, { order: "newest", since: "1h" }),
};
