/** The cloud: the other end of the uplink. Keeps each batch of each enrolled node exactly once, and answers queries. */
import { type Static, Type } from "typebox";
import { contract, get, post, type Service } from "../../kernel/contract.ts";
import { Reading } from "../../kernel/edgex.ts";
import { code } from "../../kernel/error.ts";
import { Nanos } from "../../kernel/nanos.ts";
import { backfillOperations, BackfillRequests } from "./backfill.api.ts";

export const CLOUD_CODE_REFUSED = code(
  "CLOUD_CODE_REFUSED",
  "unauthorized",
  "Make a new one-time code with 'holdfast cloud code' and enroll within its lifetime.",
);
export const CLOUD_SEQUENCE_GAP = code(
  "CLOUD_SEQUENCE_GAP",
  "conflict",
  "Send from the sequence after the mark that the message names.",
);
export const CLOUD_OLDER = code(
  "CLOUD_OLDER",
  "not-implemented",
  "Update the cloud: the node is newer and writes a form that it does not know. Until then the node keeps everything.",
);

const Bytes = Type.Refine(
  Type.Unsafe<Uint8Array>({}),
  (value) => value instanceof Uint8Array,
  () => "must be bytes",
);
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const StreamName = Type.String({ minLength: 1, maxLength: 200 });
const Epoch = Count;

const Sequence = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
const Range = Type.Object({ from: Sequence, to: Sequence });

/** A batch's place: exactly once is (edge, stream, epoch, sequence) against the ranges of sequences that are settled. */
export const Batch = Type.Object({
  sequence: Sequence,
  /** The sequence before it (0: it is the first): nothing between them is ever sent. It must be settled, or open a lane. */
  previous: Count,
  /** The node's pipeline that made it. */
  pipeline: Type.String({ minLength: 1, maxLength: 64 }),
  /**
   * How far that pipeline had read its own source when the batch was made. Given back with the mark: a sender that lost
   * its place finds it there.
   */
  through: Type.Optional(Count),
  /** When the outbox took it, nanoseconds: the cloud learns the dwell time. */
  queuedNs: Nanos,
  blocks: Bytes,
});
export type Batch = Static<typeof Batch>;

/** A batch that can never be kept. */
export const Refusal = Type.Object({ sequence: Type.Integer(), reason: Type.String() });
export type Refusal = Static<typeof Refusal>;

/** Why batches never arrived. */
export const GapReason = Type.Union([
  Type.Literal("expired"),
  Type.Literal("dropped-full"),
  Type.Literal("damaged"),
  Type.Literal("cloud-restored"),
  Type.Literal("dropped-by-person"),
  Type.Literal("dead-letters-full"),
  Type.Literal("destination-removed"),
]);
export type GapReason = Static<typeof GapReason>;

/** An entry of a node's gap ledger: batches that a destination does not get, and why. */
export const Gap = Type.Object({
  destination: Type.String({ maxLength: 64 }),
  class: Type.Union([Type.Literal("high"), Type.Literal("normal"), Type.Literal("low")]),
  epoch: Epoch,
  from: Sequence,
  to: Sequence,
  /** Whose batches they were; none where the disk lost even that. */
  pipelines: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 1_000 }),
  events: Count,
  readings: Count,
  /** When the first and the last of them were queued, where that is known. */
  firstNs: Type.Optional(Nanos),
  lastNs: Type.Optional(Nanos),
  reason: GapReason,
  /** When the node found it. */
  atNs: Nanos,
});
export type Gap = Static<typeof Gap>;

export const GAPS_MAX = 256;
/** Ranges of one stream and epoch that are told apart: a lane for what is new, and what waits between earlier ones. */
export const LANES_MAX = 64;
/** A node judges itself how long it waits, by its link; nobody waits for longer than this. */
const LINK_MS_MAX = 86_400_000;
export const ACCEPT_BYTES_MAX = 4 * 1024 * 1024;
export const BATCHES_MAX = 256;
/**
 * Events and values that one request may make the cloud read (a few bytes can stand for millions). What is beyond is
 * left for the next request: the mark in the answer tells.
 */
