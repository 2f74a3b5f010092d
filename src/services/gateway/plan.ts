/** The steps a request takes, in order. What a route does not use is not in its plan. */
import { hash } from "node:crypto";
import { join } from "node:path";
import type { Clock } from "../../kernel/clock.ts";
import type { Log } from "../../kernel/log.ts";
import { DEFAULT_TIMEOUT_MS, type Route } from "../../kernel/contract.ts";
import type { Bus } from "../bus/api.ts";
import type { Access } from "./access/access.ts";
import { Policy, policed, policedCommand } from "./access/policy.ts";
import { authorize } from "./access/authorize.ts";
import { cached } from "./cache/cached.ts";
import { fallback } from "./cache/fallback.ts";
import { forgets } from "./cache/keeping.ts";
import type { Store } from "./cache/store.ts";
import { compose } from "./compose/compose.ts";
import { bodyTranslated, negotiated, type Spoken, varied } from "./media/negotiate.ts";
import type { GrpcSettings } from "./grpc.api.ts";
import type { Metrics } from "./metrics.ts";
import type { RouteRule, RouteSettings, RoutesFile } from "./routes.api.ts";
import { pathWriter } from "./routes/template.ts";
import { takeIn, type TakeInOptions, takeNone, takePlain } from "./shape/body.ts";
import { adapt, Concurrency } from "./shape/concurrency.ts";
import { limitRoute, limitToken } from "./shape/limit.ts";
import type { Limiter } from "./shape/limiter.ts";
import type { Shedder } from "./shape/shedder.ts";
import { files } from "./static/files.ts";
import { maintenance, redirect, respond } from "./static/respond.ts";
import type { Connections } from "./upstream/connections.ts";
import type { Balancer } from "./upstream/balancer.ts";
import type { Checks } from "./upstream/checks.ts";
import { forward } from "./upstream/forward.ts";
import { Budget } from "./upstream/guards.ts";
import { HEDGE_RESERVE } from "./upstream/hedge.ts";
import { keyReader } from "./upstream/key.ts";
import { shadowed, split } from "./upstream/split.ts";
import { topics } from "./translate/topics.ts";
import { timed } from "./upstream/timed.ts";
import { websocket } from "./upstream/websocket.ts";
import { TRIES, type Tries, type Upstream } from "./upstream/upstream.ts";
import { chain, type Handler, lazily, type Step, type Visit } from "./visit.ts";

import type { WebSocketSettings } from "./websocket.api.ts";

/** What the steps stand on. */
export interface Parts {
  readonly clock: Clock;
  readonly log: Log;
  readonly bus: Bus;
  readonly access: Access;
  readonly byToken: Limiter;
  readonly bodies: TakeInOptions;
  readonly shedder: Shedder;
  /** The gateway's own. */
  readonly directory: string;
  readonly balancer: Balancer;
  readonly store: Store;
  readonly checks: Checks;
  readonly upstream: Upstream;
  readonly connections: Connections;
  readonly metrics: Metrics;
}

/** In the gateway's own directory: what routes with files give, and the descriptors of gRPC. */
const FILES_DIRECTORY = "files";
const GRPC_DIRECTORY = "grpc";

/** Makes the handler of a route that a service publishes, with what the routes file says of it. */
export function planOf(parts: Parts, file: RoutesFile, service: string, route: Route): Handler {
  const { operation, scope } = route;
  const settings = file.services[service]?.operations[operation] ?? {};
  const timeoutMs = settings.timeoutMs ?? route.timeoutMs;
  const media = mediaOf(parts, settings, settings.speaks ?? "any");
  return chain(
    [
      media.answer,
      ...gate(parts, file, settings),
      ...known(parts, file, scope),
      ...limitsOf(parts, settings),
      ...(route.method === "GET" ? [takeNone] : [takePlain, takeIn(bodiesOf(parts, settings)), media.body]),
      ...masking(parts, settings, {
        file,
        isPublic: false,
        route: `${service} ${operation}`,
        said: [route, settings],
        reads: route.method === "GET",
      }),
      media.kept,
      concurrencyOf(parts, settings),
      timed({ timeoutMs, clock: parts.clock }),
    ],
    forward({
      ...sending(parts, settings, service),
      operation,
      service,
      safe: settings.safe ?? route.safe,
      inside: true,
      passErrors: false,
      passAuthorization: false,
      // Its prefix, the service's name, is the gateway's affair.
      pathOf({ target }) {
        const { path, query } = target!;
        return `${path.slice(path.indexOf("/", 1))}${query}`;
      },
    }),
  );
}

