/** Tells of the routes what a person wants to know: which there are, and what would become of a request. */
import type { Explanation, RouteEntry } from "../api.ts";
import { OVERVIEW } from "../compose/overview.ts";
import type { RouteRule, RouteSettings } from "../routes.api.ts";
import type { Balancer } from "../upstream/balancer.ts";
import type { Endpoint } from "../upstream/endpoint.ts";
import type { Router } from "./router.ts";
import { METHODS } from "./rules.ts";
import type { Match } from "./table.ts";
import { checkHost, readTarget } from "./target.ts";

/** Lists the routes in the order in which they are looked for. */
export const routesOf = ({ rules, published }: Router): RouteEntry[] => [
  ...rules.rules.map(({ rule }) => entryOfRule(rule)),
  ...published.list().flatMap(([service, routes]) => routes.map((route) => entryOfMatch({ service, route }))),
];

/** Tells what would become of a request; GATEWAY_REQUEST_REFUSED where it would be none. */
export function explain(
  { router, balancer }: { router: Router; balancer: Balancer },
  { method, url, host }: { method: string; url: string; host: string },
): Explanation {
  const whole = URL.canParse(url) ? new URL(url) : undefined;
  const named = whole?.host ?? host;
  checkHost(named);
  const target = readTarget(whole ? whole.pathname + whole.search : url, named);
  const asked = { method: method.toUpperCase(), target, host: named, header: () => undefined };
  const rule = router.rules.find(asked)?.rule;
  const match = rule ? undefined : router.published.find(asked.method, target.segments);
  const allowed = rule || match ? [] : [...router.rules.allowed(asked), ...router.published.allowed(target.segments)];
  const route = rule ? entryOfRule(rule) : match && entryOfMatch(match);
  const settings = rule ?? (match && router.file.services[match.service]?.operations[match.route.operation]) ?? {};
  return {
    ...(route ? { route } : {}),
    allowed,
    settings: { ...(match ? { timeoutMs: match.route.timeoutMs, safe: match.route.safe } : {}), ...inForce(settings) },
    instances: (route?.upstreams ?? []).flatMap((name) =>
      balancer.group(name).endpoints.map((endpoint) => instanceOf(name, endpoint)),
    ),
  };
}

const upstreamsOf = ({ to = [], compose, grpc, mqtt }: RouteRule): string[] => [
  ...new Set([
    ...(grpc ? [grpc.upstream] : []),
    ...(mqtt ? ["bus"] : []),
    ...to.map(({ upstream }) => upstream),
    ...Object.values(compose?.parts ?? {}).map(({ upstream }) => upstream),
  ]),
];

const entryOfRule = (rule: RouteRule): RouteEntry => ({
  name: rule.name,
  from: rule === OVERVIEW ? "gateway" : "file",
  methods: rule.match.methods ?? METHODS,
  path: rule.match.path,
  access: rule.access,
  upstreams: upstreamsOf(rule),
});

const entryOfMatch = ({ service, route }: Pick<Match, "service" | "route">): RouteEntry => ({
  name: `${service} ${route.operation}`,
  from: "service",
  methods: [route.method],
  path: `/${service}${route.path.replaceAll(/:([A-Za-z]+)/g, "{$1}")}`,
  access: { scope: route.scope },
  upstreams: [service],
});

/** All that is set but who, where and whither, which are told by themselves. */
function inForce(settings: RouteSettings | RouteRule): Record<string, unknown> {
  const { name: _, match: __, access: ___, to: ____, compose: _____, ...rest } = settings as Partial<RouteRule>;
  return rest;
}

const RANKS = ["passing", "warning", "not confirmed", "draining"];

function instanceOf(upstream: string, endpoint: Endpoint): Explanation["instances"][number] {
  const left = endpoint.unwell ? "fails its checks" : endpoint.ejectedUntilMs > 0 ? "left out" : undefined;
  return {
    upstream,
    instance: endpoint.instance,
    address: `${endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host}:${endpoint.port}`,
    state: left ?? RANKS[endpoint.rank],
    running: endpoint.running,
  };
}
