/** Settings of the routes file about who may: roles, who from elsewhere has them, keys of programs, and a policy for what a scope does not tell. */
import { type Static, Type } from "typebox";
import { code } from "../../kernel/error.ts";
import type { Role as OwnRole } from "../identity/api.ts";

export const GATEWAY_POLICY_REFUSED = code(
  "GATEWAY_POLICY_REFUSED",
  "forbidden",
  "Ask whoever writes the routes file: no rule of its policy lets this person do this.",
);
export const GATEWAY_CERTIFICATE_INVALID = code(
  "GATEWAY_CERTIFICATE_INVALID",
  "unauthorized",
  "Show a client certificate that is valid now, of an authority that the gateway's config names, or a token.",
);
export const GATEWAY_CROSS_SITE = code(
  "GATEWAY_CROSS_SITE",
  "forbidden",
  "Send it from a page of this door; programs come with a token or a key.",
);
export const GATEWAY_LOGIN_FAILED = code(
  "GATEWAY_LOGIN_FAILED",
  "unauthorized",
  "Begin anew at /login; the gateway's log has the reason under this request id.",
);

const strict = { additionalProperties: false };
const Name = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}$" });
const Scope = Type.String({ pattern: "^(\\*|[a-z-]+:([a-z-]+|\\*))$" });
/** A `*` stands for any characters. */
const Pattern = Type.String({ minLength: 1, maxLength: 200 });

const RoleName = Type.String({ pattern: "^[a-z][a-z0-9-]{0,63}$" });
/** What somebody has: what the roles stand for, and these scopes. */
const rights = {
  roles: Type.Array(RoleName, { maxItems: 16, default: [] }),
  scopes: Type.Array(Scope, { maxItems: 64, default: [] }),
};

/** What somebody from elsewhere has here: of an issuer's tokens, or a certificate's holder. All grants that are about them add up. */
export const Grant = Type.Object(
  {
    name: Name,
    /** One of `gateway.issuers`. */
    issuer: Type.Optional(Type.String({ maxLength: 31 })),
    /** Claims of its tokens that have to be met, each by one of its values: `groups: shift-*`, `realm_access.roles: operator`. */
    claims: Type.Optional(Type.Record(Type.String({ pattern: "^.{1,128}$" }), Pattern)),
    /** One of `gateway.certificateAuthorities`, or `node` for this node's own. */
    authority: Type.Optional(Type.String({ maxLength: 31 })),
    /** Of a certificate: `URI=spiffe://edge-2/*`, `DNS=pump-7.plant.example`, `CN=pump-*`. */
    holder: Type.Optional(Pattern),
    ...rights,
  },
  strict,
);
export type Grant = Static<typeof Grant>;

/** A key that a program sends as `X-API-Key`. The file holds its SHA-256 (`printf %s KEY | sha256sum`), never the key. */
export const ApiKey = Type.Object(
  {
    name: Name,
    sha256: Type.String({ pattern: "^[0-9a-f]{64}$" }),
    ...rights,
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
    paths: Type.Optional(Type.Array(Type.String({ pattern: "^/", maxLength: 1_024 }), { maxItems: 64 })),
    /** In place of paths: commands to devices of these names, by whatever route. Where one rule is about devices, all are. */
    devices: Type.Optional(Type.Array(Pattern, { maxItems: 256 })),
    /** With devices: names of commands; all unless said. GET reads, PUT writes. */
    commands: Type.Optional(Type.Array(Pattern, { maxItems: 256 })),
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
  /** By name, the scopes that a role stands for, besides this node's own: viewer, operator, admin. */
  roles: Type.Record(Type.String({ pattern: "^[a-z][a-z0-9-]{0,63}$" }), Type.Array(Scope, { maxItems: 64 }), {
    default: {},
  }),
  grants: Type.Array(Grant, { maxItems: 1_000, default: [] }),
  apiKeys: Type.Array(ApiKey, { maxItems: 1_000, default: [] }),
  policy: Type.Array(PolicyRule, { maxItems: 1_000, default: [] }),
};
const AnyAccess = Type.Object(AccessSettings, strict);
export type AccessFile = Static<typeof AnyAccess>;

/** Roles that this node's tokens have: their names are taken. */
const OWN_ROLES = { viewer: true, operator: true, admin: true } satisfies Record<OwnRole, true>;

/** Tells what is wrong with who may what; undefined where nothing is. */
export function accessFault({ roles, grants, apiKeys, policy }: AccessFile): string | undefined {
  const taken = Object.keys(roles).find((name) => Object.hasOwn(OWN_ROLES, name));
  if (taken !== undefined) return `'roles.${taken}' is a role of this node's own tokens`;
  for (const each of [...grants, ...apiKeys]) {
    const unknown = each.roles.find((role) => !Object.hasOwn(roles, role) && !Object.hasOwn(OWN_ROLES, role));
    if (unknown !== undefined) return `'${each.name}' has the role '${unknown}', which is not below 'roles'`;
  }
  for (const { name, issuer, claims, authority, holder } of grants) {
    if ((issuer === undefined) === (authority === undefined))
      return `the grant '${name}' needs either 'issuer' or 'authority'`;
    if ((authority === undefined) !== (holder === undefined) || (authority !== undefined && claims))
      return `the grant '${name}': 'holder' goes with 'authority', 'claims' with 'issuer'`;
  }
  for (const { name, paths, devices, commands } of policy) {
    if ((paths === undefined) === (devices === undefined))
      return `the rule '${name}' needs either 'paths' or 'devices'`;
    if (commands && !devices) return `the rule '${name}': 'commands' go with 'devices'`;
  }
  return undefined;
}
