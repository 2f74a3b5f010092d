/** `holdfast instances`: who is registered, where and how well; takes a service or an instance out of use, and back. */
import { fail } from "../../kernel/error.ts";
import { type Instance, registry, WEIGHT_DEFAULT } from "../../services/registry/api.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { withLink } from "../link.ts";
import { openPage, type Page, type Style } from "../page.ts";
import { type Cell, table } from "../table.ts";
import { plain } from "../text.ts";
import { ago } from "../units.ts";

const help = `Usage: holdfast instances [SERVICE]
       holdfast instances out NAME
       holdfast instances back NAME

Lists what the registry knows: every instance of every service (or of one) with
its address, state and version; those that it looks after by checks as well.
'out' takes a service, or one instance of it, out of use: it goes on running and
nobody is sent to it until 'back', not even after a restart of the registry.
${COMMON_HELP}

With --json: {"revision", "instances": [{"service", "instance", "host", "port",
"state", ...}]}; with out and back {"instances": [NAME, ...]}.

Examples:
  holdfast instances
  holdfast instances core-command
  holdfast instances out core-command`;

export const command: Command = {
  name: "instances",
  summary: "List who is registered where; take one out of use, or back.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, COMMON, ["[SERVICE|out|back]", "[NAME]"]);
    const [first, name] = positionals;
    const isMaintenance = name !== undefined;
    if (isMaintenance && first !== "out" && first !== "back")
      throw fail(CLI_USAGE, "it takes one service, 'out NAME' or 'back NAME'");
    const page = openPage();
    return withLink({ state: values.state, role: isMaintenance ? "admin" : "viewer" }, async (link) => {
      const service = link.service(registry);
      if (isMaintenance) {
        const { instances } = await service.maintain({ body: { name, on: first === "out" } }, link.call());
        if (values.json) page.json({ instances });
        else
          page.line(`${first === "out" ? "out of use" : "in use"}: ${instances.map(plain).join(", ") || "none now"}`);
        return EXIT.fine;
      }
      const listed = await service.instances(first === undefined ? {} : { service: first }, link.call());
      if (values.json) page.json(listed);
      else page.lines(instanceTable(page, listed.instances, Date.now()));
      return listed.instances.length === 0 ? EXIT.failed : EXIT.fine;
    });
  },
};

const STYLES: { readonly [state in Instance["state"]]: Style } = {
  passing: "green",
  warning: "yellow",
  unverified: "yellow",
  draining: "dim",
  critical: "red",
};

/** Lays out the list. */
export function instanceTable(page: Page, instances: readonly Instance[], nowMs: number): string[] {
  const columns = [
    { title: "SERVICE", min: 12 },
    { title: "INSTANCE", min: 10, drop: 1 },
    { title: "ADDRESS" },
    { title: "STATE" },
    { title: "WEIGHT", right: true, drop: 2 },
    { title: "HELD BY" },
    { title: "SINCE", right: true, drop: 3 },
    { title: instances.some(({ reason }) => reason !== undefined) ? "REASON" : "", min: 12, wraps: true },
  ];
  const rows = instances.map((i): Cell[] => [
    plain(i.service),
    plain(i.instance),
    plain(`${i.host}:${i.port}`),
    i.maintenance ? { text: "out of use", style: "yellow" } : { text: i.state, style: STYLES[i.state] },
    String(i.weight ?? WEIGHT_DEFAULT),
    i.node !== undefined ? `node ${plain(i.node)}` : i.check === undefined ? "its lease" : `${i.check} check`,
    ago(Math.max(0, nowMs - i.startedAtMs)),
    plain(i.reason ?? ""),
  ]);
  return table(page, columns, rows);
}
