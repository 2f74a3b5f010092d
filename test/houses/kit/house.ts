/** A composition root with the examples in it: the node that a person with a service of their own has. */
import type { ServiceTable } from "../../../src/node/manifest.ts";
import { runProcess } from "../../../src/node/process.ts";
import { NODE_VERSION } from "../../../src/node/version.ts";

const services: ServiceTable = {
  identity: () => import("../../../src/services/identity/main.ts"),
  "core-keeper": () => import("../../../src/services/registry/main.ts"),
  trace: () => import("../../../src/services/trace/main.ts"),
  bus: () => import("../../../src/services/bus/main.ts"),
  "core-metadata": () => import("../../../src/services/core-metadata/main.ts"),
  "core-data": () => import("../../../src/services/core-data/main.ts"),
  "core-command": () => import("../../../src/services/core-command/main.ts"),
  pipeline: () => import("../../../src/services/pipeline/main.ts"),
  gateway: () => import("../../../src/services/gateway/main.ts"),
  greeter: () => import("../../../examples/greeter/main.ts"),
  prover: () => import("../../../examples/prover/main.ts"),
  "device-boiler": () => import("../../../examples/device-boiler/main.ts"),
};

if (import.meta.main) {
  const { dirname: directory } = import.meta;
  const rights = { pipeline: { names: true, connectPorts: [443] } };
  await runProcess({ services, rights, version: NODE_VERSION, directory, args: process.argv.slice(2) });
}
