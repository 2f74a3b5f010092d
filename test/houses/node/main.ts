/** Wires the test service. Its door is the operator's own: plain, on loopback, so that a test needs no certificate. */
import { Type } from "typebox";
import { makeCall } from "../../../src/kernel/call.ts";
import { serve } from "../../../src/kernel/serve.ts";
import { defineService, field } from "../../../src/kernel/service.ts";
import { registry } from "../../../src/services/registry/api.ts";
import { type TestService, testService } from "./api.ts";

export const main = defineService({
  contract: testService,
  config: Type.Object(
    {
      greeting: field(Type.String({ maxLength: 100 }), {
        description: "What it says of itself.",
        default: "hello",
        example: "good morning",
      }),
      greetingFile: field(Type.String({ maxLength: 100 }), {
        description: "File, or secret, with what it says of itself instead.",
        default: "",
        example: "secret:greeting",
        reach: "file",
      }),
      endsAtStart: field(Type.Boolean(), {
        description: "Ends at every start, as a service with a fault does.",
        default: false,
        example: true,
      }),
    },
    { additionalProperties: false },
  ),
  needs: [],
  stateful: true,
  doors: [{ name: "plain", port: 18_877, when: "always" }],
  async start(context) {
    const { clock, config, doors, log, tracer } = context;
    if (config.endsAtStart) throw new Error("this service was told to end");
    const keeper = context.connect(registry);
    const greeting = config.greetingFile === "" ? config.greeting : context.secrets[config.greetingFile];
    const service: TestService = {
      async echo({ text }, call) {
        return { text, pid: process.pid, caller: call.caller, greeting };
      },
      async neighbours(_, call) {
        const own = makeCall({ caller: context.name, timeoutMs: 5_000, requestId: call.requestId });
        const { instances } = await keeper.instances({}, own);
        return { services: instances.map((instance) => instance.service).sort() };
      },
      async end({ body }) {
        setImmediate(() => {
          throw new Error(body.words);
        });
        return {};
      },
    };
    const door = doors["plain"];
    const plain = door && { contract: testService, service, listen: door, plainCaller: "open-edgex" as const };
    const served = plain && (await serve({ ...plain, log, clock, tracer }));
    return { service, stop: async () => served?.close() };
  },
});
