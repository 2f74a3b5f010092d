/** The contract of a service that turned hostile: it does what it is told, whatever it is. */
import { Type } from "typebox";
import { contract, post, type Service } from "../../src/kernel/contract.ts";

export const hostile = contract("hostile", {
  attempt: post("/attempt", {
    summary: "Makes the attempts of a table, and tells what came of each.",
    input: { body: Type.Object({ table: Type.String(), target: Type.Unknown() }) },
    output: Type.Object({
      outcomes: Type.Array(
        Type.Object({
          name: Type.String(),
          evidence: Type.Optional(Type.String()),
          refusal: Type.Optional(Type.String()),
        }),
      ),
    }),
    public: { scope: "node:read" },
    timeoutMs: 60_000,
  }),
});
export type Hostile = Service<typeof hostile>;
