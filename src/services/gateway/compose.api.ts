/** Settings of the routes file about routes whose answer is put together from several. */
import { type Static, Type } from "typebox";

const strict = { additionalProperties: false };

export const Part = Type.Object(
  {
    upstream: Type.String({ minLength: 1, maxLength: 200 }),
    /** With `{name}` of the route's path, and `{part.field.0.name}` of another part's answer, which is then waited for. */
    path: Type.String({ pattern: "^/[!-~]*$", maxLength: 2_048 }),
    /** What is taken of the answer: `readings.0.value`; all of it unless said. */
    take: Type.Optional(Type.String({ maxLength: 200 })),
    /** Without it there is no answer: its failure is the route's. */
    required: Type.Boolean({ default: false }),
    timeoutMs: Type.Integer({ minimum: 1, maximum: 600_000, default: 2_000 }),
    /** What stands for it where it fails. */
    default: Type.Optional(Type.Unknown()),
    /** What a token must hold, beside what the route asks for; else the part is left out. */
    scope: Type.Optional(Type.String({ maxLength: 200 })),
  },
  strict,
);
export type Part = Static<typeof Part>;

/** By name; each stands under its name in the answer, or, with `merge`, its fields stand in the answer itself. */
export const ComposeSettings = Type.Object(
  {
    parts: Type.Record(Type.String({ pattern: "^[A-Za-z][A-Za-z0-9_]{0,63}$" }), Part),
    merge: Type.Array(Type.String(), { maxItems: 32, default: [] }),
  },
  strict,
);
export type ComposeSettings = Static<typeof ComposeSettings>;
/** Parts of one route; more are refused. */
export const PARTS_MAX = 32;
