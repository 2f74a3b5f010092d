/** Certificates as an operator sees them: what was issued, revoking it, and replacing the authority. */
import { Type } from "typebox";
import { get, post } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";

export const IDENTITY_REVOKE_UNKNOWN = code(
  "IDENTITY_REVOKE_UNKNOWN",
  "invalid",
  "Name a service, or a serial number of 32 hexadecimal digits: 'holdfast certs' lists both.",
);
export const IDENTITY_REVOKED_TOO_MANY = code(
  "IDENTITY_REVOKED_TOO_MANY",
  "limited",
  "Replace the authority instead ('holdfast certs rotate-ca'): none of its old certificates is believed after that.",
);
export const IDENTITY_ROTATION_RUNNING = code(
  "IDENTITY_ROTATION_RUNNING",
  "conflict",
  "Wait until the authority that was made last has taken over: 'holdfast certs' tells when.",
);

const Fingerprint = Type.String();

const AuthorityState = Type.Object({
  fingerprint: Fingerprint,
  /** `next`: believed, issues from `untilMs` on; `current`: issues; `old`: believed until `untilMs`. */
  state: Type.Union([Type.Literal("next"), Type.Literal("current"), Type.Literal("old")]),
  untilMs: Type.Optional(Type.Integer()),
});

const IssuedOne = Type.Object({
  /** A service, or `device/NAME`. */
  name: Type.String(),
  instance: Type.String(),
  serial: Type.String(),
  issuedAtMs: Type.Integer(),
  notAfterMs: Type.Integer(),
  revoked: Type.Boolean(),
});

const RevokedOne = Type.Object({
  serial: Type.Optional(Type.String()),
  service: Type.Optional(Type.String()),
  untilMs: Type.Optional(Type.Integer()),
  atMs: Type.Integer(),
});

/** The operations of identity that are about certificates. */
export const certificateOperations = {
  certificates: get("/certificates", {
    summary:
      "Lists the authorities that are believed, the certificates issued since identity's start, and the revoked ones.",
    input: {},
    output: Type.Object({
      authorities: Type.Array(AuthorityState),
      lifetimeMs: Type.Integer(),
      issued: Type.Array(IssuedOne),
      revoked: Type.Array(RevokedOne),
    }),
    public: { scope: "certificate:read" },
  }),
  revoke: post("/certificates/revoke", {
    summary: "Revokes one certificate by its serial number, or all of a service, and has the service started anew.",
    input: { body: Type.Object({ what: Type.String({ minLength: 1, maxLength: 100 }) }) },
    output: Type.Object({
      serial: Type.Optional(Type.String()),
      service: Type.Optional(Type.String()),
    }),
    errors: [IDENTITY_REVOKE_UNKNOWN, IDENTITY_REVOKED_TOO_MANY],
    public: { scope: "certificate:revoke" },
  }),
  rotateAuthority: post("/certificates/authority", {
    summary:
      "Makes a new authority: believed at once, issuing after the overlap; the old one is dropped when its last certificates have ended.",
    input: { body: Type.Object({ overlapMs: Type.Integer({ minimum: 0, maximum: 31_536_000_000 }) }) },
    output: Type.Object({ fingerprint: Fingerprint, issuesFromMs: Type.Integer() }),
    errors: [IDENTITY_ROTATION_RUNNING],
    public: { scope: "certificate:rotate" },
  }),
};
