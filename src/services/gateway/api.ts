/** The gateway: the one door. Its public side is HTTP for everyone (`https` door); this contract is what services see of it. */
import { type Static, Type } from "typebox";
import { contract, get, post, type Service } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";
import { News } from "./siblings.api.ts";

export const GATEWAY_TOKEN_MISSING = code(
  "GATEWAY_TOKEN_MISSING",
  "unauthorized",
  "Send 'Authorization: Bearer TOKEN'; 'holdfast token' makes one.",
);
export const GATEWAY_TOKEN_INVALID = code(
  "GATEWAY_TOKEN_INVALID",
  "unauthorized",
  "Make a new token with 'holdfast token'.",
);
export const GATEWAY_TOKENS_GUESSED = code(
  "GATEWAY_TOKENS_GUESSED",
  "limited",
  "Stop sending tokens that are not valid; wait as Retry-After says.",
);
export const GATEWAY_SCOPE_MISSING = code(
  "GATEWAY_SCOPE_MISSING",
  "forbidden",
  "Use a token of a role that holds the scope the message names.",
);
export const GATEWAY_ROUTE_UNKNOWN = code(
  "GATEWAY_ROUTE_UNKNOWN",
  "not-found",
  "Use /<service>/<path of its contract>; 'holdfast status' lists the services.",
);
export const GATEWAY_METHOD_REFUSED = code(
  "GATEWAY_METHOD_REFUSED",
  "not-allowed",
  "Use a method that the Allow header names.",
);
export const GATEWAY_REQUEST_REFUSED = code(
  "GATEWAY_REQUEST_REFUSED",
  "invalid",
  "Send a request of the form that the message describes.",
);
export const GATEWAY_ENCODING_REFUSED = code(
  "GATEWAY_ENCODING_REFUSED",
  "media-type",
  "Send the body as it is, without Content-Encoding.",
);
export const GATEWAY_URL_TOO_LONG = code(
  "GATEWAY_URL_TOO_LONG",
  "too-large",
  "Shorten the URL; the message names the limit.",
);
/** Answered with 431 (RFC 6585 5). */
export const GATEWAY_HEADERS_TOO_LARGE = code(
  "GATEWAY_HEADERS_TOO_LARGE",
  "too-large",
  "Send fewer or shorter headers; the message names the limit.",
);
/** Answered with 408. */
export const GATEWAY_REQUEST_SLOW = code(
  "GATEWAY_REQUEST_SLOW",
  "deadline",
  "Send the whole request within the time that the message names.",
);
/** In the log alone, as 499: there is nobody to answer. */
export const GATEWAY_CLIENT_GONE = code(
  "GATEWAY_CLIENT_GONE",
  "invalid",
  "Nothing: the client hung up before it had its answer.",
);
export const GATEWAY_RATE_LIMITED = code(
  "GATEWAY_RATE_LIMITED",
  "limited",
  "Send fewer requests; wait as Retry-After says.",
);
export const GATEWAY_BUSY = code(
  "GATEWAY_BUSY",
  "unavailable",
  "Try again as Retry-After says; as many requests as the gateway takes at once are under way.",
);
export const GATEWAY_PART_FAILED = code(
  "GATEWAY_PART_FAILED",
  "communication",
  "Ask the service of the part that the message names by itself, or look up the request id in its log.",
);
/** RFC 9111 5.2.1.7. */
export const GATEWAY_NOT_CACHED = code("GATEWAY_NOT_CACHED", "deadline", "Ask without 'only-if-cached'.");
export const GATEWAY_BREAKER_OPEN = code(
  "GATEWAY_BREAKER_OPEN",
  "unavailable",
  "Try again as Retry-After says; 'holdfast status' tells how the service is.",
);
export const GATEWAY_NOT_READY = code(
  "GATEWAY_NOT_READY",
  "unavailable",
  "Try again shortly; the gateway has not heard yet which services there are.",
);
export const GATEWAY_UPSTREAM_FAILED = code(
  "GATEWAY_UPSTREAM_FAILED",
  "communication",
  "Look up the request id in the gateway's log; the service did not answer as services do.",
);

/** Longest URL, and longest HTTP/1.1 request target; GATEWAY_URL_TOO_LONG above it. */
export const URL_BYTES_MAX = 8_192;
/** More header lines than any honest client sends; GATEWAY_HEADERS_TOO_LARGE above it. */
export const HEADERS_MAX = 100;

const Access = Type.Union([Type.Literal("public"), Type.Object({ scope: Type.String() })]);

/** A route as people are told of it. */
export const RouteEntry = Type.Object({
  name: Type.String(),
  /** `file`: of the routes file; `gateway`: ships with it; `service`: published by one. */
  from: Type.Union([Type.Literal("file"), Type.Literal("gateway"), Type.Literal("service")]),
  methods: Type.Array(Type.String()),
  path: Type.String(),
  access: Access,
  upstreams: Type.Array(Type.String()),
});
export type RouteEntry = Static<typeof RouteEntry>;

/** What would become of a request. */
export const Explanation = Type.Object({
  route: Type.Optional(RouteEntry),
  /** Where there is no route: the methods that the path has. */
  allowed: Type.Array(Type.String()),
  /** The settings that are in force, by name; what a route does not use is not there. */
  settings: Type.Record(Type.String(), Type.Unknown()),
  instances: Type.Array(
    Type.Object({
      upstream: Type.String(),
      instance: Type.String(),
      address: Type.String(),
      state: Type.String(),
      running: Type.Integer(),
    }),
  ),
});
export type Explanation = Static<typeof Explanation>;

export const gateway = contract("gateway", {
  routes: get("/api/v3/routes", {
    summary: "Lists the routes, in the order in which they are looked for.",
    input: {},
    output: Type.Object({ file: Type.String(), routes: Type.Array(RouteEntry) }),
    callers: ["node"],
    public: { scope: "node:read" },
  }),
  explain: get("/api/v3/routes/explain", {
    summary: "Tells which route a request would take, who may, by which settings, and which instances there are.",
    input: {
      method: Type.String({ minLength: 1, maxLength: 20 }),
      url: Type.String({ minLength: 1, maxLength: URL_BYTES_MAX }),
      host: Type.String({ maxLength: 255, default: "localhost" }),
    },
    output: Explanation,
    errors: [GATEWAY_REQUEST_REFUSED],
    callers: ["node"],
    public: { scope: "node:read" },
  }),
  tell: post("/api/v3/news", {
    summary: "Takes note of what another process of the door has counted, opened and ended.",
    input: { body: News },
    output: Type.Object({}),
    callers: ["gateway"],
  }),
  statistics: get("/statistics", {
    summary: "Counts requests by route, upstream and status since the start.",
    input: {},
    output: Type.Object({
      startedAtMs: Type.Integer(),
      openConnections: Type.Integer(),
      routes: Type.Array(
        Type.Object({
          service: Type.String(),
          operation: Type.String(),
          status: Type.Integer(),
          count: Type.Integer(),
          p50Us: Type.Number(),
          p99Us: Type.Number(),
        }),
      ),
    }),
    callers: ["node"],
  }),
});
export type Gateway = Service<typeof gateway>;
