/** `holdfast pipelines`: what leaves the node, and how; changed while it runs. */
import { pipeline } from "../../services/pipeline/api.ts";
import type { PipelineStatus } from "../../services/pipeline/pipelines.api.ts";
import { COMMON_HELP } from "../arguments.ts";
import type { Command } from "../command.ts";
import { definitionLines, type Kind, runDefinitions } from "../definitions.ts";
import type { Page } from "../page.ts";
import { labelled } from "../page.ts";
import { type Cell, table } from "../table.ts";
import { plain } from "../text.ts";
import { count, number, size } from "../units.ts";

const help = `Usage: holdfast pipelines [list] [options]
       holdfast pipelines show NAME
       holdfast pipelines set NAME FILE
       holdfast pipelines remove NAME

A pipeline takes events from the bus, does its functions to them, and puts them
into the outbox for its destinations. What is not in one does not leave.

  list      list them: where they go, how far they are, what they saved
  show      show one: what each of its functions did, and its definition
  set       add one, or change it while it runs, from a file (YAML or JSON, - is
            standard input); what it has queued stays
  remove    remove one; what it holds still goes

A change holds until the config says something else of the pipeline.

${COMMON_HELP}

With --json: {"pipelines": [...]}; one pipeline; {"name"}.

Example:
  echo 'functions: [{function: OnChange}]' | holdfast pipelines set changes -`;

const stringsOf = (given: unknown): string[] => (Array.isArray(given) ? given.map((one) => plain(String(one))) : []);

function listLines(page: Page, all: readonly PipelineStatus[]): string[] {
  if (all.length === 0) return ["there is no pipeline: nothing leaves"];
  const rows = all.map((one): Cell[] => [
    plain(one.name),
    one.fault === undefined ? { text: "works", style: "green" } : { text: "stands", style: "yellow" },
    stringsOf(one.definition["destinations"]).join(", "),
    String(one.definition["priority"]),
    one.behind === undefined ? "?" : number(one.behind),
    number(one.readings),
    size(one.bytes),
    one.fault === undefined ? saved(one) : plain(one.fault),
  ]);
  return table(
    page,
    [
      { title: "PIPELINE", min: 8 },
      { title: "STATE" },
      { title: "TO", min: 8 },
      { title: "PRIORITY", right: true, drop: 2 },
      { title: "BEHIND", right: true },
      { title: "READINGS", right: true },
      { title: "BYTES", right: true },
      { title: "", min: 10, wraps: true, drop: 1 },
    ],
    rows,
  );
}

/** What all of its functions together left away. */
function saved({ functions }: PipelineStatus): string {
  const readingsIn = functions[0]?.readingsIn ?? 0;
  const readingsOut = functions.at(-1)?.readingsOut ?? 0;
  return readingsIn > readingsOut ? `${Math.round(100 * (1 - readingsOut / readingsIn))}% of readings saved` : "";
}

function showLines(page: Page, one: PipelineStatus): string[] {
  const functions = one.functions.map((each): Cell[] => [
    plain(each.function),
    number(each.readingsIn),
    number(each.readingsOut),
    each.errorMax === undefined ? "" : String(Number(each.errorMax.toPrecision(6))),
  ]);
  return [
    ...labelled(page, [
      ["pipeline", `${plain(one.name)}${one.origin === "changed" ? " (set while running)" : ""}`],
      ["behind", one.behind === undefined ? "not known" : count(one.behind, "record")],
      ["given", `${count(one.readings, "reading")}, ${size(one.bytes)}`],
      ...(one.fault === undefined ? [] : [["stands", plain(one.fault)] as const]),
    ]),
    ...(functions.length === 0
      ? []
      : [
          "",
          ...table(
            page,
            [
              { title: "FUNCTION", min: 8 },
              { title: "READINGS IN", right: true },
              { title: "OUT", right: true },
              { title: "LARGEST ERROR", right: true },
            ],
            functions,
          ),
        ]),
    "",
    ...definitionLines(one.definition),
  ];
}

const KIND: Kind<PipelineStatus> = {
  name: "pipelines",
  one: "pipeline",
  listLines,
  showLines,
  list: async (link) => (await link.service(pipeline).pipelines({}, link.call())).pipelines,
  set: async (link, name, body) =>
    void (await link.service(pipeline).setPipeline(
      {
        name,
        body,
      },
      link.call(),
    )),
  remove: async (link, name) => void (await link.service(pipeline).removePipeline({ name }, link.call())),
};

export const command: Command = {
  name: "pipelines",
  summary: "Show and change what leaves the node, and how.",
  help,
  run: (args) => runDefinitions(KIND, args),
};
