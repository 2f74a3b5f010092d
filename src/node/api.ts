/** The supervisor's own contract, served on the node's Unix socket (0600) alone: what the CLI asks for. */
import { type Static, Type } from "typebox";
import { contract, get, post, type Service, stream } from "../kernel/contract.ts";
import { guestOperations } from "./guests/api.ts";
import { keysOperations } from "./keys/api.ts";
import { Role } from "../services/identity/api.ts";

import { NODE_RESTART_FAILED, NODE_RESTART_RUNNING, NODE_SERVICE_UNKNOWN } from "./codes.ts";

export * from "./codes.ts";

export const ServiceStatus = Type.Object({
  service: Type.String(),
  instance: Type.String(),
  pid: Type.Integer(),
  state: Type.Union([
    Type.Literal("starting"),
    Type.Literal("passing"),
    Type.Literal("warning"),
    Type.Literal("critical"),
    Type.Literal("draining"),
    Type.Literal("restarting"),
    Type.Literal("stopped"),
  ]),
  reason: Type.Optional(Type.String()),
  restarts: Type.Integer(),
  startedAtMs: Type.Integer(),
  memoryBytes: Type.Optional(Type.Integer()),
  address: Type.Optional(Type.String()),
});
export type ServiceStatus = Static<typeof ServiceStatus>;

export const node = contract("node", {
  status: get("/status", {
    quiet: true,
    summary: "Tells the node's services, their health, and what protects them.",
    input: {},
    output: Type.Object({
      node: Type.String(),
      version: Type.String(),
      startedAtMs: Type.Integer(),
      compact: Type.Boolean(),
      stateDirectory: Type.String(),
      gatewayUrl: Type.String(),
      keyProvider: Type.Object({ name: Type.String(), promise: Type.String() }),
      confinement: Type.Array(Type.String()),
      services: Type.Array(ServiceStatus),
    }),
    callers: ["cli"],
  }),
  token: post("/token", {
    summary: "Makes a token, and tells where and with which authority to use it.",
    input: {
      body: Type.Object({
        subject: Type.String({ minLength: 1, maxLength: 200 }),
        role: Role,
        lifetimeS: Type.Integer({ minimum: 1, maximum: 31_536_000 }),
      }),
    },
    output: Type.Object({
      token: Type.String(),
      expiresAtMs: Type.Integer(),
      gatewayUrl: Type.String(),
      caPem: Type.String(),
    }),
    callers: ["cli"],
  }),
  logs: get("/logs", {
    quiet: true,
    summary: "Lists the newest log lines, oldest first; of one request id or service where named.",
    input: {
      lines: Type.Integer({ minimum: 1, maximum: 10_000, default: 100 }),
      requestId: Type.Optional(Type.String()),
      service: Type.Optional(Type.String()),
    },
    output: Type.Object({ lines: Type.Array(Type.String()) }),
    callers: ["cli"],
  }),
  restart: stream("/restart", {
    summary:
      "Replaces the processes of services, one after another; all where none is named. Tells of each that was replaced.",
    input: { services: Type.Array(Type.String({ maxLength: 63 }), { maxItems: 64 }) },
    output: Type.Object({ service: Type.String(), pid: Type.Integer(), ms: Type.Integer() }),
    errors: [NODE_SERVICE_UNKNOWN, NODE_RESTART_FAILED, NODE_RESTART_RUNNING],
    callers: ["cli"],
  }),
  ...guestOperations,
  ...keysOperations,
  stop: post("/stop", { summary: "Stops the node, in order.", input: {}, output: Type.Object({}), callers: ["cli"] }),
});
export type Node = Service<typeof node>;
