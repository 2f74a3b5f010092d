/** The routes file: routes as data, checked strictly; a file with a fault changes nothing. */
import { type Static, Type } from "typebox";
import { checkConfig, type ConfigSchema } from "../../kernel/config.ts";
import { code, fail } from "../../kernel/error.ts";
import { accessFault, AccessSettings } from "./access.api.ts";
import { CacheSettings, FallbackSettings } from "./cache.api.ts";
import { ComposeSettings, PARTS_MAX } from "./compose.api.ts";
import { GrpcSettings } from "./grpc.api.ts";
import { ShapeSettings } from "./shape.api.ts";
import { FilesSettings, RedirectSettings, RespondSettings } from "./static.api.ts";
import { WebSocketSettings } from "./websocket.api.ts";
import { TopicSettings } from "./topic.api.ts";
import { TrySettings, UpstreamSettings } from "./upstream.api.ts";

export const GATEWAY_ROUTES_INVALID = code(
  "GATEWAY_ROUTES_INVALID",
  "invalid",
  "Correct what the message names and run 'holdfast routes check FILE'; the routes that were there go on.",
);

/** Routes, upstreams and services of a file; more are refused with CONFIG_VALUE_INVALID or GATEWAY_ROUTES_INVALID. */
export const ROUTES_MAX = 1_000;
/** What the supervisor tells the gateway at the start, and whenever the routes file changes: `{file, value}`. */
export const ROUTES_MESSAGE = "routes";
const strict = { additionalProperties: false };
const Name = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$" });
const NAMES = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$";
const Texts = (pattern: string) => Type.Array(Type.String({ pattern, maxLength: 256 }), { maxItems: 32 });
/** By name: a value, or `*` for any. */
const Conditions = Type.Record(Type.String({ pattern: "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$" }), Type.String());

const Match = Type.Object(
  {
    /** Segments; `{name}` is any one, a final `**` any number of them: `/api/device/{name}`, `/files/**`. */
    path: Type.String({ pattern: "^/", maxLength: 1_024 }),
    /** All that the gateway knows unless said; GET takes HEAD along. */
    methods: Type.Optional(Texts("^[A-Z][A-Z-]{1,19}$")),
    /** `edge.example.org`, `*.example.org`; without the port. */
    hosts: Type.Optional(Texts("^(\\*\\.)?[a-z0-9.-]{1,253}$")),
    headers: Type.Optional(Conditions),
    query: Type.Optional(Conditions),
  },
  strict,
);

const Target = Type.Object(
  {
    /** A service of this node, or an upstream of this file. */
    upstream: Name,
    /** What is asked for there: `/api/v3/device/name/{name}`, `/**`; the path as it came unless said. */
    path: Type.Optional(Type.String({ pattern: "^/[!-~]*$", maxLength: 2_048 })),
    weight: Type.Integer({ minimum: 0, maximum: 1_000_000, default: 1 }),
  },
  strict,
);
export type Target = Static<typeof Target>;

/** What may be set of a route of this file and of one that a service publishes. */
const RouteSettings = {
  ...TrySettings,
  ...ShapeSettings,
  /**
   * What the service behind it speaks: a client may speak JSON, CBOR or MessagePack whatever it is. A service of this node
   * speaks JSON and CBOR without a word; of another's nothing is translated unless it is said.
   */
  speaks: Type.Optional(Type.Union([Type.Literal("json"), Type.Literal("cbor"), Type.Literal("msgpack")])),
  cache: Type.Optional(CacheSettings),
  fallback: Type.Optional(FallbackSettings),
};
const AnyRoute = Type.Object(RouteSettings, strict);
export type RouteSettings = Static<typeof AnyRoute>;

