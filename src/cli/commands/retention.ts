/** `holdfast retention`: what is kept at the edge, how long, and how much of it there is. */
import { MAX_RESULT_COUNT } from "../../kernel/edgex.ts";
import { coreData } from "../../services/core-data/api.ts";
import { COMMON, COMMON_HELP, readArguments, wholeNumber } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { withLink } from "../link.ts";
import { openPage } from "../page.ts";
import { retentionLines } from "../retention.ts";

const LIMIT = 100;

const help = `Usage: holdfast retention [DEVICE] [options]

Shows what is kept at the edge, the sources that take most first: how long, and
who says so (a rule under core-data.retention, the device's AutoEvent, or
core-data.keepHours), how many events and readings there are, how many bytes
they take, and how long ago the oldest came.

  --limit N        show so many sources (default ${LIMIT}, at most ${MAX_RESULT_COUNT})
${COMMON_HELP}

With --json: {"sizeBytes", "sizeBytesMax", "totalCount", "sources": [...]}.

Examples:
  holdfast retention pump-1
  holdfast retention --json | jq '.sources[] | {deviceName, bytes, keeps}'`;

export const command: Command = {
  name: "retention",
  summary: "Show what is kept here, how long, and how many bytes it takes.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, { ...COMMON, limit: { type: "string" } }, ["[DEVICE]"]);
    const limit = wholeNumber(values.limit, { name: "--limit", min: 1, max: MAX_RESULT_COUNT, default: LIMIT });
    const [device] = positionals;
    const page = openPage();
    await withLink({ state: values.state, role: "viewer" }, async (link) => {
      const asked = { ...(device === undefined ? {} : { device }), offset: 0, limit };
      const kept = await link.service(coreData).retention(asked, link.call());
      return values.json ? page.json(kept) : page.lines(retentionLines(page, kept));
    });
    return EXIT.fine;
  },
};
