/** A composition root for the tests of the gateway's processes: the test service, and the door before it. */
import { runProcess } from "../../../src/node/process.ts";
import type { ServiceTable } from "../../../src/node/manifest.ts";
import { NODE_VERSION } from "../../../src/node/version.ts";

const services: ServiceTable = {
  identity: () => import("../../../src/services/identity/main.ts"),
  "core-keeper": () => import("../../../src/services/registry/main.ts"),
  gateway: () => import("../../../src/services/gateway/main.ts"),
  "test-service": () => import("./main.ts"),
};

if (import.meta.main) {
  const { dirname: directory } = import.meta;
  await runProcess({ services, rights: {}, version: NODE_VERSION, directory, args: process.argv.slice(2) });
}
