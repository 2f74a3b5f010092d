/** `holdfast routes`: the gateway's routes, what would become of a request, and whether a file of routes is right. */
import { readYamlFile } from "../../kernel/config-file.ts";
import { fail } from "../../kernel/error.ts";
import { type Explanation, gateway, type RouteEntry } from "../../services/gateway/api.ts";
import { checkRoutes } from "../../services/gateway/routes.api.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { withLink } from "../link.ts";
import { openPage, type Page } from "../page.ts";
import { type Cell, table } from "../table.ts";
import { plain } from "../text.ts";

const help = `Usage: holdfast routes [list]
       holdfast routes explain METHOD URL [--host HOST]
       holdfast routes check FILE

Shows the gateway's routes in the order in which they are looked for; tells what
would become of a request (which route, who may, by which settings, which
instances); or checks a file of routes, without a node that runs. The node reads
routes.yaml in its state directory, or the file that gateway.routesFile names,
again whenever it changes; one with a fault changes nothing.

  --host HOST      for explain: the Host that is asked for (default localhost)
${COMMON_HELP}

With --json: {"file", "routes": [...]}; {"route", "allowed", "settings",
"instances": [...]}; {"file", "routes": N, "upstreams": N, "services": N}.
The exit status is 1 where there is no route, or the file has a fault.

Examples:
  holdfast routes
  holdfast routes explain GET /core-data/api/v3/reading/all
  holdfast routes check routes.yaml`;

const OPTIONS = { ...COMMON, host: { type: "string" } } as const;

export const command: Command = {
  name: "routes",
  summary: "Show the gateway's routes, and check a file of them.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, OPTIONS, ["[list|explain|check]", "[METHOD|FILE]", "[URL]"]);
    const [what = "list", first, second] = positionals;
    const page = openPage();
    if (what === "check" && first !== undefined && second === undefined)
      return check(page, first, values.json ?? false);
    if (what !== "list" && what !== "explain")
      throw fail(CLI_USAGE, "it takes 'list', 'explain METHOD URL' or 'check FILE'");
    if (what === "explain" && (first === undefined || second === undefined))
      throw fail(CLI_USAGE, "explain takes a method and a URL");
    return withLink({ state: values.state, role: "viewer" }, async (link) => {
      const service = link.service(gateway);
      if (what === "list") {
        const listed = await service.routes({}, link.call());
        if (values.json) page.json(listed);
        else page.lines(routeTable(page, listed.routes));
        return EXIT.fine;
      }
      const asked = { method: first, url: second, host: values.host ?? "localhost" };
      const told = await service.explain(asked, link.call());
      if (values.json) page.json(told);
      else page.lines(explanationLines(page, told));
      return told.route ? EXIT.fine : EXIT.failed;
    });
  },
};

function check(page: Page, file: string, json: boolean): number {
  const { routes, upstreams, services } = checkRoutes(readYamlFile(file), file);
  const counted = {
    file,
    routes: routes.length,
    upstreams: Object.keys(upstreams).length,
    services: Object.keys(services).length,
  };
  if (json) page.json(counted);
  else
    page.line(
      `${file} is right: ${counted.routes} routes, ${counted.upstreams} upstreams, ${counted.services} services`,
    );
  return EXIT.fine;
}

const accessOf = ({ access }: RouteEntry): string => (access === "public" ? "everyone" : access.scope);

/** Lays out the list of routes. */
export function routeTable(page: Page, routes: readonly RouteEntry[]): string[] {
  const columns = [
    { title: "METHODS", min: 8 },
    { title: "PATH", min: 20 },
    { title: "WHO MAY" },
    { title: "TO", min: 8 },
    { title: "NAME", drop: 1 },
    { title: "FROM", drop: 2 },
  ];
  const rows = routes.map((route): Cell[] => [
    route.methods.length > 4 ? "any" : route.methods.join(","),
    plain(route.path),
    plain(accessOf(route)),
    plain(route.upstreams.join(",")),
    plain(route.name),
    route.from,
  ]);
  return table(page, columns, rows);
}

/** Says what would become of a request. */
export function explanationLines(page: Page, { route, allowed, settings, instances }: Explanation): string[] {
  if (!route)
    return [
      allowed.length === 0 ? "no route: 404" : `no route for this method: 405; the path has ${allowed.join(", ")}`,
    ];
  const lines = [
    `route      ${plain(route.name)} (${route.from}): ${route.methods.join(",")} ${plain(route.path)}`,
    `who may    ${plain(accessOf(route))}`,
    ...Object.entries(settings).map(([name, value]) => `${name.padEnd(10)} ${plain(JSON.stringify(value))}`),
  ];
  if (instances.length === 0) return [...lines, `instances  none of ${route.upstreams.join(", ")}`];
  const columns = [
    { title: "INSTANCE", min: 10 },
    { title: "OF" },
    { title: "ADDRESS" },
    { title: "STATE" },
    { title: "RUNNING" },
  ];
  const rows = instances.map((each): Cell[] => [
    plain(each.instance),
    plain(each.upstream),
    plain(each.address),
    each.state,
    String(each.running),
  ]);
  return [...lines, "", ...table(page, columns, rows)];
}
