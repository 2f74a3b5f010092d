/** core-metadata: devices, profiles and device services, in EdgeX v3's shapes. Composed of one part per noun. */
import { contract, type Service } from "../../kernel/contract.ts";
import { deviceOperations } from "./device.api.ts";
import { profileOperations } from "./deviceprofile.api.ts";
import { serviceOperations } from "./deviceservice.api.ts";
import { watcherOperations } from "./provisionwatcher.api.ts";

export const coreMetadata = contract(
  "core-metadata",
  { ...deviceOperations, ...profileOperations, ...serviceOperations, ...watcherOperations },
  { edgex: true, edgexPort: 59_881 },
);
export type CoreMetadata = Service<typeof coreMetadata>;
