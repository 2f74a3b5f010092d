/** Wires core-metadata. */
import { join } from "node:path";
import { Type } from "typebox";
import { healthAfterDamage } from "../../kernel/database-errors.ts";
import { defineService } from "../../kernel/service.ts";
import { bus } from "../bus/api.ts";
import { makeAnnouncer } from "./announce.ts";
import { coreMetadata } from "./api.ts";
import { makeCoreMetadata } from "./service.ts";
import { openMetadataStore } from "./store.ts";

export const main = defineService({
  contract: coreMetadata,
  config: Type.Object({}, { additionalProperties: false }),
  needs: ["bus"],
  stateful: true,
  async start(context) {
    const { clock, log } = context;
    const store = openMetadataStore({
      path: join(context.directory, "metadata.db"),
      key: context.keys("database").all(),
      log,
    });
    const announce = makeAnnouncer({ bus: context.connect(bus), clock, log });
    return {
      service: makeCoreMetadata({ store, clock, announce, log }),
      health: () =>
        healthAfterDamage(store.replaced, "device services add their own devices again, others are to be added"),
      stop: async () => store.close(),
    };
  },
});