export const RouteRule = Type.Object(
  {
    name: Name,
    match: Match,
    /** Who may: everyone, or whose token holds the scope. It has to be said. */
    access: Type.Union([
      Type.Literal("public"),
      Type.Object({ scope: Type.String({ pattern: "^[a-z-]+:[a-z*-]+$" }) }, strict),
    ]),
    /** One or more, by weight. */
    to: Type.Optional(Type.Array(Target, { maxItems: 32 })),
    compose: Type.Optional(ComposeSettings),
    respond: Type.Optional(RespondSettings),
    redirect: Type.Optional(RedirectSettings),
    files: Type.Optional(FilesSettings),
    topic: Type.Optional(TopicSettings),
    /** A WebSocket to what `to` names, or of what a topic's `listen` hears. */
    websocket: Type.Optional(WebSocketSettings),
    /** MQTT over a WebSocket, to the bus. */
    mqtt: Type.Optional(WebSocketSettings),
    grpc: Type.Optional(GrpcSettings),
    /** Devices may ask for it by CoAP, too. */
    coap: Type.Optional(Type.Literal(true)),
    /** Gets a copy of this share of the requests; its answers are thrown away. */
    shadow: Type.Optional(
      Type.Object(
        {
          upstream: Name,
          path: Target.properties.path,
          share: Type.Number({ minimum: 0, maximum: 1, default: 1 }),
        },
        strict,
      ),
    ),
    /** `own`: an error that is not in the house's shape is answered with 502. `pass`: errors pass as they are. */
    errors: Type.Union([Type.Literal("own"), Type.Literal("pass")], { default: "own" }),
    /** `pass`: of a public route, the client's Authorization goes on to a server of others, which judges it; else it ends here. */
    authorization: Type.Optional(Type.Literal("pass")),
    ...RouteSettings,
  },
  strict,
);
export type RouteRule = Static<typeof RouteRule>;

export const RoutesFile = Type.Object(
  {
    /** Of services of this node: how they are asked, and settings of the operations that they publish. */
    services: Type.Record(
      Type.String({ pattern: NAMES }),
      Type.Object(
        {
          ...UpstreamSettings,
          operations: Type.Record(Type.String({ pattern: NAMES }), AnyRoute, { default: {} }),
        },
        strict,
      ),
      { default: {} },
    ),
    /** Servers that are not of this node. */
    upstreams: Type.Record(
      Type.String({ pattern: NAMES }),
      Type.Object(
        { urls: Texts("^https?://([A-Za-z0-9.-]+|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})?$"), ...UpstreamSettings },
        strict,
      ),
      { default: {} },
    ),
    routes: Type.Array(RouteRule, { maxItems: ROUTES_MAX, default: [] }),
    ...AccessSettings,
    /** While it is there, every route is answered with 503, and the gateway's own pages as ever. */
    maintenance: Type.Optional(
      Type.Object(
        {
          message: Type.String({ minLength: 1, maxLength: 1_000, default: "the node is being worked on" }),
          retryAfterS: Type.Integer({ minimum: 1, maximum: 86_400, default: 60 }),
        },
        strict,
      ),
    ),
  },
  { ...strict, default: {} },
);
export type RoutesFile = Static<typeof RoutesFile>;

export const NO_ROUTES: RoutesFile = {
  services: {},
  upstreams: {},
  routes: [],
  roles: {},
  grants: [],
  apiKeys: [],
  policy: [],
};

const refused = (message: string) => fail(GATEWAY_ROUTES_INVALID, message);

/** Checks a routes file's value and fills in defaults; `file` opens the sentences. CONFIG_KEY_UNKNOWN, CONFIG_VALUE_INVALID, GATEWAY_ROUTES_INVALID. */
export function checkRoutes(value: unknown, file: string): RoutesFile {
  const routes = checkConfig(RoutesFile as ConfigSchema, value, "", file) as RoutesFile;
  const names = new Set<string>();
  routes.routes.forEach((rule, at) => {
    const where = `${file}: route '${rule.name}'`;
    if (names.has(rule.name)) throw refused(`${file}: 'routes[${at}].name' is '${rule.name}' a second time`);
    names.add(rule.name);
    checkEnd(rule, where);
    checkAuthorization(rule, routes, where);
    const known = namesIn(rule.match.path, where);
    const redirect = rule.redirect ? [{ path: rule.redirect.to.replace(/^https?:\/\/[^/]+/, "") }] : [];
    for (const { path } of [...(rule.to ?? []), ...(rule.shadow ? [rule.shadow] : []), ...redirect])
      for (const name of path === undefined ? [] : bracedIn(path))
        if (!known.has(name)) throw refused(`${where}: '{${name}}' is not in its path ${rule.match.path}`);
  });
  for (const [name, { urls }] of Object.entries(routes.upstreams))
    if (urls.length === 0) throw refused(`${file}: 'upstreams.${name}.urls' is empty`);
  const fault = accessFault(routes);
  if (fault !== undefined) throw refused(`${file}: ${fault}`);
  return routes;
}

