/** The words that the configs of destinations are made of, and what every connection has: whom to trust, by which way, at what pace. */
import { type Static, type TLiteral, type TUnion, Type } from "typebox";
import type { Reach } from "../../../kernel/config.ts";
import { field } from "../../../kernel/service.ts";
import { Pace } from "../pacing/config.ts";

export const strict = { additionalProperties: false } as const;
export const text = (maxLength = 1024, pattern?: string) => Type.String({ maxLength, ...(pattern ? { pattern } : {}) });
/** A union of texts; TypeBox loses their types over `map`. */
export const oneOf = <const T extends readonly string[]>(...values: T) =>
  Type.Union(values.map((value) => Type.Literal(value))) as unknown as TUnion<{
    -readonly [K in keyof T]: TLiteral<T[K]>;
  }>;
export const optional = <S extends Parameters<typeof Type.Optional>[0]>(
  schema: S,
  doc: { description: string; example: unknown; reach?: Reach },
) => Type.Optional(field(schema, { default: undefined, ...doc }));
export const fileField = (description: string, example: string) =>
  optional(Type.String({ minLength: 1, maxLength: 4096 }), { description, example, reach: "file" });
export const url = (protocols: string, example: string, without: string) =>
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

/** What every connection has. */
export const connection = {
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
