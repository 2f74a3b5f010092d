/** Wires the hostile service: an ordinary one to the node, confined as every one; its door is the test's. */
import { Type } from "typebox";
import { serve } from "../../src/kernel/serve.ts";
import { defineService } from "../../src/kernel/service.ts";
import { hostile, type Hostile } from "./api.ts";
import { type Target, tryAll } from "./attempt.ts";
import { TABLES } from "./tables.ts";

export const main = defineService({
  contract: hostile,
  config: Type.Object({}, { additionalProperties: false }),
  needs: ["bus"],
  stateful: true,
  doors: [{ name: "plain", port: 18_878, when: "always" }],
  async start(context) {
    const { clock, doors, log, tracer } = context;
    const service: Hostile = {
      attempt: async ({ body: { table, target } }) => ({
        outcomes: await tryAll(TABLES[table] ?? [], {
          target: { ...(target as Target), ownDirectory: context.directory },
          context: context as never,
        }),
      }),
    };
    const door = doors["plain"];
    const served =
      door &&
      (await serve({ contract: hostile, service, listen: door, plainCaller: "open-edgex", log, clock, tracer }));
    return { service, stop: async () => served?.close() };
  },
});
