/** The bus: events and messages between services, on the journal. */
import { type Static, Type } from "typebox";
import { contract, post, type Service, stream } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";

export const BUS_FULL = code(
  "BUS_FULL",
  "full",
  "Give the node's disk more room, or raise bus.sizeBytesMax; nothing acknowledged is lost.",
);
export const BUS_TOPIC_REFUSED = code(
  "BUS_TOPIC_REFUSED",
  "forbidden",
  "Use only the topics that the client's role allows.",
);
export const BUS_FOLLOWER_REFUSED = code(
  "BUS_FOLLOWER_REFUSED",
  "forbidden",
  "Name a follower after the service that follows: 'core-data', 'core-data/history'.",
);
export const BUS_REQUEST_TIMEOUT = code(
  "BUS_REQUEST_TIMEOUT",
  "deadline",
  "Check that the service asked over the bus is running.",
);
export const BUS_LISTENER_SLOW = code(
  "BUS_LISTENER_SLOW",
  "limited",
  "Take messages faster, or listen to fewer topics; listen anew, messages were missed.",
);
export const BUS_EVENT_INVALID = code(
  "BUS_EVENT_INVALID",
  "invalid",
  "Send EdgeX's envelope with an AddEventRequest, on a topic that ends in its profile, device and source.",
);
export const BUS_BATCH_REFUSED = code(
  "BUS_BATCH_REFUSED",
  "invalid",
  "Send blocks of one publisher, the caller's own, with growing sequences.",
);

const Bytes = Type.Unsafe<Uint8Array>({});
const Topic = Type.String({ minLength: 1, maxLength: 1024 });
const Publisher = Type.Object({ name: Type.String(), epoch: Type.Integer() });

/** Largest batch of blocks or message in bytes. */
export const APPEND_BYTES_MAX = 1_048_576;

/** A record of the journal as followers get it: blocks of events (kernel/events), or one message with its topic. */
export const BusRecord = Type.Object({
  position: Type.Integer(),
  kind: Type.Union([Type.Literal("events"), Type.Literal("message")]),
  /** A message's topic; of events the topic of the first block's series. */
  topic: Topic,
  payload: Bytes,
});
export type BusRecord = Static<typeof BusRecord>;

export const FollowItem = Type.Object({
  records: Type.Array(BusRecord),
  /** Store this with what was made of the records, and follow from it next time. */
  next: Type.Integer(),
  /** Positions that are gone (damage, or a follower that stayed away too long). */
  gap: Type.Optional(Type.Object({ from: Type.Integer(), to: Type.Integer() })),
});
export type FollowItem = Static<typeof FollowItem>;

/** Topic of the message that says that the bus listens; MQTT has none of no length. */
export const LISTENING = "";
export const BusMessage = Type.Object({
  topic: Type.String({ maxLength: 1024 }),
  payload: Bytes,
  position: Type.Optional(Type.Integer()),
});
export type BusMessage = Static<typeof BusMessage>;

