/** Wires core-data. */
import { join } from "node:path";
import { Type } from "typebox";
import { defineService, field } from "../../kernel/service.ts";
import { bus } from "../bus/api.ts";
import { coreData } from "./api.ts";
import { followBus } from "./follow.ts";
import { EventQuery } from "./query.ts";
import { Remover } from "./remove.ts";
import { makeCoreData } from "./service.ts";
import { EventStore } from "./store.ts";

const RETAIN_EVERY_MS = 60_000;
const NS_PER_HOUR = 3_600_000_000_000n;

export const main = defineService({
  contract: coreData,
  config: Type.Object(
    {
      keepHours: field(Type.Integer({ minimum: 1, maximum: 876_000 }), {
        description: "Hours that events are kept at the edge.",
        default: 720,
        example: 168,
      }),
      sizeBytesMax: field(Type.Integer({ minimum: 1_048_576 }), {
        description: "Bytes of events that are kept; above it the oldest go (about 1 to 5 bytes a reading).",
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
    const store = new EventStore({
      path: join(context.directory, "events.db"),
      key: context.key("database"),
      node,
      log,
    });
    const query = new EventQuery(store);
    const remover = new Remover(store, query);
    const busClient = context.connect(bus);
    const following = followBus({ bus: busClient, store, clock, log, tracer, signal: stopping });
    let retaining = Promise.resolve();
    const retain = () => {
      const limits = { maxAgeNs: BigInt(config.keepHours) * NS_PER_HOUR, sizeBytesMax: config.sizeBytesMax };
      retaining = remover
        .retain(limits, clock.wallNs())
        .catch((error: unknown) => log.error({ err: error }, "old events could not be removed"));
    };
    const timer = setInterval(retain, RETAIN_EVERY_MS).unref();
    return {
      service: makeCoreData({ query, remover, bus: busClient, clock, log }),
      async stop() {
        clearInterval(timer);
        await Promise.all([following, retaining]);
        store.close();
      },
    };
  },
});
