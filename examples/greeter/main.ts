/** A microservice in a few lines: identity, registry, request ids, logs, health, metrics, config and a route come with it. */
import { contract, defineService, field, get, Type } from "@holdfast/edge/service";

export const main = defineService({
  contract: contract("greeter", {
    greet: get("/api/v3/greet/:name", {
      summary: "Greets somebody.",
      input: { name: Type.String({ maxLength: 100 }) },
      output: Type.Object({ text: Type.String() }),
      public: { scope: "greeter:read" },
    }),
  }),
  config: Type.Object({
    greeting: field(Type.String({ maxLength: 100 }), { description: "What is said.", default: "Hello" }),
  }),
  async start({ config, log, metrics }) {
    const greetings = metrics.counter("greeter_greetings", "Greetings so far.");
    return {
      service: {
        async greet({ name }, { requestId }) {
          greetings.add(1);
          log.info({ requestId, name }, "somebody was greeted");
          return { text: `${config.greeting}, ${name}!` };
        },
      },
    };
  },
});
