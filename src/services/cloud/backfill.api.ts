/** Backfill: the cloud asks a node for a range in full, of which it has what a pipeline left over. */
import { type Static, Type } from "typebox";
import { del, get, post } from "../../kernel/contract.ts";
import { Name } from "../../kernel/edgex.ts";
import { code } from "../../kernel/error.ts";
import { Nanos } from "../../kernel/nanos.ts";

export const CLOUD_EDGE_UNKNOWN = code(
  "CLOUD_EDGE_UNKNOWN",
  "not-found",
  "See which nodes are enrolled with 'holdfast cloud edges'.",
);
export const CLOUD_BACKFILL_UNKNOWN = code(
  "CLOUD_BACKFILL_UNKNOWN",
  "not-found",
  "See which there are with 'holdfast cloud backfills EDGE'.",
);
export const CLOUD_BACKFILL_INVALID = code(
  "CLOUD_BACKFILL_INVALID",
  "invalid",
  "Give a time to begin with that is before the one to end with.",
);
export const CLOUD_BACKFILLS_OPEN = code(
  "CLOUD_BACKFILLS_OPEN",
  "limited",
  "Wait until one of them is done, or cancel one ('holdfast cloud backfills EDGE --cancel ID').",
);

/** Backfills of a node that are not done. */
export const BACKFILLS_MAX = 16;
const NAMES_MAX = 256;
/** What the name of a pipeline begins with whose batches are a backfill's; no pipeline in a config can have such a name. */
export const BACKFILL_PREFIX = "backfill:";

const callers = ["cli", "node"];
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Id = Type.String({ pattern: "^[0-9a-f]{12}$" });
const Names = Type.Array(Name, { maxItems: NAMES_MAX, default: [] });

/** What is asked of a node. */
export const BackfillRequest = Type.Object({
  id: Id,
  /** As the cloud knows them; all where none is named. */
  devices: Names,
  resources: Names,
  /** Origins, both included. */
  fromNs: Nanos,
  toNs: Nanos,
});
export type BackfillRequest = Static<typeof BackfillRequest>;
/** Carried by the answers to what the node sends anyway. */
export const BackfillRequests = Type.Optional(Type.Array(BackfillRequest, { maxItems: BACKFILLS_MAX }));

export const BackfillProgress = Type.Object({
  id: Id,
  state: Type.Union([Type.Literal("running"), Type.Literal("done"), Type.Literal("failed")]),
  /** Why it failed. */
  reason: Type.Optional(Type.String({ maxLength: 1_000 })),
  /** Readings that the node has put into its outbox for it. */
  readings: Count,
  /** How much of what it keeps the node has looked through, 0 to 1. */
  share: Type.Number({ minimum: 0, maximum: 1 }),
});
export type BackfillProgress = Static<typeof BackfillProgress>;

export const Backfill = Type.Object({
  ...BackfillRequest.properties,
  edge: Type.String(),
  askedAtMs: Type.Integer(),
  /** `asked`: the node has not heard of it. */
  state: Type.Union([
    Type.Literal("asked"),
    Type.Literal("running"),
    Type.Literal("done"),
    Type.Literal("failed"),
    Type.Literal("cancelled"),
  ]),
  reason: Type.Optional(Type.String()),
  share: Type.Number(),
  /** Readings that the node has queued, that came and were new, and that came and were here already. */
  queued: Type.Integer(),
  kept: Type.Integer(),
  known: Type.Integer(),
});
export type Backfill = Static<typeof Backfill>;

export const backfillOperations = {
  backfill: post("/backfill", {
    summary: "Asks a node for a range in full; it comes at low priority, and what is here already is kept once.",
    input: {
      body: Type.Object({
        edge: Type.String({ maxLength: 63 }),
        devices: Names,
        resources: Names,
        fromNs: Nanos,
        toNs: Nanos,
      }),
    },
    output: Type.Object({ id: Type.String() }),
    errors: [CLOUD_EDGE_UNKNOWN, CLOUD_BACKFILL_INVALID, CLOUD_BACKFILLS_OPEN],
    callers,
  }),
  backfills: get("/backfills/:edge", {
    summary: "Lists what was asked of a node, newest first, and how far it is.",
    input: { edge: Type.String(), limit: Type.Integer({ minimum: 1, maximum: 1_000, default: 100 }) },
    output: Type.Object({ backfills: Type.Array(Backfill) }),
    callers,
  }),
  cancelBackfill: del("/backfills/:edge/:id", {
    summary: "Asks for no more of a backfill; what has come stays.",
    input: { edge: Type.String(), id: Id },
    output: Type.Object({}),
    errors: [CLOUD_BACKFILL_UNKNOWN],
    callers,
  }),
  reportBackfills: post("/backfills", {
    summary: "Tells how far the calling node is with what it was asked for; answers which of them are wanted no more.",
    input: { body: Type.Object({ backfills: Type.Array(BackfillProgress, { minItems: 1, maxItems: BACKFILLS_MAX }) }) },
    output: Type.Object({ unwanted: Type.Array(Type.String()) }),
    callers: ["edge.*"],
  }),
};
