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
  device: Type.Optional(Type.String({ maxLength: 200, description: "The device that it was about." })),
  link: Type.Optional(
    Type.String({ maxLength: 200, description: "What a stranger called the request: his ids, a space between." }),
  ),
  bytes: Type.Optional(Type.Integer({ minimum: 0, description: "Of what was answered or sent." })),
  queuedUs: Type.Optional(Type.Integer({ minimum: 0, description: "Of the time, so much went by in a queue." })),
  retries: Type.Optional(Type.Integer({ minimum: 0 })),
  cache: Type.Optional(Type.String({ maxLength: 20, description: "`hit`, `stale`, `miss`, ..." })),
  ranges: Type.Optional(Type.Array(Range, { maxItems: 1024 })),
});
export type StoredSpan = Static<typeof Span>;

export const SPANS_MAX = 1_000;
const name = Type.Optional(Type.String({ maxLength: 200 }));
const filters = {
  service: name,
  operation: name,
  device: name,
  failed: Type.Optional(Type.Boolean({ description: "Those alone that failed." })),
  status: Type.Optional(Type.Integer({ minimum: 0, maximum: 999 })),
  leastUs: Type.Optional(Type.Integer({ minimum: 0, description: "Those alone that took at least so long." })),
  text: Type.Optional(Type.String({ maxLength: 200, description: "In the operation or the note, in any case." })),
};

const Row = Type.Object({
  service: Type.String(),
  operation: Type.String(),
  count: Type.Integer(),
  errors: Type.Integer(),
  p50Us: Type.Number(),
  p90Us: Type.Number(),
  p99Us: Type.Number(),
  p999Us: Type.Number(),
  maxUs: Type.Number(),
  total: Type.Integer({ description: "Since the trace service's start: what two looks differ by is the throughput." }),
});

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
    output: Type.Object({
      requestId: Type.String(),
      spans: Type.Array(Span),
      left: Type.Integer({ description: "So many later ones are left out." }),
    }),
    errors: [TRACE_UNKNOWN],
    callers: ["gateway"],
    public: { scope: "trace:read" },
  }),
  spans: get("/spans", {
    summary: "Finds spans by what they are, the newest or the longest first.",
    input: {
      ...filters,
      fromNs: Type.Optional(Nanos),
      toNs: Type.Optional(Nanos),
      order: Type.Union([Type.Literal("newest"), Type.Literal("longest")], { default: "newest" }),
      limit: Type.Integer({ minimum: 1, maximum: SPANS_MAX, default: 50 }),
    },
    output: Type.Object({
      spans: Type.Array(Span),
      complete: Type.Boolean({ description: "False where time was up before all was looked through." }),
    }),
    timeoutMs: 20_000,
    public: { scope: "trace:read" },
  }),
  newest: get("/newest", {
    quiet: true,
    summary: "Lists the spans that came after a place, in the order in which they came.",
    input: {
      ...filters,
      after: Type.Integer({
        minimum: 0,
        default: 0,
        description: "`next` of the answer before; 2^53 - 1 asks from now on.",
      }),
      limit: Type.Integer({ minimum: 1, maximum: SPANS_MAX, default: SPANS_MAX }),
    },
    output: Type.Object({ spans: Type.Array(Span), next: Type.Integer(), missed: Type.Integer() }),
    callers: ["pipeline"],
    public: { scope: "trace:read" },
  }),
  summary: get("/summary", {
    summary: "Tells throughput, errors and latency percentiles per service and operation over the last minutes.",
    input: { minutes: Type.Integer({ minimum: 1, maximum: 1440, default: 5 }) },
    output: Type.Object({
      seconds: Type.Integer({
        description: "From the first minute's begin, or that of the node's first start, to now.",
      }),
      rows: Type.Array(Row),
    }),
    public: { scope: "trace:read" },
  }),
  ...auditOperations,
  ...metricsOperations,
});
export type Trace = Service<typeof trace>;
