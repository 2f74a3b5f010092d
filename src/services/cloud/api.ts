/** The cloud: the other end of the uplink. Keeps each batch of each enrolled node exactly once, and answers queries. */
import { type Static, Type } from "typebox";
import { contract, get, post, type Service } from "../../kernel/contract.ts";
import { Reading } from "../../kernel/edgex.ts";
import { code } from "../../kernel/error.ts";
import { Nanos } from "../../kernel/nanos.ts";

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

/** A batch's place: exactly once is (edge, stream, epoch, sequence) against a high-water mark. */
export const Batch = Type.Object({
  sequence: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  /** The sequence before it in its stream (0: it is the first). Were it above the mark, something between was never sent. */
  previous: Count,
  /**
   * How far the sender had read its own source when the batch was made. Given back with the mark: a sender that lost
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
});

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
  }),
  accept: post("/accept", {
    summary: "Keeps batches of the calling node, in order, each once; answers when they are on disk.",
    input: {
      body: Type.Object({
        stream: StreamName,
        epoch: Epoch,
        batches: Type.Array(Batch, { minItems: 1, maxItems: BATCHES_MAX }),
      }),
    },
    output: Type.Object({
      /** High-water mark of the stream and epoch: all up to here is durable. Below the last batch sent: send the rest again. */
      durable: Count,
      /** Batches of this request that can never be kept, with the reason; the mark has passed them. */
      refused: Type.Array(Refusal),
      receivedNs: Nanos,
      durationUs: Count,
    }),
    errors: [CLOUD_SEQUENCE_GAP, CLOUD_OLDER],
    callers: ["edge.*"],
    bodyBytesMax: ACCEPT_BYTES_MAX,
    timeoutMs: 30_000,
  }),
  mark: get("/mark", {
    summary: "Tells the high-water mark of one of the calling node's streams.",
    input: { stream: StreamName, epoch: Epoch },
    output: Type.Object({
      durable: Count,
      /** Of the batch kept last of the stream, whatever its epoch. */
      through: Type.Optional(Count),
      /** Batches of the stream and epoch that could not be kept, the newest of them. */
      refused: Type.Array(Refusal),
    }),
    callers: ["edge.*"],
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
      offset: Type.Integer({ minimum: 0, default: 0 }),
      limit: Type.Integer({ minimum: 1, maximum: 100_000, default: 20 }),
    },
    output: Type.Object({ totalCount: Type.Integer(), readings: Type.Array(Reading) }),
    callers: ["cli", "node"],
    timeoutMs: 30_000,
  }),
  audit: get("/audit/:edge", {
    summary:
      "Tells per publisher and epoch which event sequences are kept, as ranges, and how many twice (0): what the fault tests hold the node to.",
    input: { edge: Type.String() },
    output: Type.Object({
      publishers: Type.Array(
        Type.Object({
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
