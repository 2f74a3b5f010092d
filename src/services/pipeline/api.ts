/** The pipeline: follows the bus, filters, batches, encodes, keeps in the outbox, and sends to the cloud as the link allows. */
import { type Static, Type } from "typebox";
import { contract, get, post, type Service } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";

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

export const Destination = Type.Object({
  name: Type.String(),
  url: Type.String(),
  state: Type.Union([
    Type.Literal("sending"),
    Type.Literal("idle"),
    Type.Literal("offline"),
    Type.Literal("not-enrolled"),
  ]),
  reason: Type.Optional(Type.String()),
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
    }),
    callers: ["node"],
    public: { scope: "node:read" },
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
