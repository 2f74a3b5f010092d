/** Instances: what is registered of one, the stream of changes, and the operations of those that find and are found. */
import { type Static, Type } from "typebox";
import { get, post, stream } from "../../kernel/contract.ts";
import {
  REGISTRY_FULL,
  REGISTRY_INSTANCE_UNKNOWN,
  REGISTRY_LEASE_UNKNOWN,
  REGISTRY_NAME_REFUSED,
  REGISTRY_REVISION_GONE,
} from "./codes.ts";

/** A blocking query waits so long at the most. */
export const WAIT_MS_MAX = 60_000;
export const WEIGHT_MAX = 1_000;
export const WEIGHT_DEFAULT = 100;

/**
 * After a new stream's first snapshot, instances it does not name are kept for so long, behind all others: the registry was
 * restarted, and its holders are about to register again (they do within a second).
 */
export const UNCONFIRMED_KEPT_MS = 3_000;

const REASON = Type.Optional(Type.String({ maxLength: 1024 }));
const Name = Type.String({ minLength: 1, maxLength: 200 });

/** What a holder says of itself. */
export const State = Type.Union([
  Type.Literal("passing"),
  Type.Literal("warning"),
  Type.Literal("critical"),
  Type.Literal("draining"),
]);
export type State = Static<typeof State>;

/** `unverified`: the registry cannot tell: it lost many at once and doubts itself, or has not checked it yet. */
export const ShownState = Type.Union([...State.anyOf, Type.Literal("unverified")]);
export type ShownState = Static<typeof ShownState>;

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
  service: Name,
  /** Unique over restarts. */
  instance: Name,
  host: Type.String({ maxLength: 255 }),
  port: Type.Integer({ minimum: 1, maximum: 65_535 }),
  /** The start of the machine that it lives in: what is remembered of an earlier one is dead. */
  boot: Type.Optional(Type.String({ maxLength: 64 })),
  pid: Type.Integer(),
  version: Type.String({ maxLength: 100 }),
  startedAtMs: Type.Integer(),
  state: ShownState,
  reason: REASON,
  /** Its share of the calls beside the other instances' (WEIGHT_DEFAULT); 0 gets none while another can. */
  weight: Type.Optional(Type.Integer({ minimum: 0, maximum: WEIGHT_MAX })),
  tags: Type.Optional(Type.Array(Type.String({ maxLength: 100 }), { maxItems: 32 })),
  /** Of its contract (kernel/contract.ts, digestOf): instances of one service that differ are of two versions. */
  digest: Type.Optional(Type.String({ maxLength: 64 })),
  /** Taken out by an operator: nobody is sent to it. */
  maintenance: Type.Optional(Type.Boolean()),
  /** Its loopback port without TLS, where `--open-edgex` opened one. */
  edgexPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  /**
   * How the registry looks after it, where it holds no lease here: a stranger without certificate, or (`node`) what another
   * node of the fleet shows. Our services call neither.
   */
  check: Type.Optional(
    Type.Union([Type.Literal("http"), Type.Literal("tcp"), Type.Literal("ttl"), Type.Literal("node")]),
  ),
  /** The node of the fleet that it belongs to, where it is another; its instance id then begins with it. */
  node: Type.Optional(Type.String({ maxLength: 100 })),
  /** Default routes for the gateway. */
  routes: Type.Array(Route, { maxItems: 1024 }),
  revision: Type.Optional(Type.Integer()),
});
export type Instance = Static<typeof Instance>;

const Revision = Type.Integer({ minimum: 0 });

/**
 * An item of the change stream: the lease (for holders); then all that is there, or `resumed` where the stream goes on after
 * the revision that the watcher named; then what changes. `revision` grows with every change, over restarts, too. A snapshot
 * may come again: the watcher was too slow for deltas.
 */
export const Change = Type.Object({
  revision: Revision,
  kind: Type.Union([
    Type.Literal("lease"),
    Type.Literal("snapshot"),
    Type.Literal("resumed"),
    Type.Literal("up"),
    Type.Literal("changed"),
    Type.Literal("down"),
  ]),
  lease: Type.Optional(Type.Object({ id: Type.String(), ttlMs: Type.Integer(), renewMs: Type.Integer() })),
  /** Over how long those who come back together should spread, as many as they are. */
  spreadMs: Type.Optional(Type.Integer()),
  instances: Type.Array(Instance),
});
export type Change = Static<typeof Change>;

export const Listed = Type.Object({ revision: Revision, instances: Type.Array(Instance) });
export type Listed = Static<typeof Listed>;

const AnyService = ["*"];

export const instanceOperations = {
  hold: stream("/registry/hold", {
    summary:
      "Registers the caller's instance and streams all changes; the registration lives as long as this stream and its renewals.",
    /** `after`: only what changed since, where the registry still knows; else all. */
    input: { instance: Instance, after: Type.Optional(Revision) },
    output: Change,
    errors: [REGISTRY_NAME_REFUSED, REGISTRY_FULL],
    callers: AnyService,
  }),
  renew: post("/registry/renew", {
    quiet: true,
    bare: true,
    summary:
      "Renews a lease and tells the instance's state; a hung process stops renewing and is dropped after the lease's time.",
    input: {
      body: Type.Object({
        lease: Type.String(),
        state: State,
        reason: REASON,
        weight: Type.Optional(Type.Integer({ minimum: 0, maximum: WEIGHT_MAX })),
      }),
    },
    output: Type.Object({}),
    errors: [REGISTRY_LEASE_UNKNOWN],
    callers: AnyService,
  }),
  release: post("/registry/release", {
    bare: true,
    summary: "Deregisters at termination.",
    input: { body: Type.Object({ lease: Type.String() }) },
    output: Type.Object({}),
    callers: AnyService,
  }),
  watch: stream("/registry/watch", {
    summary: "Streams the snapshot (or, with `after`, what changed since) and all changes without registering.",
    input: { after: Type.Optional(Revision) },
    output: Change,
    errors: [REGISTRY_FULL, REGISTRY_REVISION_GONE],
    callers: AnyService,
  }),
  instances: get("/registry/instances", {
    bare: true,
    summary: "Lists all instances, or those of one service; with `after`, waits for a revision above it.",
    input: {
      service: Type.Optional(Type.String({ maxLength: 200 })),
      after: Type.Optional(Revision),
      waitMs: Type.Optional(Type.Integer({ minimum: 0, maximum: WAIT_MS_MAX })),
    },
    output: Listed,
    etag: ({ revision }) => String(revision),
    errors: [REGISTRY_FULL],
    callers: AnyService,
    timeoutMs: WAIT_MS_MAX + 5_000,
    public: { scope: "node:read" },
  }),
  maintain: post("/registry/maintenance", {
    bare: true,
    summary:
      "Takes a service or one instance of it out of use, or back; it stays registered, and nobody is sent to it.",
    input: { body: Type.Object({ name: Name, on: Type.Boolean() }) },
    /** The instances that it concerns. */
    output: Type.Object({ instances: Type.Array(Type.String()) }),
    errors: [REGISTRY_INSTANCE_UNKNOWN, REGISTRY_FULL],
    callers: [],
    public: { scope: "node:write" },
  }),
};