/** Makes the handler of a route of the routes file. */
export function planOfRule(parts: Parts, file: RoutesFile, rule: RouteRule): Handler {
  const { access, shadow, timeoutMs = DEFAULT_TIMEOUT_MS } = rule;
  const spoken = spokenBy(file, rule);
  const media = spoken && mediaOf(parts, rule, spoken);
  return chain(
    [
      media?.answer,
      ...gate(parts, file, rule),
      ...(access === "public" ? [] : known(parts, file, access.scope)),
      ...commands(parts, file, rule),
      ...limitsOf(parts, rule),
      rule.to?.every(({ upstream }) => upstream in file.upstreams) ? undefined : takePlain,
      takeIn(bodiesOf(parts, rule)),
      media?.body,
      ...masking(parts, rule, { file, isPublic: access === "public", route: rule.name, said: rule, reads: false }),
      media?.kept,
      concurrencyOf(parts, rule),
      timed({ timeoutMs, clock: parts.clock }),
      shadow && shadowed(shadow.share, toCommand(parts, file, rule, shadow)),
    ],
    endOf(parts, file, rule),
  );
}

/** What is spoken behind a route; undefined where nothing is translated. */
function spokenBy({ upstreams }: RoutesFile, rule: RouteRule): Spoken | undefined {
  if (rule.speaks !== undefined) return rule.speaks;
  const inside = rule.to?.every(({ upstream }) => !(upstream in upstreams));
  return inside && !rule.websocket ? "any" : undefined;
}

/** The steps that translate: the answer, the request's body, and what keeps a cache's variants apart. */
function mediaOf(parts: Parts, settings: RouteSettings, spoken: Spoken) {
  const cache = settings.cache !== undefined;
  return {
    answer: negotiated({ spoken, cached: cache }),
    body: bodyTranslated({ spoken, bytesMax: bodiesOf(parts, settings).bytesMax }),
    kept: cache && spoken === "any" ? varied : undefined,
  };
}

interface Masked {
  readonly file: RoutesFile;
  readonly isPublic: boolean;
  readonly route: string;
  /** All that the routes file says of it. */
  readonly said: unknown;
  /** It changes nothing. */
  readonly reads: boolean;
}

/** What is between a request and its service: a default answer, what is kept, what is to be forgotten. */
function masking(
  parts: Parts,
  settings: RouteSettings,
  { file, isPublic, route, said, reads }: Masked,
): (Step | undefined)[] {
  const { store, metrics, clock } = parts;
  const { cache } = settings;
  const owner = `${route} ${hash("sha256", JSON.stringify(said), "base64url")}`;
  return [
    settings.fallback && fallback(settings.fallback),
    cache && cached({ store, settings: cache, isPublic, route, owner, metrics, clock }),
    !reads && keepsAny(file) ? forgets(store) : undefined,
  ];
}

const keepsAny = ({ routes, services }: RoutesFile): boolean =>
  routes.some((rule) => rule.cache) ||
  Object.values(services).some((service) => Object.values(service.operations).some((operation) => operation.cache));

/** What is asked before anybody is: whether the door is open, and whether there is time. */
const gate = ({ shedder }: Parts, { maintenance: closed }: RoutesFile, { priority = "normal" }: RouteSettings) => [
  closed && maintenance(closed.retryAfterS, closed.message),
  shedder.step(priority),
];

/** Who it is, and whether they may. */
const known = ({ access, byToken, log }: Parts, { policy }: RoutesFile, scope: string) => [
  authorize(access, scope),
  limitToken(byToken),
  policy.length > 0 ? policed(new Policy(policy), log) : undefined,
];

/** Whether they may command devices: asked before the cache, which would answer in the service's place. */
const commands = (parts: Parts, file: RoutesFile, { to = [], match }: RouteRule): (Step | undefined)[] =>
  to.map(({ upstream, path }) => commanding(parts, file, upstream, pathOf(path, match.path)));

const commanding = ({ log }: Parts, { policy }: RoutesFile, service: string, path: (visit: Visit) => string) =>
  policy.some(({ devices }) => devices)
    ? policedCommand(new Policy(policy), log, { service, pathOf: path })
    : undefined;

/** Writes the path that an upstream is asked for. */
function pathOf(template: string | undefined, pattern: string): (visit: Visit) => string {
  const write = pathWriter(template, pattern);
  return ({ target }) => write(target!);
}

