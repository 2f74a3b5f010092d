/** Wires the trace service. */
import { join } from "node:path";
import { Type } from "typebox";
import { healthAfterDamage } from "../../kernel/database-errors.ts";
import { RetentionClock } from "../../kernel/retention-clock.ts";
import { defineService, field } from "../../kernel/service.ts";
import { identity } from "../identity/api.ts";
import { trace } from "./api.ts";
import { makeAudits } from "./audit/audits.ts";
import { AuditTrail } from "./audit/trail.ts";
import { makeTrace } from "./service.ts";
import { openSpanStore } from "./store.ts";

const SECONDS_PER_DAY = 86_400;

export const main = defineService({
  contract: trace,
  config: Type.Object(
    {
      keepHours: field(Type.Integer({ minimum: 1, maximum: 8_760 }), {
        description: "Hours that spans are kept.",
        default: 168,
        example: 24,
      }),
      sizeBytesMax: field(Type.Integer({ minimum: 1_048_576 }), {
        description: "Bytes of spans that are kept; above it the oldest go.",
        default: 67_108_864,
        example: 16_777_216,
      }),
      auditKeepDays: field(Type.Integer({ minimum: 1, maximum: 3_650 }), {
        description: "Days that the audit trail is kept.",
        default: 365,
        example: 90,
      }),
      auditSizeBytesMax: field(Type.Integer({ minimum: 1_048_576 }), {
        description: "Bytes of the audit trail that are kept; above it the oldest go, and the trail says so.",
        default: 67_108_864,
        example: 16_777_216,
      }),
    },
    { additionalProperties: false },
  ),
  needs: [],
  stateful: true,
  async start(context) {
    const { clock, config, log, node } = context;
    const store = openSpanStore({
      path: join(context.directory, "spans.db"),
      key: context.keys("database").all(),
      log,
    });
    const trail = new AuditTrail({
      directory: join(context.directory, "audit"),
      key: context.key("audit"),
      log,
      sizeBytesMax: config.auditSizeBytesMax,
      keepSeconds: config.auditKeepDays * SECONDS_PER_DAY,
    });
    const kept = Math.max(store.keptSeconds ?? 0, trail.keptSeconds ?? 0);
    const retentionClock = new RetentionClock(clock, kept === 0 ? undefined : kept * 1000);
    const audits = makeAudits({
      trail,
      retentionClock,
      identity: context.connect(identity),
      log,
    });
    context.metrics.read("gauge", "holdfast_trace_store_bytes", "Bytes of spans that are kept.", () => store.sizeBytes);
    return {
      service: makeTrace({ store, audits: audits.operations, clock, retentionClock, node, ...config }),
      health: () => healthAfterDamage(store.replaced, "it tells of requests from then on"),
      async stop() {
        await audits.signAll();
        audits.close();
        store.close();
      },
    };
  },
});
