/** Settings of the routes file about how much may come: by whom, at once, how large, and who goes first in trouble. */
import { type Static, Type } from "typebox";

const strict = { additionalProperties: false };

export const LimitSettings = Type.Object(
  {
    /** An address (IPv6: a network of 64 bits), a person whatever their token, one token, or all of the route together. */
    per: Type.Union([Type.Literal("address"), Type.Literal("subject"), Type.Literal("token"), Type.Literal("route")]),
    requestsPerS: Type.Number({ minimum: 0.000_01, maximum: 1_000_000 }),
    burst: Type.Integer({ minimum: 1, maximum: 1_000_000 }),
  },
  strict,
);
export type LimitSettings = Static<typeof LimitSettings>;

/** How many may be under way at once, found out by how long they take. */
export const ConcurrencySettings = Type.Object(
  {
    runningMin: Type.Integer({ minimum: 1, maximum: 10_000, default: 4 }),
    runningMax: Type.Integer({ minimum: 1, maximum: 10_000, default: 256 }),
    /** Latency may grow to so many times what is usual before fewer are let in. */
    tolerance: Type.Number({ minimum: 1, maximum: 10, default: 1.5 }),
  },
  strict,
);
export type ConcurrencySettings = Static<typeof ConcurrencySettings>;

/** Of a route: who goes first when the gateway is in trouble. */
export const Priority = Type.Union([Type.Literal("low"), Type.Literal("normal"), Type.Literal("high")]);
export type Priority = Static<typeof Priority>;

export const ShapeSettings = {
  limits: Type.Optional(Type.Array(LimitSettings, { maxItems: 8 })),
  concurrency: Type.Optional(ConcurrencySettings),
  /** `normal` unless said. */
  priority: Type.Optional(Priority),
  /** Less than the gateway's own limit. */
  bodyBytesMax: Type.Optional(Type.Integer({ minimum: 0, maximum: 67_108_864 })),
};
