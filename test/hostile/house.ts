/** A composition root with victims, and one service that turned hostile. */
import type { ServiceTable } from "../../src/node/manifest.ts";
import { runProcess } from "../../src/node/process.ts";
import { NODE_VERSION } from "../../src/node/version.ts";

const services: ServiceTable = {
  identity: () => import("../../src/services/identity/main.ts"),
  "core-keeper": () => import("../../src/services/registry/main.ts"),
  trace: () => import("../../src/services/trace/main.ts"),
  bus: () => import("../../src/services/bus/main.ts"),
  "core-metadata": () => import("../../src/services/core-metadata/main.ts"),
  gateway: () => import("../../src/services/gateway/main.ts"),
  hostile: () => import("./main.ts"),
};

if (import.meta.main) {
  const { dirname: directory } = import.meta;
  await runProcess({ services, rights: {}, version: NODE_VERSION, directory, args: process.argv.slice(2) });
}
