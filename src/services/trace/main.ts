/** Wires the trace service. */
import { join } from "node:path";
import { Type } from "typebox";
import { healthAfterDamage } from "../../kernel/database-errors.ts";
import { RetentionClock } from "../../kernel/retention-clock.ts";
import { defineService, field } from "../../kernel/service.ts";
import { trace } from "./api.ts";
import { makeTrace } from "./service.ts";
import { openSpanStore } from "./store.ts";

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
    },
    { additionalProperties: false },
  ),
  needs: [],
  stateful: true,
  async start(context) {
    const { clock, config, log, node } = context;
    const store = openSpanStore({ path: join(context.directory, "spans.db"), key: context.key("database"), log });
    const kept = store.keptSeconds;
    const retentionClock = new RetentionClock(clock, kept === undefined ? undefined : kept * 1000);
    return {
      service: makeTrace({ store, clock, retentionClock, node, ...config }),
      health: () => healthAfterDamage(store.replaced, "it tells of requests from then on"),
      stop: async () => store.close(),
    };
  },
});
