/** Settings of the routes file about what is kept, and what is answered when a service does not answer. */
import { type Static, Type } from "typebox";

const strict = { additionalProperties: false };
const MS_MAX = 31_536_000_000;
const ms = Type.Integer({ minimum: 0, maximum: MS_MAX });

export const CacheSettings = Type.Object(
  {
    /** An answer that does not say how long it is fresh is fresh so long; RFC 9111's heuristics where this is not given. */
    freshMs: Type.Optional(ms),
    /** Where the answer does not say: it is given stale for so long while a new one is asked for (RFC 5861 3). */
    staleWhileRevalidateMs: Type.Optional(ms),
    /** Where the answer does not say: it is given stale for so long when the service fails (RFC 5861 4). */
    staleIfErrorMs: Type.Optional(ms),
    /** After a failure the service is asked again at most so often while something stale can be given. */
    spareMs: Type.Integer({ minimum: 0, maximum: 600_000, default: 1_000 }),
    /**
     * `subject`: each person has their own answers. `everyone`: one answer for all who may ask, and then an answer to a request
     * with a token is kept only where it says that it may (RFC 9111 3.5). Default: `everyone` where the route is public.
     */
    per: Type.Optional(Type.Union([Type.Literal("subject"), Type.Literal("everyone")])),
    /** A larger answer passes and is not kept. */
    entryBytesMax: Type.Integer({ minimum: 1, maximum: 67_108_864, default: 1_048_576 }),
  },
  strict,
);
export type CacheSettings = Static<typeof CacheSettings>;

/** What is answered where the service cannot be reached, does not answer in time, or fails. */
export const FallbackSettings = Type.Object(
  {
    status: Type.Integer({ minimum: 200, maximum: 599, default: 200 }),
    /** Given as JSON. */
    json: Type.Optional(Type.Unknown()),
    text: Type.Optional(Type.String({ maxLength: 65_536 })),
  },
  strict,
);
export type FallbackSettings = Static<typeof FallbackSettings>;
