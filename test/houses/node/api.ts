/** A service for the supervisor's tests: it answers, and ends in every way that a service can end. */
import { Type } from "typebox";
import { contract, get, post, type Service } from "../../../src/kernel/contract.ts";

export const testService = contract("test-service", {
  echo: get("/echo", {
    summary: "Answers what it was given, with who it is and who asks.",
    input: { text: Type.String({ maxLength: 1000 }) },
    output: Type.Object({ text: Type.String(), pid: Type.Integer(), caller: Type.String(), greeting: Type.String() }),
    callers: ["node"],
    public: { scope: "node:read" },
  }),
  neighbours: get("/neighbours", {
    summary: "Lists whom the registry knows, asked over the service's own connection.",
    input: {},
    output: Type.Object({ services: Type.Array(Type.String()) }),
    callers: ["cli"],
    public: { scope: "node:read" },
  }),
  end: post("/end", {
    summary: "Ends the process by an error that nobody catches.",
    input: { body: Type.Object({ words: Type.String({ maxLength: 200 }) }) },
    output: Type.Object({}),
    public: { scope: "node:write" },
  }),
});
export type TestService = Service<typeof testService>;
