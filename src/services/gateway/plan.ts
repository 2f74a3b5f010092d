/** The steps a request takes, in order. What a route does not use is not in its plan. */
import { hash } from "node:crypto";
import { DEFAULT_TIMEOUT_MS, type Route } from "../../kernel/contract.ts";
import { Policy, policed } from "./access/policy.ts";
import { authorize } from "./access/authorize.ts";
import { cached } from "./cache/cached.ts";
import { fallback } from "./cache/fallback.ts";
import { forgets } from "./cache/keeping.ts";
import { commanding, endOf, pathOf, sending, toCommand } from "./ends.ts";
import { bodyTranslated, negotiated, type Spoken, varied } from "./media/negotiate.ts";
import type { Parts } from "./parts.ts";
import type { RouteRule, RouteSettings, RoutesFile } from "./routes.api.ts";
import { takeIn, type TakeInOptions, takeNone, takePlain } from "./shape/body.ts";
import { adapt, Concurrency } from "./shape/concurrency.ts";
import { limitRoute, limitToken } from "./shape/limit.ts";
import { maintenance } from "./static/respond.ts";
import { forward } from "./upstream/forward.ts";
import { shadowed } from "./upstream/split.ts";
import { timed } from "./upstream/timed.ts";
import { chain, type Handler, type Step } from "./visit.ts";

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
      ...limitsOf(parts, settings, `${service} ${operation}`),
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
      ...limitsOf(parts, rule, rule.name),
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

/** How often who may come. */
const limitsOf = (parts: Parts, { limits = [] }: RouteSettings, route: string) =>
  limits.map((each) => limitRoute(each, route, parts.limits));

/** How many may be under way; what the cache answers is none of them. */
const concurrencyOf = ({ clock, processes }: Parts, { concurrency }: RouteSettings): Step | undefined =>
  concurrency && adapt(new Concurrency(concurrency, clock, processes), clock);

const bodiesOf = ({ bodies }: Parts, { bodyBytesMax }: RouteSettings): TakeInOptions =>
  bodyBytesMax === undefined ? bodies : { ...bodies, bytesMax: Math.min(bodyBytesMax, bodies.bytesMax) };