const ENDS = ["to", "compose", "respond", "redirect", "files", "topic", "mqtt", "grpc"] as const;

/** Each route has one thing that answers. */
function checkEnd(rule: RouteRule, where: string): void {
  const ends = ENDS.filter((end) => rule[end] !== undefined);
  if (ends.length !== 1) throw refused(`${where} needs one of ${ENDS.join(", ")}`);
  if (rule.files && !rule.match.path.endsWith("/**"))
    throw refused(`${where}: files are below a path that ends in '/**'`);
  const tells = rule.topic !== undefined && "listen" in rule.topic;
  if (rule.websocket && !rule.to && !tells) throw refused(`${where}: a WebSocket needs 'to', or a topic's 'listen'`);
  // What comes over UDP has no token: only what everyone may have is asked for by it.
  if (rule.coap && rule.access !== "public") throw refused(`${where}: 'coap' needs 'access: public'`);
  if (rule.coap && (tells || rule.websocket || rule.mqtt)) throw refused(`${where}: 'coap' has no streams`);
  if (rule.to && !rule.to.some((target) => target.weight > 0))
    throw refused(`${where}: 'to' has nothing with a weight`);
  if (rule.compose) checkParts(rule, rule.compose, where);
}

/** A token of this node is for this node alone. */
function checkAuthorization({ authorization, access, to }: RouteRule, { upstreams }: RoutesFile, where: string): void {
  if (authorization === undefined) return;
  if (access !== "public" || !to?.every(({ upstream }) => upstream in upstreams))
    throw refused(`${where}: 'authorization: pass' is for a public route 'to' upstreams of this file`);
}

/** Each part takes of the route's path and of parts that can be asked before it. */
function checkParts({ match }: RouteRule, { parts, merge }: ComposeSettings, where: string): void {
  const names = Object.keys(parts);
  if (names.length > PARTS_MAX) throw refused(`${where} has more than ${PARTS_MAX} parts`);
  for (const name of merge)
    if (!names.includes(name)) throw refused(`${where}: 'merge' names '${name}', which is no part`);
  const known = new Set([...match.path.matchAll(/\{([^}]*)\}/g)].map((each) => each[1]));
  const left = new Map(Object.entries(parts));
  for (let found = true; found;) {
    found = false;
    for (const [name, { path }] of left) {
      if (!bracedIn(path).every((each) => known.has(each.split(".")[0]))) continue;
      known.add(name);
      left.delete(name);
      found = true;
    }
  }
  const [stuck] = left.keys();
  if (stuck !== undefined)
    throw refused(`${where}: part '${stuck}' takes of what is neither in its path ${match.path} nor a part before it`);
}

/** The names in a pattern of a path; GATEWAY_ROUTES_INVALID where it is none. */
function namesIn(path: string, where: string): Set<string> {
  const names = new Set<string>();
  const segments = path.slice(1).split("/");
  segments.forEach((segment, at) => {
    if (segment === "**") {
      if (at !== segments.length - 1) throw refused(`${where}: '**' comes last in a path`);
      names.add("**");
      return;
    }
    const name = /^\{([A-Za-z][A-Za-z0-9_]*)\}$/.exec(segment)?.[1];
    if (name === undefined && /[{}*?#%]/.test(segment))
      throw refused(`${where}: '${segment}' is neither a plain segment, nor '{name}', nor '**'`);
    if (name !== undefined && names.has(name)) throw refused(`${where}: '{${name}}' is there twice`);
    if (name !== undefined) names.add(name);
  });
  return names;
}

/** The names that a template uses; `/**` at its end stands for the rest of the path. */
export const bracedIn = (template: string): string[] => [
  ...[...template.matchAll(/\{([^}]*)\}/g)].map((match) => match[1]),
  ...(template.split("?", 1)[0].endsWith("/**") ? ["**"] : []),
];
