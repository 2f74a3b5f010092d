/** `holdfast leaves`: every resource that leaves the node, where to, reduced how, and how much of it. */
import { pipeline } from "../../services/pipeline/api.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { withLink } from "../link.ts";
import { openPage } from "../page.ts";
import { type Cell, table } from "../table.ts";
import { plain } from "../text.ts";
import { ago, number, size } from "../units.ts";

const help = `Usage: holdfast leaves [options]

Lists every resource that leaves the node: in which pipeline, where to, what is
done to it, and how many readings and bytes of it have left. It is counted from
what was put into the outbox, under the names that are there: a resource that
is not listed has not left. Bytes are those of its encoded values, and by
readings its share of names, times and tags.

${COMMON_HELP}

With --json: {"resources": [...]}.

Example:
  holdfast leaves --json | jq '.resources[] | {resourceName, destinations}'`;

export const command: Command = {
  name: "leaves",
  summary: "List every resource that leaves the node, where to, and how much of it.",
  help,
  async run(args) {
    const { values } = readArguments(args, COMMON);
    const page = openPage();
    await withLink({ state: values.state, role: "viewer" }, async (link) => {
      const { resources } = await link.service(pipeline).leaves({}, link.call());
      if (values.json) return page.json({ resources });
      if (resources.length === 0) return page.line("nothing has left yet");
      const nowMs = Date.now();
      const rows = resources.map((one): Cell[] => [
        plain(one.profileName),
        plain(one.resourceName),
        plain(one.pipeline),
        plain(one.destinations.join(", ")),
        number(one.readings),
        size(one.bytes),
        ago(nowMs - one.lastAtMs),
        plain(one.functions.join(" > ")) || "as it is",
      ]);
      const columns = [
        { title: "PROFILE", min: 10, drop: 2 },
        { title: "RESOURCE", min: 12 },
        { title: "PIPELINE", min: 8 },
        { title: "TO", min: 8 },
        { title: "READINGS", right: true },
        { title: "BYTES", right: true },
        { title: "LAST", drop: 3 },
        { title: "DONE TO IT", min: 10, wraps: true, drop: 1 },
      ];
      return page.lines(table(page, columns, rows));
    });
    return EXIT.fine;
  },
};
