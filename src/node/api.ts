/** The supervisor's own contract, served on the node's Unix socket (0600) alone: what the CLI asks for. */
import { type Static, Type } from "typebox";
import { contract, get, post, type Service } from "../kernel/contract.ts";
import { code } from "../kernel/error.ts";
import { Role } from "../services/identity/api.ts";

export const NODE_NOT_RUNNING = code("NODE_NOT_RUNNING", "unavailable", "Start the node: 'npm start' or 'holdfast start'.");
export const NODE_STATE_LOCKED = code("NODE_STATE_LOCKED", "conflict", "Another node runs on this state directory; stop it, or choose another with HOLDFAST_STATE.");
export const NODE_STATE_UNUSABLE = code("NODE_STATE_UNUSABLE", "forbidden", "Make the state directory writable for this user alone, or choose another with HOLDFAST_STATE.");
export const NODE_STATE_NEWER = code("NODE_STATE_NEWER", "conflict", "Run the Holdfast version that the message names, or a newer one; this one would damage the state.");
export const NODE_STATE_FULL = code("NODE_STATE_FULL", "full", "Free some space on the disk that the message names, then start again; nothing that was acknowledged is lost.");
export const NODE_CACHE_UNUSABLE = code("NODE_CACHE_UNUSABLE", "forbidden", "Make the directory that the message names writable for this user alone, or choose another with HOLDFAST_CACHE.");
export const NODE_START_FAILED = code("NODE_START_FAILED", "unavailable", "Read the lines above, or 'holdfast logs'; correct what they name and start again.");
export const NODE_OPTION_INVALID = code("NODE_OPTION_INVALID", "invalid", "See 'holdfast start --help'.");

export const ServiceStatus = Type.Object({
  service: Type.String(),
  instance: Type.String(),
  pid: Type.Integer(),
  state: Type.Union([Type.Literal("starting"), Type.Literal("passing"), Type.Literal("warning"), Type.Literal("critical"), Type.Literal("draining"), Type.Literal("restarting"), Type.Literal("stopped")]),
  reason: Type.Optional(Type.String()),
  restarts: Type.Integer(),
  startedAtMs: Type.Integer(),
  memoryBytes: Type.Optional(Type.Integer()),
  address: Type.Optional(Type.String()),
});
export type ServiceStatus = Static<typeof ServiceStatus>;

export const node = contract("node", {
  status: get("/status", {
    summary: "Tells the node's services, their health, and what protects them.",
    input: {},
    output: Type.Object({
      node: Type.String(), version: Type.String(), startedAtMs: Type.Integer(), compact: Type.Boolean(), stateDirectory: Type.String(),
      gatewayUrl: Type.String(), keyProvider: Type.Object({ name: Type.String(), promise: Type.String() }),
      confinement: Type.Array(Type.String()), services: Type.Array(ServiceStatus),
    }),
    callers: ["cli"],
  }),
  token: post("/token", {
    summary: "Makes a token, and tells where and with which authority to use it.",
    input: { body: Type.Object({ subject: Type.String({ minLength: 1, maxLength: 200 }), role: Role, lifetimeS: Type.Integer({ minimum: 1, maximum: 31_536_000 }) }) },
    output: Type.Object({ token: Type.String(), expiresAtMs: Type.Integer(), gatewayUrl: Type.String(), caPem: Type.String() }),
    callers: ["cli"],
  }),
  logs: get("/logs", {
    summary: "Lists the newest log lines, oldest first; of one request id or service where named.",
    input: { lines: Type.Integer({ minimum: 1, maximum: 10_000, default: 100 }), requestId: Type.Optional(Type.String()), service: Type.Optional(Type.String()) },
    output: Type.Object({ lines: Type.Array(Type.String()) }),
    callers: ["cli"],
  }),
  stop: post("/stop", { summary: "Stops the node, in order.", input: {}, output: Type.Object({}), callers: ["cli"] }),
});
export type Node = Service<typeof node>;
