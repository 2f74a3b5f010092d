/** `holdfast status`: the node and its services, how well they are, what waits, what protects them. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Output as OutputOf } from "../../kernel/contract.ts";
import { asFailure, Failure } from "../../kernel/error.ts";
import type { node, ServiceStatus } from "../../node/api.ts";
import { NODE_NOT_RUNNING } from "../../node/codes.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import { askBacklog, type Backlog, backlogInShort } from "../backlog.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { type Link, withLink } from "../link.ts";
import { labelled, openPage, type Page, type Style } from "../page.ts";
import { type Cell, table } from "../table.ts";
import { plain } from "../text.ts";
import { duration, size } from "../units.ts";

const WATCH_MS = 1_000;
const TIMEOUT_MS = 5_000;

const help = `Usage: holdfast status [options]

Shows the node: every service and how well it is, what waits, whether the cloud
is reached, and what protects the node and what does not, plainly.

  --watch          show it anew every second, until Ctrl-C
${COMMON_HELP}

With --json: {"node", "version", "startedAtMs", "compact", "stateDirectory",
"gatewayUrl", "keyProvider", "confinement", "services": [{"service", "instance",
"pid", "state", "restarts", "startedAtMs", ...}], "backlog": as 'holdfast
backlog'}; with --watch one a line.
The exit status is 0 where every service passes (or warns), 1 where one does
not, 3 where no node runs.

Example:
  holdfast status --json | jq -r '.services[] | [.service, .state] | @tsv'`;

export const command: Command = {
  name: "status",
  summary: "Show the node and its services.",
  help,
  async run(args) {
    const { values } = readArguments(args, { ...COMMON, watch: { type: "boolean", short: "w" } });
    const page = openPage();
    return withLink({ state: values.state, role: "viewer" }, async (link) => {
      if (values.watch) return watch(link, page, values.json ?? false);
      const about = await aboutNode(link);
      if (values.json) page.json(about);
      else page.lines(statusLines(page, about, { nowMs: Date.now(), whole: true }));
      return about.services.every(isWell) ? EXIT.fine : EXIT.failed;
    });
  },
};

type Status = OutputOf<typeof node, "status">;
export type AboutNode = Status & { readonly backlog: Backlog };

const NO_BACKLOG: Backlog = { bus: null, pipeline: null, unknown: [] };

/** Services that do not run make the backlog unknown, and nothing else. */
async function aboutNode(link: Link): Promise<AboutNode> {
  const status = await link.node.status({}, link.call(TIMEOUT_MS));
  // A cloud by itself has no gateway, and nothing waits there.
  const backlog = status.gatewayUrl === "" ? NO_BACKLOG : await askBacklog(link);
  return { ...status, backlog };
}

const isWell = ({ state }: ServiceStatus): boolean => state === "passing" || state === "warning";

async function watch(link: Link, page: Page, json: boolean): Promise<never> {
  if (page.tty && !json) process.stdout.write("\u001b[2J");
  for (;;) {
    try {
      const about = await aboutNode(link);
      if (json) page.json(about);
      else page.replace(statusLines(page, about, { nowMs: Date.now(), whole: false }));
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== NODE_NOT_RUNNING.code || json) throw error;
      page.replace([page.style("yellow", asFailure(error).message)]);
    }
    await sleep(WATCH_MS);
  }
}

const STYLES: { readonly [state in ServiceStatus["state"]]: Style } = {
  passing: "green",
  warning: "yellow",
  critical: "red",
  starting: "cyan",
  draining: "cyan",
  restarting: "yellow",
  stopped: "red",
};

/** Lays out the status; `whole` adds what protects the node, which does not change. */
export function statusLines(
  page: Page,
  about: AboutNode,
  { nowMs, whole }: { nowMs: number; whole: boolean },
): string[] {
  const asked = about.backlog.bus !== null || about.backlog.pipeline !== null || about.backlog.unknown.length > 0;
  const { backlog, cloud } = backlogInShort(about.backlog, nowMs);
  const title = `${page.style("bold", `Holdfast ${plain(about.version)}`)}  node ${plain(about.node)}, up ${duration(Math.max(1_000, nowMs - about.startedAtMs))}`;
  return [
    `${title}${about.compact ? ", all in one process" : ""}`,
    "",
    ...serviceTable(page, about.services, nowMs),
    "",
    ...labelled(page, [
      ...(asked
        ? ([
            ["backlog", backlog],
            ["cloud", cloud],
          ] as const)
        : []),
      ...about.backlog.unknown.map((why) => ["unknown", plain(why)] as const),
      ["gateway", about.gatewayUrl === "" ? "none" : plain(about.gatewayUrl)],
      ...(whole ? protectionRows(about) : []),
    ]),
  ];
}

function protectionRows({ stateDirectory, keyProvider, confinement }: Status): (readonly [string, string])[] {
  // The keys have a row of their own.
  const rest = confinement.filter((line) => !line.includes(keyProvider.promise));
  return [
    ["state", plain(stateDirectory)],
    ["keys", `${plain(keyProvider.name)}: ${plain(keyProvider.promise)}`],
    ...rest.map((line, at) => [at === 0 ? "protection" : "", plain(line)] as const),
  ];
}

function serviceTable(page: Page, services: readonly ServiceStatus[], nowMs: number): string[] {
  const columns = [
    { title: "SERVICE", min: 14 },
    { title: "STATE" },
    { title: "UP", right: true },
    { title: "MEMORY", right: true },
    { title: "RESTARTS", right: true },
    { title: "PID", right: true, drop: 1 },
    { title: services.some(({ reason }) => reason !== undefined) ? "REASON" : "", min: 12, wraps: true },
  ];
  const several = new Map<string, number>();
  for (const { service } of services) several.set(service, (several.get(service) ?? 0) + 1);
  const rows = services.map((s): Cell[] => [
    several.get(s.service)! > 1 ? `${plain(s.service)} ${plain(s.instance)}` : plain(s.service),
    { text: s.state, style: STYLES[s.state] },
    isWell(s) ? duration(Math.max(1_000, nowMs - s.startedAtMs)) : "-",
    s.memoryBytes === undefined ? "-" : size(s.memoryBytes),
    s.restarts === 0 ? "0" : { text: String(s.restarts), style: "yellow" },
    s.pid === 0 ? "-" : String(s.pid),
    plain(s.reason ?? ""),
  ]);
  return table(page, columns, rows);
}
