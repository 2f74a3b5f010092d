/** The audit trail as others see it: what goes in, and its lines, each of which names the hash of the one before. */
import { Type } from "typebox";
import { AUDIT_ACTION_LENGTH_MAX, AUDIT_TEXT_LENGTH_MAX, AUDIT_WAITING_MAX } from "../../kernel/audit.ts";
import { get, post } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";
import { Nanos } from "../../kernel/nanos.ts";

export const TRACE_AUDIT_FULL = code(
  "TRACE_AUDIT_FULL",
  "full",
  "Free some space: what is to be audited waits in the services' memory meanwhile.",
);

const AuditEntry = Type.Object({
  timeNs: Nanos,
  action: Type.String({ maxLength: AUDIT_ACTION_LENGTH_MAX }),
  outcome: Type.Union([Type.Literal("done"), Type.Literal("denied")]),
  who: Type.String({ maxLength: AUDIT_TEXT_LENGTH_MAX }),
  what: Type.String({ maxLength: AUDIT_TEXT_LENGTH_MAX }),
  requestId: Type.Optional(Type.String({ maxLength: 100 })),
  note: Type.Optional(Type.String({ maxLength: AUDIT_TEXT_LENGTH_MAX })),
  count: Type.Integer({ minimum: 1 }),
});

const LINES_MAX = 5_000;

const Lines = Type.Object({
  /** JSON texts, oldest first; the SHA-256 of each text is `previous` of the next. */
  lines: Type.Array(Type.String()),
  /** Number of the newest line there is. */
  newest: Type.Integer(),
  /** Where the files could not be read. */
  damage: Type.Array(Type.String()),
});

/** The operations of the trace service that are about the audit trail. */
export const auditOperations = {
  audit: post("/audit", {
    quiet: true,
    summary: "Takes what the calling service has for the audit trail; answered when it is on the disk.",
    input: {
      body: Type.Object({
        entries: Type.Array(AuditEntry, { maxItems: AUDIT_WAITING_MAX }),
        dropped: Type.Integer({ minimum: 0 }),
      }),
    },
    output: Type.Object({}),
    errors: [TRACE_AUDIT_FULL],
    callers: ["*"],
    bodyBytesMax: 4 * 1024 * 1024,
  }),
  auditLines: get("/audit/lines", {
    summary: "Lists the lines of the audit trail after a number, oldest first, for verifying and keeping elsewhere.",
    input: {
      after: Type.Integer({ minimum: 0, default: 0 }),
      limit: Type.Integer({ minimum: 1, maximum: LINES_MAX, default: 1_000 }),
    },
    output: Lines,
    public: { scope: "audit:read", timeoutMs: 15_000 },
  }),
  auditSearch: get("/audit/search", {
    summary: "Finds lines of the audit trail by a text, who, service, action or outcome; the newest, oldest first.",
    input: {
      text: Type.Optional(Type.String({ maxLength: 200 })),
      who: Type.Optional(Type.String({ maxLength: AUDIT_TEXT_LENGTH_MAX })),
      service: Type.Optional(Type.String({ maxLength: 200 })),
      action: Type.Optional(Type.String({ maxLength: AUDIT_ACTION_LENGTH_MAX })),
      outcome: Type.Optional(Type.Union([Type.Literal("done"), Type.Literal("denied")])),
      limit: Type.Integer({ minimum: 1, maximum: LINES_MAX, default: 100 }),
    },
    output: Lines,
    public: { scope: "audit:read", timeoutMs: 15_000 },
  }),
};