/** How often who may come. */
const limitsOf = ({ clock }: Parts, { limits = [] }: RouteSettings) => limits.map((each) => limitRoute(each, clock));

/** How many may be under way; what the cache answers is none of them. */
const concurrencyOf = ({ clock }: Parts, { concurrency }: RouteSettings): Step | undefined =>
  concurrency && adapt(new Concurrency(concurrency, clock), clock);

const bodiesOf = ({ bodies }: Parts, { bodyBytesMax }: RouteSettings): TakeInOptions =>
  bodyBytesMax === undefined ? bodies : { ...bodies, bytesMax: Math.min(bodyBytesMax, bodies.bytesMax) };

function endOf(parts: Parts, file: RoutesFile, rule: RouteRule): Handler {
  const { path } = rule.match;
  if (rule.compose)
    return compose({
      settings: rule.compose,
      pattern: path.slice(1).split("/"),
      handlerOf: (part) => toCommand(parts, file, rule, { upstream: part.upstream }),
    });
  if (rule.respond) return respond(rule.respond);
  if (rule.topic) return topics({ bus: parts.bus, settings: rule.topic, websocket: rule.websocket, pattern: path });
  if (rule.mqtt) return toBus(parts, rule.mqtt);
  if (rule.grpc) return toGrpc(parts, file, rule, rule.grpc);
  if (rule.redirect) return redirect(rule.redirect, path);
  if (rule.files) {
    const depth = path.split("/").length - 2;
    return files(rule.files, { root: join(parts.directory, FILES_DIRECTORY), depth });
  }
  return split(
    (rule.to ?? []).map((target) => ({ weight: target.weight, handle: toTarget(parts, file, rule, target) })),
  );
}

// What few nodes use is loaded when a route asks for it.
const toBus = ({ balancer, connections, clock }: Parts, settings: WebSocketSettings): Handler =>
  lazily(async () => (await import("./translate/mqtt.ts")).mqtt({ settings, balancer, connections, clock }));

function toGrpc(parts: Parts, file: RoutesFile, rule: RouteRule, settings: GrpcSettings): Handler {
  const { balancer, connections, directory } = parts;
  return lazily(async () => {
    const { grpc } = await import("./grpc/grpc.ts");
    return grpc({
      settings,
      pattern: rule.match.path,
      directory: join(directory, GRPC_DIRECTORY),
      balancer,
      connections,
      inside: !(settings.upstream in file.upstreams),
      passErrors: rule.errors === "pass",
    });
  });
}

interface Place {
  readonly upstream: string;
  readonly path?: string | undefined;
}

/** To a place that nothing was asked about before. */
const toCommand = (parts: Parts, file: RoutesFile, rule: RouteRule, place: Place): Handler =>
  chain(
    [commanding(parts, file, place.upstream, pathOf(place.path, rule.match.path))],
    toTarget(parts, file, rule, place),
  );

function toTarget(parts: Parts, file: RoutesFile, rule: RouteRule, { upstream: service, path }: Place): Handler {
  const writing = pathOf(path, rule.match.path);
  const inside = !(service in file.upstreams);
  if (rule.websocket) {
    const { balancer, connections, clock } = parts;
    return websocket({ service, settings: rule.websocket, balancer, connections, clock, inside, pathOf: writing });
  }
  return forward({
    ...sending(parts, rule, service),
    operation: rule.name,
    service,
    safe: rule.safe,
    inside,
    passErrors: rule.errors === "pass",
    passAuthorization: rule.authorization === "pass",
    pathOf: writing,
  });
}

/** How a route's requests are sent to an upstream. */
function sending({ balancer, upstream, metrics }: Parts, settings: RouteSettings, service: string) {
  const group = balancer.group(service);
  if (settings.hedge) group.measured = true;
  return { upstream, metrics, tries: triesOf(settings), keyOf: keyReader(group.settings) };
}

function triesOf({ retry, tryTimeoutMs, hedge }: RouteSettings): Tries {
  if (!retry && tryTimeoutMs === undefined && !hedge) return TRIES;
  return {
    ...TRIES,
    ...retry,
    ...(tryTimeoutMs === undefined ? {} : { tryTimeoutMs }),
    ...(hedge ? { hedge: { quantile: hedge.quantile, budget: new Budget(hedge.share, HEDGE_RESERVE) } } : {}),
  };
}
