/** Request forensics: every service's spans, and the story of one request told from them. */
import { type Static, Type } from "typebox";
import { contract, get, post, type Service } from "../../kernel/contract.ts";
import { code } from "../../kernel/error.ts";
import { Nanos } from "../../kernel/nanos.ts";
import { auditOperations } from "./audit.api.ts";
import { metricsOperations } from "./metrics.api.ts";

export const TRACE_UNKNOWN = code(
  "TRACE_UNKNOWN",
  "not-found",
  "Check the id; spans are kept for trace.keepHours and trace.sizeBytesMax.",
);

export const Range = Type.Object({
  publisher: Type.String(),
  epoch: Type.Integer(),
  from: Type.Integer(),
  to: Type.Integer(),
});
export const Span = Type.Object({
  requestId: Type.Optional(Type.String()),
  spanId: Type.String(),
  parentId: Type.Optional(Type.String()),
  service: Type.String({ maxLength: 200 }),
  operation: Type.String({ maxLength: 200 }),
  startNs: Nanos,
  durationUs: Type.Integer({ minimum: 0 }),
  status: Type.Integer(),
  note: Type.Optional(Type.String({ maxLength: 1024 })),
  ranges: Type.Optional(Type.Array(Range, { maxItems: 1024 })),
});
export type StoredSpan = Static<typeof Span>;

export const trace = contract("trace", {
  record: post("/spans", {
    quiet: true,
    summary: "Takes finished spans of the calling service.",
    input: { body: Type.Object({ spans: Type.Array(Span, { maxItems: 8192 }), dropped: Type.Integer() }) },
    output: Type.Object({}),
    callers: ["*"],
    bodyBytesMax: 8 * 1024 * 1024,
  }),
  story: get("/story/:id", {
    summary:
      "Tells what happened to a request, or to the event or reading of an id, over all services, in order of time.",
    input: { id: Type.String({ minLength: 1, maxLength: 100 }) },
    output: Type.Object({ requestId: Type.String(), spans: Type.Array(Span) }),
    errors: [TRACE_UNKNOWN],
    callers: ["gateway"],
    public: { scope: "trace:read" },
  }),
  summary: get("/summary", {
    summary: "Tells throughput, errors and latency percentiles per service and operation over the last minutes.",
    input: { minutes: Type.Integer({ minimum: 1, maximum: 1440, default: 5 }) },
    output: Type.Object({
      rows: Type.Array(
        Type.Object({
          service: Type.String(),
          operation: Type.String(),
          count: Type.Integer(),
          errors: Type.Integer(),
          p50Us: Type.Number(),
          p90Us: Type.Number(),
          p99Us: Type.Number(),
          maxUs: Type.Number(),
        }),
      ),
    }),
    public: { scope: "trace:read" },
  }),
  ...auditOperations,
  ...metricsOperations,
});
export type Trace = Service<typeof trace>;
