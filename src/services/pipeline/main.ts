/** Wires the pipeline. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Type } from "typebox";
import { defineService, field } from "../../kernel/service.ts";
import { bus } from "../bus/api.ts";
import { pipeline } from "./api.ts";
import { edgeName, enrollWith } from "./enroll.ts";
import { Filter, makeFilter } from "./filter.ts";
import { gather } from "./gather.ts";
import { Outbox } from "./outbox.ts";
import { makePipeline } from "./service.ts";
import { PipelineStore } from "./store.ts";
import { Uplink } from "./uplink.ts";

/** The bus is followed so long after the start at the latest, whether the cloud has answered or not. */
const ASKED_MS_MAX = 2_000;
/** Less would not hold the batches of one large record of the bus. */
const OUTBOX_BYTES_MIN = 4_194_304;

export const main = defineService({
  contract: pipeline,
  config: Type.Object(
    {
      filter: field(Filter, {
        description: "What leaves the node.",
        default: { devices: [], profiles: [], resources: [] },
      }),
      batchEvents: field(Type.Integer({ minimum: 1, maximum: 10_000 }), {
        description: "Events in a batch at the most.",
        default: 1_000,
        example: 100,
      }),
      batchMs: field(Type.Integer({ minimum: 1, maximum: 3_600_000 }), {
        description: "Milliseconds that an event waits for its batch to fill.",
        default: 500,
        example: 60_000,
      }),
      outboxBytesMax: field(Type.Integer({ minimum: OUTBOX_BYTES_MIN }), {
        description:
          "Bytes of batches that wait for the cloud; at the limit the pipeline stops, the bus keeps on, and nothing is dropped.",
        default: 1_073_741_824,
        example: 67_108_864,
      }),
    },
    { additionalProperties: false },
  ),
  needs: ["bus"],
  stateful: true,
  async start(context) {
    const { clock, config, directory, log, node, stopping, tracer } = context;
    const store = new PipelineStore({ path: join(directory, "pipeline.db"), key: context.key("database"), log });
    const key = context.key("outbox");
    const known = { followed: store.followed, stream: store.stream };
    const outbox = await Outbox.open({ directory, key, sizeBytesMax: config.outboxBytesMax, clock, log, known }).catch(
      (error: unknown) => {
        store.close();
        throw error;
      },
    );
    const { batchEvents, batchMs } = config;
    const uplink = new Uplink({ outbox, store, clock, log, tracer, signal: stopping });
    const running = uplink.run();
    const follow = {
      bus: context.connect(bus),
      outbox,
      store,
      filter: makeFilter(config.filter),
      batchEvents,
      batchMs,
      clock,
      log,
      tracer,
      signal: stopping,
    };
    // Were the outbox damaged, the cloud knows best from where on the bus is to be followed: it is asked first.
    const gathering = Promise.race([
      uplink.asked,
      sleep(ASKED_MS_MAX, undefined, { signal: stopping, ref: false }).catch(() => undefined),
    ]).then(() => gather(follow));
    return {
      service: makePipeline({ edge: edgeName(node), outbox, store, uplink, enroll: enrollWith }),
      health: () => healthOf(outbox, store),
      async stop() {
        await Promise.all([gathering, running]);
        uplink.save();
        await outbox.journal.close();
        store.close();
      },
    };
  },
});

function healthOf(
  { journal }: Outbox,
  { replaced, missing }: PipelineStore,
): { state: "passing" | "warning"; reason?: string } {
  if (replaced)
    return { state: "warning", reason: `its damaged database was moved to ${replaced.movedTo}: enroll the node again` };
  if (journal.losses.length > 0 || missing.length > 0)
    return { state: "warning", reason: "batches were lost before the cloud had them; see 'holdfast backlog'" };
  return { state: "passing" };
}
