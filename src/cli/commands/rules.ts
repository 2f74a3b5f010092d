/** `holdfast rules`: what is done here at once when a reading says so. */
import { pipeline } from "../../services/pipeline/api.ts";
import type { RuleStatus } from "../../services/pipeline/pipelines.api.ts";
import { COMMON_HELP } from "../arguments.ts";
import type { Command } from "../command.ts";
import { definitionLines, type Kind, runDefinitions } from "../definitions.ts";
import { labelled, type Page } from "../page.ts";
import { type Cell, table } from "../table.ts";
import { plain } from "../text.ts";
import { ago, count, number } from "../units.ts";

const help = `Usage: holdfast rules [list] [options]
       holdfast rules show NAME
       holdfast rules set NAME FILE
       holdfast rules remove NAME

A rule looks at the readings of a resource as they come, and commands a device
or raises a notification when its condition comes to hold; here, whether the
cloud is there or not.

  list      list them, and how often each has acted
  show      show one, with its definition
  set       add one, or change it, from a file (YAML or JSON, - is standard
            input)
  remove    remove one

A change holds until the config says something else of the rule.

${COMMON_HELP}

With --json: {"rules": [...]}; one rule; {"name"}.

Example:
  holdfast rules set hot hot.yaml`;

const lastOf = ({ lastFiredMs }: RuleStatus, nowMs: number): string =>
  lastFiredMs === undefined ? "never" : ago(nowMs - lastFiredMs);

function listLines(page: Page, all: readonly RuleStatus[], nowMs: number): string[] {
  if (all.length === 0) return ["there is no rule"];
  const rows = all.map((one): Cell[] => [
    plain(one.name),
    plain(String(one.definition["resource"])),
    plain(JSON.stringify(one.definition["when"])),
    number(one.active),
    number(one.fired),
    one.failed === 0 ? "0" : { text: number(one.failed), style: "red" },
    lastOf(one, nowMs),
  ]);
  const columns = [
    { title: "RULE", min: 8 },
    { title: "RESOURCE", min: 8 },
    { title: "WHEN", min: 10 },
    { title: "HOLDS FOR", right: true, drop: 1 },
    { title: "ACTED", right: true },
    { title: "FAILED", right: true },
    { title: "LAST" },
  ];
  return table(page, columns, rows);
}

function showLines(page: Page, one: RuleStatus, nowMs: number): string[] {
  return [
    ...labelled(page, [
      ["rule", `${plain(one.name)}${one.origin === "changed" ? " (set while running)" : ""}`],
      ["holds for", count(one.active, "device")],
      ["acted", `${count(one.fired, "time")} since the start, the last ${lastOf(one, nowMs)}`],
      ...(one.failed === 0
        ? []
        : [["failed", `${count(one.failed, "time")}; the last: ${plain(one.lastFault ?? "")}`] as const]),
    ]),
    "",
    ...definitionLines(one.definition),
  ];
}

const KIND: Kind<RuleStatus> = {
  name: "rules",
  one: "rule",
  listLines,
  showLines,
  list: async (link) => (await link.service(pipeline).rules({}, link.call())).rules,
  set: async (link, name, body) =>
    void (await link.service(pipeline).setRule(
      {
        name,
        body,
      },
      link.call(),
    )),
  remove: async (link, name) => void (await link.service(pipeline).removeRule({ name }, link.call())),
};

export const command: Command = {
  name: "rules",
  summary: "Show and change what is done here at once when a reading says so.",
  help,
  run: (args) => runDefinitions(KIND, args),
};
