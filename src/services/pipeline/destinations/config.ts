/** The config of destinations: where batches go, in which form, and at what pace. */
import { type Static, Type } from "typebox";
import { field } from "../../../kernel/service.ts";
import { connection, fileField, oneOf, optional, strict, text, url } from "./connection.ts";

export type { TlsConfig } from "./connection.ts";

const Encryption = Type.Object(
  {
    algorithm: field(oneOf("aes-256-gcm", "aes256"), {
      description:
        "'aes-256-gcm': nonce (12 bytes), ciphertext and tag (16), key of 32 bytes. 'aes256': what EdgeX's Encrypt makes, AES-256-CBC with HMAC-SHA-512, in base64, key of 64 bytes.",
      default: "aes-256-gcm",
      example: "aes256",
    }),
    keyFile: field(Type.String({ minLength: 1, maxLength: 4096 }), {
      description: "File with the key in hexadecimal digits.",
      default: undefined,
      example: "/etc/holdfast/export.key",
      reach: "file",
    }),
  },
  strict,
);
export type EncryptionConfig = Static<typeof Encryption>;

const form = {
  format: field(oneOf("json", "xml", "cbor", "columns"), {
    description: "EdgeX's JSON, XML (as EdgeX's Transform) or CBOR, or Holdfast's columns.",
    default: "json",
    example: "cbor",
  }),
  compression: field(oneOf("none", "gzip", "zlib", "zstd"), {
    description: "How each message is compressed.",
    default: "none",
    example: "gzip",
  }),
  encryption: optional(Encryption, {
    description: "How each message is encrypted, after it was compressed.",
    example: { keyFile: "/etc/holdfast/export.key" },
  }),
  messageBytesMax: field(Type.Integer({ minimum: 1_024, maximum: 67_108_864 }), {
    description:
      "Bytes of a message of several events, about, before it is compressed; the rest makes another message.",
    default: 1_000_000,
    example: 100_000,
  }),
};
const shape = (usual: string) =>
  field(oneOf("events", "event", "requests", "request"), {
    description:
      "What a message holds: a list of events, one event, or the same as AddEventRequests. With 'columns' always all.",
    default: usual,
    example: "requests",
  });

const mqttConnection = {
  url: url("mqtts?", "mqtts://broker.example:8883", "mqtt://"),
  version: field(oneOf("3.1.1", "5"), { description: "Version of MQTT.", default: "5", example: "3.1.1" }),
  clientId: optional(text(128), {
    description: "Client id; 'holdfast-NODE-DESTINATION' unless said.",
    example: "site-7",
  }),
  username: optional(text(), { description: "User name.", example: "site-7" }),
  passwordFile: fileField("File with the password.", "/etc/holdfast/broker.password"),
  ...connection,
};

export const ASK_EVERY_MS = 300_000;
export const CloudDestination = Type.Object(
  {
    kind: Type.Literal("cloud"),
    askEveryMs: field(Type.Integer({ minimum: 1_000, maximum: 86_400_000 }), {
      description:
        "Milliseconds without an answer after which the cloud is asked whether it wants a range in full; while something is sent the answers tell.",
      default: ASK_EVERY_MS,
      example: 3_600_000,
    }),
    pace: connection.pace,
    uplinks: connection.uplinks,
  },
  strict,
);
const httpHeaders = {
  headers: field(Type.Record(Type.String({ pattern: "^[A-Za-z0-9-]{1,64}$" }), text(4096)), {
    description: "Further header fields.",
    default: {},
    example: { "X-Site": "7" },
  }),
  headerFiles: field(
    Type.Record(
      Type.String({ pattern: "^[A-Za-z0-9-]{1,64}$" }),
      Object.assign(Type.String({ minLength: 1, maxLength: 4096 }), { reach: "file" as const }),
    ),
    {
      description: "Further header fields whose values are secret: each the text of a file.",
      default: {},
      example: { Authorization: "/etc/holdfast/ingest.token" },
    },
  ),
};

