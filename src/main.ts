/** The composition root: the only file that knows every service. Each process of the node starts here, in one of its roles. */
import { NODE_VERSION } from "./node/version.ts";
import { runProcess } from "./node/process.ts";
import type { ServiceTable } from "./node/manifest.ts";
import type { RightsTable } from "./node/rights.ts";

/** The services by key, loaded when they are asked for: a process loads only its own. */
export const services: ServiceTable = {
  identity: () => import("./services/identity/main.ts"),
  "core-keeper": () => import("./services/registry/main.ts"),
  trace: () => import("./services/trace/main.ts"),
  bus: () => import("./services/bus/main.ts"),
  "core-metadata": () => import("./services/core-metadata/main.ts"),
  "core-data": () => import("./services/core-data/main.ts"),
  "core-command": () => import("./services/core-command/main.ts"),
  pipeline: () => import("./services/pipeline/main.ts"),
  cloud: () => import("./services/cloud/main.ts"),
  gateway: () => import("./services/gateway/main.ts"),
  "device-host": () => import("./devices/host/main.ts"),
  "device-virtual": () => import("./devices/virtual/main.ts"),
};

/** What some may do beyond the others. */
export const rights: RightsTable = {
  // Its clouds are elsewhere, and are named.
  pipeline: { names: true, connectPorts: [443, 8443, 8444] },
};

/** Runs this process in the role that the arguments name (node/process.ts), to its end. */
export const run = (args: readonly string[]): Promise<void> =>
  runProcess({ services, rights, version: NODE_VERSION, directory: import.meta.dirname, args });

if (import.meta.main) await run(process.argv.slice(2));
