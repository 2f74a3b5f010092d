/** The gateway: the one door. Its public side is HTTP for everyone (`https` door); this contract is what services see of it. */
import { Type } from "typebox";
import { contract, get, type Service } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";

export const GATEWAY_TOKEN_MISSING = code("GATEWAY_TOKEN_MISSING", "unauthorized", "Send 'Authorization: Bearer TOKEN'; 'holdfast token' makes one.");
export const GATEWAY_TOKEN_INVALID = code("GATEWAY_TOKEN_INVALID", "unauthorized", "Make a new token with 'holdfast token'.");
export const GATEWAY_SCOPE_MISSING = code("GATEWAY_SCOPE_MISSING", "forbidden", "Use a token of a role that holds the scope the message names.");
export const GATEWAY_ROUTE_UNKNOWN = code("GATEWAY_ROUTE_UNKNOWN", "not-found", "Use /<service>/<path of its contract>; 'holdfast status' lists the services.");
export const GATEWAY_REQUEST_REFUSED = code("GATEWAY_REQUEST_REFUSED", "invalid", "Send a request of the form that the message describes.");
export const GATEWAY_URL_TOO_LONG = code("GATEWAY_URL_TOO_LONG", "too-large", "Shorten the URL; the message names the limit.");

export const gateway = contract("gateway", {
  statistics: get("/statistics", {
    summary: "Counts requests by route, upstream and status since the start.",
    input: {},
    output: Type.Object({
      startedAtMs: Type.Integer(), openConnections: Type.Integer(),
      routes: Type.Array(Type.Object({ service: Type.String(), operation: Type.String(), status: Type.Integer(), count: Type.Integer(), p50Us: Type.Number(), p99Us: Type.Number() })),
    }),
    callers: ["node"],
  }),
});
export type Gateway = Service<typeof gateway>;
