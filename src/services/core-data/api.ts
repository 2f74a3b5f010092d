/** core-data: events and readings, kept and queried, in EdgeX v3's shapes. */
import { contract, type Service } from "../../kernel/contract.ts";
import { eventOperations } from "./event.api.ts";
import { originalOperations } from "./original.api.ts";
import { readingOperations } from "./reading.api.ts";
import { retentionOperations } from "./retention.api.ts";

export const coreData = contract(
  "core-data",
  { ...eventOperations, ...readingOperations, ...retentionOperations, ...originalOperations },
  { edgex: true, edgexPort: 59_880 },
);
export type CoreData = Service<typeof coreData>;
