/** The registry: which instance of which service is where, and how well. Service key core-keeper, as in EdgeX. */
import { type Static, Type } from "typebox";
import { contract, get, post, type Service, stream } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";

export const REGISTRY_NAME_REFUSED = code(
  "REGISTRY_NAME_REFUSED",
  "forbidden",
  "A service registers under the name in its certificate only.",
);
export const REGISTRY_LEASE_UNKNOWN = code(
  "REGISTRY_LEASE_UNKNOWN",
  "not-found",
  "Register again; the lease has ended or the registry was restarted.",
);
export const REGISTRY_FULL = code(
  "REGISTRY_FULL",
  "limited",
  "Stop instances that are not needed; the message names the limit.",
);

export const State = Type.Union([
  Type.Literal("passing"),
  Type.Literal("warning"),
  Type.Literal("critical"),
  Type.Literal("draining"),
]);
export type State = Static<typeof State>;

export const Route = Type.Object({
  method: Type.Union([
    Type.Literal("GET"),
    Type.Literal("POST"),
    Type.Literal("PUT"),
    Type.Literal("PATCH"),
    Type.Literal("DELETE"),
  ]),
  path: Type.String({ maxLength: 1024 }),
  scope: Type.String({ maxLength: 200 }),
  timeoutMs: Type.Integer({ minimum: 1 }),
  safe: Type.Boolean(),
  operation: Type.String({ maxLength: 200 }),
});

export const Instance = Type.Object({
  service: Type.String({ minLength: 1, maxLength: 200 }),
  instance: Type.String({ minLength: 1, maxLength: 200 }),
  host: Type.String({ maxLength: 255 }),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  pid: Type.Integer(),
  version: Type.String({ maxLength: 100 }),
  startedAtMs: Type.Integer(),
  state: State,
  reason: Type.Optional(Type.String({ maxLength: 1024 })),
  /** Default routes for the gateway. */
  routes: Type.Array(Route, { maxItems: 1024 }),
  revision: Type.Optional(Type.Integer()),
});
export type Instance = Static<typeof Instance>;

/**
 * An item of the change stream: the lease (for holders), then all that is there, then what changes. `revision` grows with
 * every change and begins anew with each start of the registry. A snapshot may come again: the watcher was too slow for deltas.
 */
export const Change = Type.Object({
  revision: Type.Integer(),
  kind: Type.Union([
    Type.Literal("lease"),
    Type.Literal("snapshot"),
    Type.Literal("up"),
    Type.Literal("changed"),
    Type.Literal("down"),
  ]),
  lease: Type.Optional(Type.Object({ id: Type.String(), ttlMs: Type.Integer(), renewMs: Type.Integer() })),
  instances: Type.Array(Instance),
});
export type Change = Static<typeof Change>;

const AnyService = ["*"];

export const registry = contract(
  "core-keeper",
  {
    hold: stream("/registry/hold", {
      summary:
        "Registers the caller's instance and streams all changes; the registration lives as long as this stream and its renewals.",
      input: { instance: Instance },
      output: Change,
      errors: [REGISTRY_NAME_REFUSED, REGISTRY_FULL],
      callers: AnyService,
    }),
    renew: post("/registry/renew", {
      quiet: true,
      summary:
        "Renews a lease and tells the instance's state; a hung process stops renewing and is dropped after the lease's time.",
      input: {
        body: Type.Object({
          lease: Type.String(),
          state: State,
          reason: Type.Optional(Type.String({ maxLength: 1024 })),
        }),
      },
      output: Type.Object({}),
      errors: [REGISTRY_LEASE_UNKNOWN],
      callers: AnyService,
    }),
    release: post("/registry/release", {
      summary: "Deregisters at termination.",
      input: { body: Type.Object({ lease: Type.String() }) },
      output: Type.Object({}),
      callers: AnyService,
    }),
    watch: stream("/registry/watch", {
      summary: "Streams the snapshot and all changes without registering (the supervisor, the CLI).",
      input: {},
      output: Change,
      errors: [REGISTRY_FULL],
      callers: AnyService,
    }),
    instances: get("/registry/instances", {
      summary: "Lists all instances, or those of one service.",
      input: { service: Type.Optional(Type.String()) },
      output: Type.Object({ revision: Type.Integer(), instances: Type.Array(Instance) }),
      callers: AnyService,
      public: { scope: "node:read" },
    }),
  },
  { edgex: false },
);
export type Registry = Service<typeof registry>;
