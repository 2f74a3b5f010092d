/** Identity: the node's certificate authority, the services' certificates, people's tokens. */
import { type Static, Type } from "typebox";
import { contract, get, post, type Service } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";
import { IDENTITY_NAME_INVALID, IDENTITY_REQUEST_INVALID } from "../../kernel/identity/codes.ts";
import { certificateOperations } from "./certificates.api.ts";
import { deviceOperations } from "./devices.api.ts";

export const IDENTITY_JOIN_REFUSED = code(
  "IDENTITY_JOIN_REFUSED",
  "unauthorized",
  "A service joins once with the secret its supervisor gave it; let the supervisor restart it.",
);
export const IDENTITY_ROLE_REFUSED = code(
  "IDENTITY_ROLE_REFUSED",
  "forbidden",
  "Ask for a role whose scopes your own token holds, or let an admin issue it.",
);
export const IDENTITY_STORE_NEWER = code(
  "IDENTITY_STORE_NEWER",
  "conflict",
  "Start the newer version of Holdfast that wrote this state directory.",
);

export const IDENTITY_AUDIT_BEHIND = code(
  "IDENTITY_AUDIT_BEHIND",
  "conflict",
  "Run 'holdfast audit verify': the audit trail lacks lines that it once had.",
);

/** Roles a token may have, and the scopes they stand for. A scope is `noun:verb`; `*` is every one. */
export const ROLES = {
  viewer: ["node:read", "device:read", "event:read", "reading:read", "trace:read"],
  operator: [
    "node:read",
    "device:read",
    "event:read",
    "reading:read",
    "trace:read",
    "command:read",
    "command:write",
    "event:write",
  ],
  admin: ["*"],
} as const;
export type Role = keyof typeof ROLES;
export const Role = Type.Union([Type.Literal("viewer"), Type.Literal("operator"), Type.Literal("admin")]);

export const Certificate = Type.Object({
  certPem: Type.String(),
  caPem: Type.String(),
  notAfterMs: Type.Integer(),
});
export type Certificate = Static<typeof Certificate>;

const AuditPlace = {
  n: Type.Integer({ minimum: 0 }),
  hash: Type.String({ maxLength: 64 }),
};

export const Jwk = Type.Record(Type.String(), Type.Unknown());

export const identity = contract("identity", {
  join: post("/join", {
    summary: "Gives a new instance its first certificate for the one-time secret of its supervisor.",
    input: {
      body: Type.Object({
        service: Type.String(),
        instance: Type.String(),
        secret: Type.String(),
        csrPem: Type.String({ maxLength: 8192 }),
      }),
    },
    output: Certificate,
    errors: [IDENTITY_JOIN_REFUSED, IDENTITY_REQUEST_INVALID, IDENTITY_NAME_INVALID],
    // A joiner has no certificate yet: the secret is its credential (served on the same TLS port, see
    // identity/README.md).
    callers: ["*", ""],
  }),
  renew: post("/renew", {
    summary: "Gives the caller a fresh certificate for the name in its present one.",
    input: { body: Type.Object({ csrPem: Type.String({ maxLength: 8192 }) }) },
    output: Certificate,
    errors: [IDENTITY_REQUEST_INVALID, IDENTITY_NAME_INVALID],
    callers: ["*"],
  }),
  issueToken: post("/token", {
    summary: "Issues a signed token (JWT, ES256) for a person.",
    input: {
      body: Type.Object({
        subject: Type.String({ minLength: 1, maxLength: 200 }),
        role: Role,
        lifetimeS: Type.Integer({ minimum: 1, maximum: 31_536_000 }),
      }),
    },
    output: Type.Object({ token: Type.String(), expiresAtMs: Type.Integer() }),
    errors: [IDENTITY_ROLE_REFUSED],
    callers: ["node"],
    public: { scope: "token:issue" },
  }),
  keys: get("/keys", {
    summary: "Lists the public keys tokens are signed with (a JWKS, RFC 7517).",
    input: {},
    output: Type.Object({ keys: Type.Array(Jwk) }),
    callers: ["*"],
    public: { scope: "node:read" },
  }),
  authority: get("/authority", {
    summary: "Tells the certificate authority's certificate.",
    input: {},
    output: Type.Object({ caPem: Type.String(), node: Type.String() }),
    callers: ["*"],
    public: { scope: "node:read" },
  }),
  auditAnchor: get("/audit/anchor", {
    quiet: true,
    summary: "Tells what identity signed last of the audit trail, and with which keys its signatures are checked.",
    input: {},
    output: Type.Object({
      node: Type.String(),
      ...AuditPlace,
      /** SPKI as PEM. */
      keys: Type.Array(Type.String()),
    }),
    callers: ["trace"],
    public: { scope: "audit:read" },
  }),
  ...certificateOperations,
  ...deviceOperations,
  signAudit: post("/audit/sign", {
    quiet: true,
    summary: "Signs where the audit trail ends, and keeps that; never a place before the one that was signed last.",
    input: { body: Type.Object(AuditPlace) },
    output: Type.Object({ signature: Type.String() }),
    errors: [IDENTITY_AUDIT_BEHIND],
    callers: ["trace"],
  }),
});
export type Identity = Service<typeof identity>;
