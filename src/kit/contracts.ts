/** The contracts of the node's services, for `context.connect`: each makes a client that is, to its caller, the service itself. */
export { bus } from "../services/bus/api.ts";
export { coreCommand } from "../services/core-command/api.ts";
export { coreData } from "../services/core-data/api.ts";
export { coreMetadata } from "../services/core-metadata/api.ts";