export const bus = contract("bus", {
  append: post("/append", {
    quiet: true,
    summary:
      "Appends encoded blocks of the caller's events to the journal; answers when they are on disk. What was sent before is kept once.",
    input: { body: Type.Object({ blocks: Bytes, requestId: Type.Optional(Type.String()) }) },
    /** `last`: highest sequence that is durable for the publisher and epoch. */
    output: Type.Object({ position: Type.Integer(), last: Type.Integer() }),
    errors: [BUS_FULL, BUS_BATCH_REFUSED],
    callers: ["*"],
    bodyBytesMax: 2 * APPEND_BYTES_MAX,
    timeoutMs: 15_000,
  }),
  appendForeign: post("/append-foreign", {
    summary:
      "Appends events whose ids strangers chose (REST at core-data); the bus numbers them under the given publisher.",
    input: { body: Type.Object({ publisher: Type.String(), blocks: Bytes }) },
    output: Type.Object({ position: Type.Integer(), duplicate: Type.Boolean() }),
    errors: [BUS_FULL, BUS_BATCH_REFUSED],
    callers: ["core-data"],
    bodyBytesMax: 2 * APPEND_BYTES_MAX,
    timeoutMs: 15_000,
  }),
  follow: stream("/follow", {
    summary:
      "Streams journal records after a position, and goes on as they come. Only event records unless `topics` names filters.",
    input: {
      /** Durable name; the journal keeps what a named follower has not confirmed. */
      follower: Type.String({ minLength: 1, maxLength: 200 }),
      after: Type.Integer({ minimum: 0 }),
      bytesMax: Type.Optional(Type.Integer({ minimum: 1 })),
      topics: Type.Optional(Type.Array(Topic, { maxItems: 64 })),
    },
    output: FollowItem,
    errors: [BUS_TOPIC_REFUSED, BUS_FOLLOWER_REFUSED],
    callers: ["core-data", "pipeline", "device-host", "device-virtual", "core-command", "core-metadata", "trace"],
  }),
  confirm: post("/confirm", {
    quiet: true,
    summary: "Tells that a follower keeps all records up to a position; the bus may drop what every follower keeps.",
    input: { body: Type.Object({ follower: Type.String(), position: Type.Integer({ minimum: 0 }) }) },
    output: Type.Object({}),
    errors: [BUS_FOLLOWER_REFUSED],
    callers: ["core-data", "pipeline", "device-host", "device-virtual", "core-command", "core-metadata", "trace"],
  }),
  publish: post("/publish", {
    summary:
      "Publishes one message to whoever listens (services and MQTT clients); journalled first where its topic is.",
    input: { body: Type.Object({ topic: Topic, payload: Bytes }) },
    output: Type.Object({ position: Type.Optional(Type.Integer()) }),
    errors: [BUS_TOPIC_REFUSED, BUS_FULL, BUS_EVENT_INVALID],
    callers: ["*"],
  }),
  listen: stream("/listen", {
    summary:
      "Streams messages of topic filters as they are published, from now on (not journalled ones are lost to who is away).",
    input: {
      topics: Type.Array(Topic, { minItems: 1, maxItems: 64 }),
      /** Begins with an empty message on the topic LISTENING: from there on nothing is missed. */
      begin: Type.Optional(Type.Boolean()),
    },
    output: BusMessage,
    errors: [BUS_TOPIC_REFUSED, BUS_LISTENER_SLOW],
    callers: ["*"],
  }),
  request: post("/request", {
    summary: "Publishes an EdgeX request envelope and waits for the answer on its response topic.",
    input: {
      body: Type.Object({
        topic: Topic,
        responseTopic: Topic,
        payload: Bytes,
        timeoutMs: Type.Integer({ minimum: 1, maximum: 60_000 }),
      }),
    },
    output: Type.Object({ payload: Bytes }),
    errors: [BUS_REQUEST_TIMEOUT, BUS_TOPIC_REFUSED],
    callers: ["core-metadata", "core-command", "gateway"],
    timeoutMs: 61_000,
  }),
  forgetDevice: post("/forget-device", {
    summary: "Gives a device's events that are in the journal to nobody any more; they go with the journal's old end.",
    input: { body: Type.Object({ device: Type.String({ minLength: 1, maxLength: 1024 }) }) },
    output: Type.Object({ position: Type.Integer() }),
    callers: ["node"],
  }),
  backlog: post("/backlog", {
    summary: "Tells positions, size, losses and followers of the journal.",
    input: {},
    output: Type.Object({
      first: Type.Integer(),
      last: Type.Integer(),
      sizeBytes: Type.Integer(),
      followers: Type.Array(Type.Object({ name: Type.String(), position: Type.Integer(), connected: Type.Boolean() })),
      publishers: Type.Array(Type.Object({ ...Publisher.properties, last: Type.Integer() })),
      losses: Type.Array(
        Type.Object({
          reason: Type.String(),
          firstPosition: Type.Integer(),
          lastPosition: Type.Optional(Type.Integer()),
          bytes: Type.Integer(),
        }),
      ),
      mqttClients: Type.Integer(),
    }),
    callers: ["core-data", "pipeline", "trace"],
    public: { scope: "node:read" },
  }),
});
export type Bus = Service<typeof bus>;
