/** Wires core-data. */
import { join } from "node:path";
import { Type } from "typebox";
import { healthAfterDamage } from "../../kernel/database-errors.ts";
import { defineService, field } from "../../kernel/service.ts";
import { bus } from "../bus/api.ts";
import { coreData } from "./api.ts";
import { ChunkIndex } from "./chunk-index.ts";
import { Follower } from "./follow.ts";
import { EventQuery } from "./query.ts";
import { Remover } from "./remove.ts";
import { RetentionClock } from "../../kernel/retention-clock.ts";
import { makeCoreData } from "./service.ts";
import { EventStore } from "./store.ts";

const RETAIN_EVERY_MS = 60_000;
const MS_PER_HOUR = 3_600_000;

export const main = defineService({
  contract: coreData,
  config: Type.Object(
    {
      keepHours: field(Type.Integer({ minimum: 1, maximum: 876_000 }), {
        description:
          "Hours that events are kept at the edge, from when they came; a clock that jumps makes none too old.",
        default: 720,
        example: 168,
      }),
      sizeBytesMax: field(Type.Integer({ minimum: 1_048_576 }), {
        description: "Bytes that events may take on the disk; above it the oldest go (about 1 to 5 bytes a reading).",
        default: 1_073_741_824,
        example: 268_435_456,
      }),
    },
    { additionalProperties: false },
  ),
  needs: ["bus"],
  stateful: true,
  async start(context) {
    const { clock, config, log, node, stopping, tracer } = context;
    const path = join(context.directory, "events.db");
    const store = new EventStore({ path, key: context.key("database"), node, log });
    const chunks = new ChunkIndex(store);
    const query = new EventQuery(store, chunks);
    const retentionClock = new RetentionClock(clock, store.state("retentionMs"));
    const busClient = context.connect(bus);
    const follower = new Follower({ bus: busClient, store, retentionClock, clock, log, tracer, signal: stopping });
    const { settle } = follower;
    const remover = new Remover({ store, chunks, query, settle });
    let retaining = Promise.resolve();
    const retain = () => {
      const limits = { ageMsMax: config.keepHours * MS_PER_HOUR, sizeBytesMax: config.sizeBytesMax };
      retaining = remover
        .retain(limits, retentionClock.nowMs())
        .catch((error: unknown) => log.error({ err: error }, "old events could not be removed"));
    };
    const timer = setInterval(retain, RETAIN_EVERY_MS).unref();
    return {
      service: makeCoreData({ query, remover, bus: busClient, clock, log }),
      health: () => healthAfterDamage(store.replaced, "of older events, those are here that the bus still had"),
      async stop() {
        clearInterval(timer);
        try {
          await Promise.all([follower.stopped(), retaining]);
        } finally {
          store.close();
        }
      },
    };
  },
});
