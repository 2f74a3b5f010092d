/** The pipeline: follows the bus, filters, batches, encodes, keeps in the outbox, and sends to the cloud as the link allows. */
import { type Static, Type } from "typebox";
import { Event } from "../../kernel/edgex.ts";
import { contract, del, get, post, type Service } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";
import { Gap } from "../cloud/api.ts";
import { BackfillProgress } from "../cloud/backfill.api.ts";
import { pipelineOperations } from "./pipelines.api.ts";

export const PIPELINE_ENROLL_FAILED = code(
  "PIPELINE_ENROLL_FAILED",
  "communication",
  "Check the cloud's address, that it runs, and that the code is fresh ('holdfast cloud code').",
);

export const PIPELINE_OUTBOX_FULL = code(
  "PIPELINE_OUTBOX_FULL",
  "full",
  "See what waits with 'holdfast backlog'; mend the link, raise outboxBytesMax, or let the outbox drop what is oldest (outboxWhenFull).",
);

export const PIPELINE_CLOUDS_TWO = code(
  "PIPELINE_CLOUDS_TWO",
  "invalid",
  "Name one destination of kind 'cloud' in the config: the one that the node is enrolled at.",
);
export const PIPELINE_LETTER_UNKNOWN = code(
  "PIPELINE_LETTER_UNKNOWN",
  "not-found",
  "See which there are with 'holdfast deadletters'.",
);

/** Events of a dead letter that are shown. */
export const LETTER_EVENTS_MAX = 100;

const Id = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });

/** A batch that a destination refused for good. */
export const DeadLetter = Type.Object({
  id: Id,
  destination: Type.String(),
  pipeline: Type.String(),
  priority: Type.Integer(),
  reason: Type.String(),
  atMs: Type.Integer(),
  events: Type.Integer(),
  readings: Type.Integer(),
  bytes: Type.Integer(),
});
export type DeadLetter = Static<typeof DeadLetter>;

export const Destination = Type.Object({
  name: Type.String(),
  kind: Type.String(),
  url: Type.String(),
  state: Type.Union([
    Type.Literal("sending"),
    Type.Literal("idle"),
    Type.Literal("offline"),
    /** Rate, budget or windows hold it back. */
    Type.Literal("holding"),
    Type.Literal("not-enrolled"),
  ]),
  reason: Type.Optional(Type.String()),
  /** The way that is taken, where there are several. */
  way: Type.Optional(Type.String()),
  /** In the outbox, not yet acknowledged. */
  waiting: Type.Object({ batches: Type.Integer(), bytes: Type.Integer(), oldestMs: Type.Optional(Type.Integer()) }),
  acknowledged: Type.Object({
    batches: Type.Integer(),
    events: Type.Integer(),
    readings: Type.Integer(),
    lastAtMs: Type.Optional(Type.Integer()),
  }),
  /** Counted on the socket, TLS included. */
  wireBytes: Type.Object({ sent: Type.Integer(), received: Type.Integer() }),
  deadLetters: Type.Integer(),
});
export type Destination = Static<typeof Destination>;

export const pipeline = contract("pipeline", {
  status: get("/status", {
    summary:
      "Tells per destination what waits and what the far side has acknowledged, and how far behind the bus the pipeline is.",
    input: {},
    output: Type.Object({
      position: Type.Integer(),
      destinations: Type.Array(Destination),
      losses: Type.Array(
        Type.Object({
          reason: Type.String(),
          firstPosition: Type.Integer(),
          lastPosition: Type.Optional(Type.Integer()),
          bytes: Type.Integer(),
        }),
      ),
      /** Entries of the gap ledger: the newest, and how many there are. */
      gaps: Type.Object({ totalCount: Type.Integer(), newest: Type.Array(Gap) }),
      /** What the cloud has asked for in full, and how far that is. */
      backfills: Type.Array(BackfillProgress),
    }),
    callers: ["node"],
    public: { scope: "node:read" },
  }),
  ...pipelineOperations,
  deadLetters: get("/deadletters", {
    summary: "Lists the batches that a destination refused for good, newest first.",
    input: { limit: Type.Integer({ minimum: 1, maximum: 1_000, default: 100 }) },
    output: Type.Object({ deadLetters: Type.Array(DeadLetter) }),
    callers: ["node"],
    public: { scope: "node:read" },
  }),
  deadLetter: get("/deadletters/:id", {
    summary: "Shows a batch that was refused, with its events where they can be read.",
    input: { id: Id },
    output: Type.Object({
      deadLetter: DeadLetter,
      events: Type.Array(Event),
      unreadable: Type.Optional(Type.String()),
    }),
    errors: [PIPELINE_LETTER_UNKNOWN],
    callers: ["node"],
    public: { scope: "node:write" },
  }),
  replayDeadLetter: post("/deadletters/:id/replay", {
    summary: "Puts a batch that was refused into the outbox again, for the destination that refused it.",
    input: { id: Id },
    output: Type.Object({}),
    errors: [PIPELINE_LETTER_UNKNOWN, PIPELINE_OUTBOX_FULL],
    callers: ["node"],
    public: { scope: "node:write" },
  }),
  dropDeadLetter: del("/deadletters/:id", {
    summary: "Lets go of a batch that was refused; the gap ledger tells of it.",
    input: { id: Id },
    output: Type.Object({}),
    errors: [PIPELINE_LETTER_UNKNOWN],
    callers: ["node"],
    public: { scope: "node:write" },
  }),
  forgetDevice: post("/forget-device", {
    summary: "Sends what waits of a device to no destination any more, and takes it out of what was refused.",
    input: { body: Type.Object({ device: Type.String({ minLength: 1, maxLength: 1024 }) }) },
    output: Type.Object({}),
    callers: ["node"],
  }),
  enroll: post("/enroll", {
    summary: "Joins the node to a cloud with a one-time code; what waits in the outbox goes there.",
    input: {
      body: Type.Object({
        url: Type.String({ pattern: "^https://", maxLength: 2048 }),
        code: Type.String({ maxLength: 200 }),
      }),
    },
    output: Type.Object({ edge: Type.String(), url: Type.String() }),
    errors: [PIPELINE_ENROLL_FAILED],
    callers: ["node"],
    public: { scope: "node:write" },
    timeoutMs: 30_000,
  }),
});
export type Pipeline = Service<typeof pipeline>;