export const HttpsDestination = Type.Object(
  {
    kind: Type.Literal("https"),
    url: url("https?", "https://ingest.example/events", "http://"),
    method: field(oneOf("POST", "PUT"), { description: "Method.", default: "POST", example: "PUT" }),
    ...httpHeaders,
    shape: shape("events"),
    ...form,
    ...connection,
  },
  strict,
);
export const MqttDestination = Type.Object(
  {
    kind: Type.Literal("mqtt"),
    topic: field(text(512, "^[^+#]+$"), {
      description: "Topic; {node}, {publisher}, {profile}, {device} and {source} are filled in.",
      default: "holdfast/{node}/{device}/{source}",
      example: "plant/7/{device}",
    }),
    retain: field(Type.Boolean(), {
      description: "Let the broker keep the last message of a topic for those who come later.",
      default: false,
      example: true,
    }),
    shape: shape("event"),
    ...form,
    ...mqttConnection,
  },
  strict,
);
export const SparkplugDestination = Type.Object(
  {
    kind: Type.Literal("sparkplug"),
    groupId: field(text(128, "^[^/+#]+$"), {
      description: "Sparkplug group id.",
      default: undefined,
      example: "Plant 7",
    }),
    edgeNodeId: optional(text(128, "^[^/+#]+$"), {
      description: "Edge node id; the node's name unless said.",
      example: "line-1",
    }),
    primaryHostId: optional(text(128, "^[^/+#]+$"), {
      description:
        "Primary host application: nothing is sent while its STATE is not online. Left out: the broker is enough.",
      example: "scada",
    }),
    deviceSilenceMs: field(Type.Integer({ minimum: 0, maximum: 2_678_400_000 }), {
      description: "Milliseconds without a reading after which a device is told dead (DDEATH); 0: never.",
      default: 0,
      example: 3_600_000,
    }),
    ...mqttConnection,
  },
  strict,
);
export const NatsDestination = Type.Object(
  {
    kind: Type.Literal("nats"),
    url: url("tls|nats", "tls://nats.example:4222", "nats://"),
    subject: field(text(512, "^[^*>\\s]+$"), {
      description:
        "Subject; {node}, {publisher}, {profile}, {device} and {source} are filled in. A stream must take it.",
      default: "holdfast.{node}.{device}.{source}",
      example: "plant.7.{device}",
    }),
    stream: optional(text(255, "^[^.*>\\s]+$"), {
      description: "Name of the stream that must take the subject; any unless said.",
      example: "READINGS",
    }),
    username: optional(text(), { description: "User name.", example: "site-7" }),
    passwordFile: fileField("File with the password.", "/etc/holdfast/nats.password"),
    tokenFile: fileField("File with the token.", "/etc/holdfast/nats.token"),
    credentialsFile: fileField("File with user JWT and seed (.creds).", "/etc/holdfast/site-7.creds"),
    shape: shape("event"),
    ...form,
    ...connection,
  },
  strict,
);

const bounded = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });
export const OtlpDestination = Type.Object(
  {
    kind: Type.Literal("otlp"),
    url: url("https?", "https://collector.example:4318", "http://"),
    ...httpHeaders,
    encoding: field(oneOf("protobuf", "json"), { description: "Form.", default: "protobuf", example: "json" }),
    compression: field(oneOf("gzip", "none"), { description: "Compression.", default: "gzip", example: "none" }),
    traces: field(Type.Boolean(), { description: "Send spans.", default: true, example: false }),
    tracesShare: field(Type.Number({ minimum: 0, maximum: 1 }), {
      description: "Share of the traces that are sent beside those with an error and the slow ones, which all are.",
      default: 0.05,
      example: 1,
    }),
    slowMs: field(bounded(1, 3_600_000), {
      description: "A trace with a span of so many milliseconds is slow.",
      default: 1_000,
      example: 250,
    }),
    decideAfterMs: field(bounded(0, 600_000), {
      description: "Milliseconds after its first span when it is decided whether a trace is sent.",
      default: 10_000,
      example: 30_000,
    }),
    logs: field(Type.Boolean(), {
      description: "Send log lines: those of the traces that are sent, and beside them all of logsLevel.",
      default: true,
      example: false,
    }),
    logsLevel: field(oneOf("debug", "info", "warn", "error"), {
      description: "Log lines of this level and above are sent, whether their trace is or not.",
      default: "warn",
      example: "info",
    }),
    metrics: field(Type.Boolean(), { description: "Send metrics.", default: true, example: false }),
    metricsEveryMs: field(bounded(1_000, 86_400_000), {
      description: "Milliseconds between two tellings of all metrics.",
      default: 60_000,
      example: 300_000,
    }),
    ...connection,
  },
  strict,
);

export const DestinationConfig = Type.Union([
  CloudDestination,
  HttpsDestination,
  MqttDestination,
  SparkplugDestination,
  NatsDestination,
  OtlpDestination,
]);
export type DestinationConfig = Static<typeof DestinationConfig>;
export type CloudConfig = Static<typeof CloudDestination>;
export type HttpsConfig = Static<typeof HttpsDestination>;
export type MqttConfig = Static<typeof MqttDestination>;
export type SparkplugConfig = Static<typeof SparkplugDestination>;
export type OtlpConfig = Static<typeof OtlpDestination>;
export type NatsConfig = Static<typeof NatsDestination>;

/** Destinations by name; the cloud is the one that the node is enrolled at. */
export const Destinations = Type.Record(Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" }), DestinationConfig);
export type Destinations = Static<typeof Destinations>;
