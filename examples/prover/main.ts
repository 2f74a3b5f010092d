/** A service that is written, or whose libraries are, for OpenTelemetry's API: its spans are steps of the node's stories. */
import { SpanStatusCode, trace } from "@opentelemetry/api";
import { contract, defineService, get, Type } from "@holdfast/edge/service";

const tracer = trace.getTracer("prover");

export const main = defineService({
  contract: contract("prover", {
    factors: get("/api/v3/factors/:number", {
      summary: "Takes a number apart.",
      input: { number: Type.Integer({ minimum: 2, maximum: 1_000_000_000 }) },
      output: Type.Object({ factors: Type.Array(Type.Integer()) }),
      public: { scope: "prover:read" },
    }),
  }),
  async start({ log }) {
    return {
      service: {
        factors: async ({ number }) =>
          tracer.startActiveSpan("divide", (span) => {
            const factors: number[] = [];
            let rest = number;
            for (let by = 2; rest > 1; by = by * by > rest ? rest : by + 1)
              for (; rest % by === 0; rest /= by) factors.push(by);
            span.setAttribute("factors", factors.length);
            if (factors.length === 1) span.setStatus({ code: SpanStatusCode.ERROR, message: "it is prime" });
            log.info({ number }, "a number was taken apart");
            span.end();
            return { factors };
          }),
      },
    };
  },
});
