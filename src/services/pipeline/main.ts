/** Wires the pipeline. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
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

export const main = defineService({
  contract: pipeline,
  config: Type.Object(
    {
      filter: field(Filter, { description: "What leaves the node.", default: { devices: [], profiles: [], resources: [] } }),
      batchEvents: field(Type.Integer({ minimum: 1, maximum: 10_000 }), { description: "Events in a batch at the most.", default: 1_000, example: 100 }),
      batchMs: field(Type.Integer({ minimum: 1, maximum: 3_600_000 }), { description: "Milliseconds that an event waits for its batch to fill.", default: 500, example: 60_000 }),
      outboxBytesMax: field(Type.Integer({ minimum: 1_048_576 }), {
        description: "Bytes of batches that wait for the cloud; at the limit the pipeline stops, the bus keeps on, and nothing is dropped.",
        default: 1_073_741_824,
        example: 67_108_864,
      }),
    },
    { additionalProperties: false },
  ),
  needs: ["bus"],
  stateful: true,
  async start(context) {
    const { clock, config, log, node, stopping, tracer } = context;
    const directory = join(context.directory, "outbox");
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const store = new PipelineStore({ path: join(context.directory, "pipeline.db"), key: context.key("database"), log });
    const outbox = await Outbox.open({ directory, key: context.key("outbox"), sizeBytesMax: config.outboxBytesMax, clock, log }, store.followed);
    const uplink = new Uplink({ outbox, store, clock, log, tracer, signal: stopping });
    const running = uplink.run();
    const { batchEvents, batchMs } = config;
    const gathering = gather({ bus: context.connect(bus), outbox, filter: makeFilter(config.filter), batchEvents, batchMs, clock, log, tracer, signal: stopping });
    return {
      service: makePipeline({ edge: edgeName(node), outbox, store, uplink, enroll: enrollWith }),
      health: () => (outbox.journal.losses.length > 0 ? { state: "warning", reason: "the outbox lost batches to damage; see 'holdfast backlog'" } : { state: "passing" }),
      async stop() {
        await Promise.all([gathering, running]);
        await outbox.journal.close();
        store.close();
      },
    };
  },
});
