/** The config of the fleet: which engine holds what all of its nodes see, and how it is reached. */
import { type Static, Type } from "typebox";
import { field } from "../../../kernel/service.ts";

const file = (description: string, example: string) =>
  Type.Optional(
    field(Type.String({ minLength: 1, maxLength: 4096 }), { description, default: undefined, example, reach: "file" }),
  );

export const FleetConfig = Type.Object(
  {
    engine: field(Type.Union([Type.Literal("none"), Type.Literal("etcd"), Type.Literal("nats")]), {
      description:
        "What holds the table of all nodes: 'etcd' (3.4 or newer, by its JSON gateway), 'nats' (JetStream of 2.11 or newer), or 'none': this node is alone.",
      default: "none",
      example: "etcd",
    }),
    urls: field(
      Type.Array(
        field(Type.String({ maxLength: 2048, pattern: "^(https?|nats|tls)://[^/?@]+/?$" }), {
          description: "Address of a member. Without TLS ('http://', 'nats://') only to this machine.",
          default: undefined,
          example: "https://10.0.0.11:2379",
          reach: "url",
        }),
        { maxItems: 16 },
      ),
      {
        description: "Members of the engine's cluster, asked in turns where one does not answer.",
        default: [],
        example: ["https://10.0.0.11:2379", "https://10.0.0.12:2379"],
      },
    ),
    prefix: field(Type.String({ pattern: "^[A-Za-z0-9_-]{1,64}$" }), {
      description:
        "What the fleet is called in the engine: etcd's keys begin with it, NATS' bucket has it as its name.",
      default: "holdfast",
      example: "plant-7",
    }),
    ttlMs: field(Type.Integer({ minimum: 2_000, maximum: 600_000 }), {
      description:
        "Milliseconds after which the others give up a node that was cut off or lost its power, in whole seconds.",
      default: 5_000,
      example: 15_000,
    }),
    timeoutMs: field(Type.Integer({ minimum: 100, maximum: 60_000 }), {
      description: "Milliseconds for an answer; after them the next member is asked.",
      default: 1_500,
      example: 5_000,
    }),
    caFile: file("PEM file of the authorities that the engine's certificates come from.", "/etc/holdfast/etcd-ca.pem"),
    certFile: file("PEM file of the client certificate that is shown.", "/etc/holdfast/etcd.pem"),
    keyFile: file("PEM file of its key.", "/etc/holdfast/etcd.key"),
    username: Type.Optional(
      field(Type.String({ minLength: 1, maxLength: 256 }), {
        description: "User of the engine, where it asks for one.",
        default: undefined,
        example: "holdfast",
      }),
    ),
    passwordFile: file("File with the password.", "/etc/holdfast/etcd.password"),
  },
  { additionalProperties: false },
);
export type FleetConfig = Static<typeof FleetConfig>;
