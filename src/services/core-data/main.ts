/** Wires core-data. */
import { join } from "node:path";
import { Type } from "typebox";
import { healthAfterDamage } from "../../kernel/database-errors.ts";
import { RetentionClock } from "../../kernel/retention-clock.ts";
import { defineService, field } from "../../kernel/service.ts";
import { bus } from "../bus/api.ts";
import { coreMetadata } from "../core-metadata/api.ts";
import { coreData } from "./api.ts";
import { ChunkIndex } from "./chunk-index.ts";
import { Follower } from "./follow.ts";
import { Holdings } from "./holdings.ts";
import { Originals } from "./originals.ts";
import { EventQuery } from "./query.ts";
import { Remover } from "./remove.ts";
import { Retainer } from "./retain.ts";
import { KeepHours, Retention, RetentionRules } from "./retention.ts";
import { makeCoreData } from "./service.ts";
import { EventStore } from "./store.ts";
import { Wishes } from "./wishes.ts";

const RETAIN_EVERY_MS = 60_000;

export const main = defineService({
  contract: coreData,
  config: Type.Object(
    {
      keepHours: field(KeepHours, {
        description:
          "Hours that readings are kept at the edge, from when they came, unless a rule of `retention` or the device's AutoEvent says otherwise; a clock that jumps makes none too old.",
        default: 720,
        example: 168,
      }),
      sizeBytesMax: field(Type.Integer({ minimum: 1_048_576 }), {
        description: "Bytes that events may take on the disk; above it the oldest go (about 1 to 5 bytes a reading).",
        default: 1_073_741_824,
        example: 268_435_456,
      }),
      retention: field(RetentionRules, {
        description:
          "How long the readings of some devices and resources are kept; the first rule that fits a reading counts (docs/retention.md).",
        default: [],
        example: [{ devices: "pump-*", resources: "Vibration*", keepHours: 24 }],
      }),
    },
    { additionalProperties: false },
  ),
  needs: ["bus", "core-metadata"],
  stateful: true,
  async start(context) {
    const { clock, config, log, node, stopping, tracer } = context;
    const path = join(context.directory, "events.db");
    const store = new EventStore({ path, key: context.keys("database").all(), node, log });
    const chunks = new ChunkIndex(store);
    const query = new EventQuery(store, chunks);
    const retentionClock = new RetentionClock(clock, store.state("retentionMs"));
    const busClient = context.connect(bus);
    const follower = new Follower({ bus: busClient, store, retentionClock, clock, log, tracer, signal: stopping });
    context.metrics.read(
      "counter",
      "holdfast_core_data_position",
      "Position of the bus up to which events are kept.",
      () => {
        return store.position;
      },
    );
    const { settle } = follower;
    const remover = new Remover({ store, chunks, query, settle });
    const { keepHours, sizeBytesMax } = config;
    const retention = new Retention({ rules: config.retention, keepHours });
    const retainer = new Retainer({ store, chunks, retention, sizeBytesMax, settle });
    const holdings = new Holdings({ store, retention, sizeBytesMax, settle, nowMs: () => retentionClock.nowMs() });
    const originals = new Originals(store, settle);
    const metadata = context.connect(coreMetadata);
    const wishes = new Wishes({ metadata, retention, clock, log, signal: stopping });
    let retaining = Promise.resolve();
    const retainOnce = async () => {
      const isInformed = await wishes.read();
      if (!stopping.aborted) await retainer.retain(retentionClock.nowMs(), isInformed);
    };
    const retain = () => {
      retaining = retaining
        .then(retainOnce)
        .catch((error: unknown) => log.error({ err: error }, "old events could not be removed"));
    };
    const timer = setInterval(retain, RETAIN_EVERY_MS).unref();
    return {
      service: makeCoreData({ query, remover, holdings, originals, bus: busClient, clock, log }),
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
