/** Settings of the routes file about upstreams: how instances are chosen, left out, and spared. */
import { type Static, Type } from "typebox";

const strict = { additionalProperties: false };
const ms = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });
const share = Type.Number({ minimum: 0, maximum: 1 });

/** By whom an instance is chosen, where it is chosen by a key; a cookie, a header or a query parameter by name. */
export const KeyOf = Type.String({ pattern: "^(client|subject|path|(header|query|cookie):[A-Za-z0-9_.-]{1,64})$" });

export const UpstreamSettings = {
  /** `least-requests` unless said. */
  balance: Type.Optional(
    Type.Union([
      Type.Literal("least-requests"),
      Type.Literal("round-robin"),
      Type.Literal("peak-ewma"),
      Type.Literal("hash"),
    ]),
  ),
  /** For `hash`: what is hashed; `client` unless said. */
  key: Type.Optional(KeyOf),
  /** A new instance gets a growing share for so long. */
  slowStartMs: Type.Optional(ms(0, 600_000)),
  /** An instance that fails is left out for a while. */
  eject: Type.Optional(
    Type.Object(
      {
        /** Answers with 500, 502, 503 or 504 in a row; what cannot be connected to is left out at once. */
        failures: Type.Integer({ minimum: 1, maximum: 1_000, default: 5 }),
        ms: Type.Integer({ minimum: 1, maximum: 600_000, default: 1_000 }),
        msMax: Type.Integer({ minimum: 1, maximum: 3_600_000, default: 8_000 }),
        /** At most so many of the instances are left out at once. */
        shareMax: Type.Number({ minimum: 0, maximum: 1, default: 1 }),
      },
      strict,
    ),
  ),
  /** Asks every instance again and again; one that does not answer with 2xx or 3xx is left out. */
  check: Type.Optional(
    Type.Object(
      {
        path: Type.String({ pattern: "^/[!-~]*$", maxLength: 1_024 }),
        everyMs: Type.Integer({ minimum: 100, maximum: 600_000, default: 5_000 }),
        timeoutMs: Type.Integer({ minimum: 10, maximum: 60_000, default: 2_000 }),
        /** So many good answers in a row bring one back, so many bad ones leave it out. */
        goodMin: Type.Integer({ minimum: 1, maximum: 100, default: 1 }),
        badMin: Type.Integer({ minimum: 1, maximum: 100, default: 2 }),
      },
      strict,
    ),
  ),
  /** Retries are at most this share of the requests, and so many more. */
  retryBudget: Type.Optional(
    Type.Object(
      { share: { ...share, default: 0.2 }, reserve: Type.Integer({ minimum: 0, maximum: 10_000, default: 100 }) },
      strict,
    ),
  ),
  /** Opens where too many requests fail: then they are refused at once, but for a few that try. */
  breaker: Type.Optional(
    Type.Object(
      {
        failedShare: { ...share, default: 0.5 },
        requestsMin: Type.Integer({ minimum: 1, maximum: 100_000, default: 20 }),
        windowMs: Type.Integer({ minimum: 100, maximum: 600_000, default: 10_000 }),
        openMs: Type.Integer({ minimum: 10, maximum: 600_000, default: 5_000 }),
      },
      strict,
    ),
  ),
  /** So many requests at once, so many more that wait, so long. */
  bulkhead: Type.Optional(
    Type.Object(
      {
        runningMax: Type.Integer({ minimum: 1, maximum: 100_000 }),
        waitingMax: Type.Integer({ minimum: 0, maximum: 100_000, default: 0 }),
        waitMs: Type.Integer({ minimum: 1, maximum: 60_000, default: 1_000 }),
      },
      strict,
    ),
  ),
};
const AnyUpstream = Type.Object(UpstreamSettings, strict);
export type UpstreamSettings = Static<typeof AnyUpstream>;

/** Settings of a route about its tries. */
export const TrySettings = {
  /** The whole request, all tries together, from its last byte to the head of the answer. */
  timeoutMs: Type.Optional(ms(1, 3_600_000)),
  /** One try. */
  tryTimeoutMs: Type.Optional(ms(1, 3_600_000)),
  /** May be repeated where it is not known whether it was done; GET, HEAD and OPTIONS may unless said. */
  safe: Type.Optional(Type.Boolean()),
  /**
   * What only reads, and comes in one turn of the event loop, shares a connection and goes out in one write. Answers come
   * one after the other: for quick services on this machine that are trusted as much as the gateway itself.
   */
  coalesce: Type.Optional(Type.Boolean()),
  retry: Type.Optional(
    Type.Object(
      {
        triesMax: Type.Integer({ minimum: 1, maximum: 10, default: 3 }),
        /** Answers that are asked for again, where that is safe. */
        statuses: Type.Array(Type.Integer({ minimum: 500, maximum: 599 }), { maxItems: 20, default: [] }),
      },
      strict,
    ),
  ),
  /** A second instance is asked where the first has not answered within the time that this share of answers takes. */
  hedge: Type.Optional(
    Type.Object(
      {
        quantile: Type.Number({ minimum: 0.5, maximum: 0.999, default: 0.95 }),
        /** At most this share of the requests. */
        share: Type.Number({ minimum: 0.001, maximum: 1, default: 0.05 }),
      },
      strict,
    ),
  ),
};
const AnyTry = Type.Object(TrySettings, strict);
export type TrySettings = Static<typeof AnyTry>;
