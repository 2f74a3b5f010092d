/** The registry: which instance of which service is where, and how well. Service key core-keeper, as in EdgeX. */
import { contract, type Service } from "../../kernel/contract.ts";
import { instanceOperations } from "./instances.api.ts";
import { keyOperations } from "./kvs.api.ts";
import { registrationOperations } from "./registrations.api.ts";

export * from "./codes.ts";
export * from "./instances.api.ts";

export const registry = contract(
  "core-keeper",
  { ...instanceOperations, ...registrationOperations, ...keyOperations },
  { edgex: true, edgexPort: 59_890 },
);
export type Registry = Service<typeof registry>;