export const ACCEPT_WORK_MAX = 2_097_152;
/** Ranges of sequences that an audit lists of one publisher and epoch; it says how many more there are. */
export const RANGES_MAX = 10_000;

export const EdgeStatus = Type.Object({
  edge: Type.String(),
  enrolledAtMs: Type.Integer(),
  lastSeenMs: Type.Optional(Type.Integer()),
  batches: Type.Integer(),
  events: Type.Integer(),
  readings: Type.Integer(),
  /** Of the batches as they were sent. */
  bytes: Type.Integer(),
  /** Batches that could not be read, and were passed. */
  refused: Type.Integer(),
  /** From the outbox to the disk here, of the newest batches, by both clocks and their offset. */
  dwellMs: Type.Optional(Type.Object({ p50: Type.Number(), p99: Type.Number() })),
  /** How far the node's clock is ahead of this one, and by how much that may be wrong either way. */
  clock: Type.Optional(Type.Object({ aheadMs: Type.Number(), errorMs: Type.Number() })),
});
export type EdgeStatus = Static<typeof EdgeStatus>;

export const cloud = contract("cloud", {
  authority: get("/authority", {
    summary:
      "Tells the cloud's name and its authority's certificate, to whoever asks; a node compares it with the fingerprint in its code.",
    input: {},
    output: Type.Object({ node: Type.String(), caPem: Type.String() }),
    callers: ["", "edge.*", "cli", "node"],
  }),
  enroll: post("/enroll", {
    summary: "Gives a node its certificate for a one-time code.",
    input: {
      body: Type.Object({
        edge: Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" }),
        code: Type.String({ maxLength: 200 }),
        csrPem: Type.String({ maxLength: 8192 }),
      }),
    },
    output: Type.Object({ certPem: Type.String(), caPem: Type.String(), notAfterMs: Type.Integer() }),
    errors: [CLOUD_CODE_REFUSED],
    callers: ["", "edge.*"],
  }),
  renew: post("/renew", {
    summary: "Renews the calling node's certificate.",
    input: { body: Type.Object({ csrPem: Type.String({ maxLength: 8192 }) }) },
    output: Type.Object({ certPem: Type.String(), caPem: Type.String(), notAfterMs: Type.Integer() }),
    callers: ["edge.*"],
    timeoutMs: LINK_MS_MAX,
  }),
  accept: post("/accept", {
    summary: "Keeps batches of the calling node, in order, each once; answers when they are on disk.",
    input: {
      body: Type.Object({
        stream: StreamName,
        epoch: Epoch,
        /** The first batch opens a lane of its own: what is before it comes later, or never. */
        opens: Type.Optional(Type.Boolean()),
        /** Sequences that are not there any more, and come never. */
        absent: Type.Optional(Type.Array(Range, { maxItems: LANES_MAX })),
        batches: Type.Array(Batch, { minItems: 1, maxItems: BATCHES_MAX }),
        /** The node's clock when it sent this. */
        sentNs: Nanos,
        /** Of its last exchange: when the cloud answered by its clock, and when the node heard it by its own. */
        heard: Type.Optional(Type.Object({ answeredNs: Nanos, atNs: Nanos })),
      }),
    },
    output: Type.Object({
      /** The last batch of this request that is durable or refused; below the last one sent: send the rest again. */
      durable: Count,
      /** Batches of this request that can never be kept, with the reason; they are passed. */
      refused: Type.Array(Refusal),
      receivedNs: Nanos,
      durationUs: Count,
      /** What the node has not heard of yet. */
      backfills: BackfillRequests,
    }),
    errors: [CLOUD_SEQUENCE_GAP, CLOUD_OLDER],
    callers: ["edge.*"],
    timeoutMs: LINK_MS_MAX,
    bodyBytesMax: ACCEPT_BYTES_MAX,
  }),
  mark: get("/mark", {
    summary: "Tells which batches of one of the calling node's streams are settled.",
    input: { stream: StreamName, epoch: Epoch },
    output: Type.Object({
      settled: Type.Array(Range),
      /** How far each pipeline has come with the stream, whatever the epoch. */
      pipelines: Type.Array(Type.Object({ name: Type.String(), through: Count })),
      /** Batches of the stream and epoch that could not be kept, the newest of them. */
      refused: Type.Array(Refusal),
      /** All that the node is asked for and has not said to have done; any other is wanted no more. */
      backfills: BackfillRequests,
    }),
    callers: ["edge.*"],
    timeoutMs: LINK_MS_MAX,
  }),
  ...backfillOperations,
  reportGaps: post("/gaps", {
    summary: "Keeps entries of the calling node's gap ledger; the same entry twice counts once.",
    input: { body: Type.Object({ gaps: Type.Array(Gap, { minItems: 1, maxItems: GAPS_MAX }) }) },
    output: Type.Object({}),
    callers: ["edge.*"],
    timeoutMs: LINK_MS_MAX,
  }),
  gaps: get("/gaps/:edge", {
    summary: "Lists what of a node never reached one of its destinations, and why, newest first.",
    input: { edge: Type.String(), limit: Type.Integer({ minimum: 1, maximum: 10_000, default: 100 }) },
    output: Type.Object({ totalCount: Type.Integer(), gaps: Type.Array(Gap) }),
    callers: ["cli", "node"],
  }),
  newCode: post("/code", {
    summary:
      "Makes a one-time code to enroll a node with; it holds the authority's fingerprint, so that the node knows whom it trusts.",
    input: { body: Type.Object({ lifetimeS: Type.Integer({ minimum: 1, maximum: 604_800 }) }) },
    output: Type.Object({ code: Type.String(), expiresAtMs: Type.Integer() }),
    callers: ["cli", "node"],
  }),
  edges: get("/edges", {
    summary: "Lists the enrolled nodes and what they have sent.",
    input: {},
    output: Type.Object({ edges: Type.Array(EdgeStatus) }),
    callers: ["cli", "node"],
  }),
  readings: get("/readings/:edge/:device", {
    summary: "Lists a device's readings, newest first.",
    input: {
      edge: Type.String(),
      device: Type.String(),
      resource: Type.Optional(Type.String()),
      /** Origins as the cloud's clock would have told them, where the node's was off. */
      corrected: Type.Optional(Type.Boolean()),
      offset: Type.Integer({ minimum: 0, default: 0 }),
      limit: Type.Integer({ minimum: 1, maximum: 100_000, default: 20 }),
    },
    output: Type.Object({ totalCount: Type.Integer(), readings: Type.Array(Reading) }),
    callers: ["cli", "node"],
  }),
  audit: get("/audit/:edge", {
    summary:
      "Tells per pipeline, publisher and epoch which event sequences are kept, as ranges, and how many twice (0): what the fault tests hold the node to.",
    input: { edge: Type.String() },
    output: Type.Object({
      publishers: Type.Array(
        Type.Object({
          pipeline: Type.String(),
          name: Type.String(),
          epoch: Type.Integer(),
          events: Type.Integer(),
          readings: Type.Integer(),
          duplicates: Type.Integer(),
          outOfOrder: Type.Integer(),
          ranges: Type.Array(Type.Object({ from: Type.Integer(), to: Type.Integer() })),
          /** Ranges beyond those listed. */
          rangesLeftOut: Type.Optional(Type.Integer()),
        }),
      ),
    }),
    callers: ["cli", "node"],
    timeoutMs: 60_000,
  }),
});
export type Cloud = Service<typeof cloud>;
