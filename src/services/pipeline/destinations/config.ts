/** The config of destinations: where batches go, in which form, and at what pace. */
import { type Static, type TLiteral, type TUnion, Type } from "typebox";
import type { Reach } from "../../../kernel/config.ts";
import { field } from "../../../kernel/service.ts";
import { Pace } from "../pacing/config.ts";

const strict = { additionalProperties: false } as const;
const text = (maxLength = 1024, pattern?: string) => Type.String({ maxLength, ...(pattern ? { pattern } : {}) });
/** A union of texts; TypeBox loses their types over `map`. */
const oneOf = <const T extends readonly string[]>(...values: T) =>
  Type.Union(values.map((value) => Type.Literal(value))) as unknown as TUnion<{
    -readonly [K in keyof T]: TLiteral<T[K]>;
  }>;
const optional = <S extends Parameters<typeof Type.Optional>[0]>(
  schema: S,
  doc: { description: string; example: unknown; reach?: Reach },
) => Type.Optional(field(schema, { default: undefined, ...doc }));
const fileField = (description: string, example: string) =>
  optional(Type.String({ minLength: 1, maxLength: 4096 }), { description, example, reach: "file" });
const url = (protocols: string, example: string, without: string) =>
  field(text(2048, `^(${protocols})://[^/?@]+([/?].*)?$`), {
    description: `Address; '${without}' (without TLS) only to this machine, or with 'insecure'. Its port is allowed to the sandbox.`,
    default: undefined,
    example,
    reach: "url",
  });

const Tls = Type.Object(
  {
    caFile: fileField(
      "PEM file of the authorities that the server's certificate must come from, instead of the public ones.",
      "/etc/holdfast/broker-ca.pem",
    ),
    certFile: fileField("PEM file of the client certificate that is shown.", "/etc/holdfast/client.pem"),
    keyFile: fileField("PEM file of its key.", "/etc/holdfast/client.key"),
    serverName: optional(text(253), {
      description: "Name that the server's certificate must have, where it is not the address's host.",
      example: "broker.example",
    }),
    minVersion: field(oneOf("1.3", "1.2"), {
      description: "Oldest version of TLS that is spoken.",
      default: "1.3",
      example: "1.2",
    }),
  },
  strict,
);
export type TlsConfig = Static<typeof Tls>;

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

const connection = {
  tls: field(Tls, { description: "Whom to trust, and who this is.", default: {}, example: { caFile: "/etc/ca.pem" } }),
  insecure: field(Type.Boolean(), {
    description:
      "Allow a connection to another machine without TLS: anybody on the way reads and changes what is sent.",
    default: false,
    example: true,
  }),
  timeoutMs: field(Type.Integer({ minimum: 100, maximum: 600_000 }), {
    description: "Milliseconds for connecting, and again for each answer; later is never.",
    default: 30_000,
    example: 10_000,
  }),
  pace: field(Pace, { description: "How much may go, and when.", default: {}, example: { rateBytesPerS: 16_384 } }),
  uplinks: field(
    Type.Array(
      Type.Object(
        {
          name: field(text(63, "^[a-z0-9][a-z0-9-]*$"), {
            description: "Its name.",
            default: undefined,
            example: "lte",
          }),
          localAddress: optional(text(45), {
            description: "Own IP address to connect from; the machine's routing must send what comes from it this way.",
            example: "192.168.8.2",
            reach: "local-address",
          }),
          url: optional(text(2048), {
            description: "The destination's address by this way, where it is another.",
            example: "https://10.8.0.1",
            reach: "url",
          }),
          pace: field(Pace, {
            description: "How much may go by this way, and when.",
            default: {},
            example: { budget: { bytesMax: 500_000_000, per: "month" } },
          }),
        },
        strict,
      ),
      { maxItems: 8 },
    ),
    {
      description:
        "Ways to the destination, the cheapest first: the first that works is taken, and taken again when it is back.",
      default: [],
      example: [{ name: "ethernet" }, { name: "lte", localAddress: "192.168.8.2" }],
    },
  ),
};

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
export const HttpsDestination = Type.Object(
  {
    kind: Type.Literal("https"),
    url: url("https?", "https://ingest.example/events", "http://"),
    method: field(oneOf("POST", "PUT"), { description: "Method.", default: "POST", example: "PUT" }),
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

export const DestinationConfig = Type.Union([
  CloudDestination,
  HttpsDestination,
  MqttDestination,
  SparkplugDestination,
  NatsDestination,
]);
export type DestinationConfig = Static<typeof DestinationConfig>;
export type CloudConfig = Static<typeof CloudDestination>;
export type HttpsConfig = Static<typeof HttpsDestination>;
export type MqttConfig = Static<typeof MqttDestination>;
export type SparkplugConfig = Static<typeof SparkplugDestination>;
export type NatsConfig = Static<typeof NatsDestination>;

/** Destinations by name; the cloud is the one that the node is enrolled at. */
export const Destinations = Type.Record(Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" }), DestinationConfig);
export type Destinations = Static<typeof Destinations>;
