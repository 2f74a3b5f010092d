/** Settings of the routes file about who may: keys of programs, and a policy for what a scope does not tell. */
import { type Static, Type } from "typebox";
import { code } from "../../kernel/error.ts";

export const GATEWAY_POLICY_REFUSED = code(
  "GATEWAY_POLICY_REFUSED",
  "forbidden",
  "Ask whoever writes the routes file: no rule of its policy lets this person do this.",
);

const strict = { additionalProperties: false };
const Name = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}$" });
const Scope = Type.String({ pattern: "^(\\*|[a-z-]+:([a-z-]+|\\*))$" });
/** A `*` stands for any characters. */
const Pattern = Type.String({ minLength: 1, maxLength: 200 });

/** A key that a program sends as `X-API-Key`. The file holds its SHA-256 (`printf %s KEY | sha256sum`), never the key. */
export const ApiKey = Type.Object(
  {
    name: Name,
    sha256: Type.String({ pattern: "^[0-9a-f]{64}$" }),
    scopes: Type.Array(Scope, { maxItems: 64 }),
  },
  strict,
);
export type ApiKey = Static<typeof ApiKey>;

/** The first rule that is about a path, a method and a person decides; where rules are about the path and none decides: no. */
export const PolicyRule = Type.Object(
  {
    name: Name,
    effect: Type.Union([Type.Literal("allow"), Type.Literal("deny")]),
    /** As the door is asked: `/core-command/api/v3/device/name/{name}/{command}`, `/core-command/**`; `pump-*` within a segment. */
    paths: Type.Array(Type.String({ pattern: "^/", maxLength: 1_024 }), { maxItems: 64 }),
    /** All unless said. */
    methods: Type.Optional(Type.Array(Type.String({ pattern: "^[A-Z]{1,20}$" }), { maxItems: 16 })),
    /** Names of persons and keys; all unless said. */
    subjects: Type.Optional(Type.Array(Pattern, { maxItems: 256 })),
    /** Of which the person holds one; whatever they hold unless said. */
    scopes: Type.Optional(Type.Array(Scope, { maxItems: 64 })),
  },
  strict,
);
export type PolicyRule = Static<typeof PolicyRule>;

export const AccessSettings = {
  apiKeys: Type.Array(ApiKey, { maxItems: 1_000, default: [] }),
  policy: Type.Array(PolicyRule, { maxItems: 1_000, default: [] }),
};
