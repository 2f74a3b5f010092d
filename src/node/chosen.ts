/** What of the code is to run here, and where the cloud beside it listens. */
import { fail } from "../kernel/error.ts";
import { NODE_OPTION_INVALID } from "./codes.ts";
import type { NodeConfig } from "./config.ts";
import type { Manifest } from "./manifest.ts";
import type { NodeOptions } from "./options.ts";
import type { ServiceSockets } from "./sockets.ts";
import type { StateDirectory } from "./state.ts";

/** `cloud`: the cloud alone, for machines of others. */
export type NodeRole = "node" | "cloud";

/** Port of `holdfast cloud` unless the config has another. */
const CLOUD_PORT = 8444;

/** Picks what is to run. NODE_OPTION_INVALID. */
export function chosen(all: readonly Manifest[], options: NodeOptions, role: NodeRole): Manifest[] {
  if (role === "cloud") return all.filter(({ name }) => name === "cloud");
  const unknown = options.only?.find((name) => !all.some((m) => m.name === name));
  if (unknown !== undefined)
    throw fail(
      NODE_OPTION_INVALID,
      `--only: there is no service '${unknown}'; there are: ${all.map(({ name }) => name).join(", ")}`,
    );
  const foundation = ["identity", "core-keeper"];
  return all.filter(
    ({ name }) =>
      (options.only === undefined || options.only.includes(name) || foundation.includes(name)) &&
      !(options.noCloud && name === "cloud"),
  );
}

export function cloudAt(role: NodeRole, node: NodeConfig, state: StateDirectory) {
  const host = node.cloud.host || (role === "cloud" ? "0.0.0.0" : "127.0.0.1");
  return { host, port: node.cloud.port || (role === "cloud" ? CLOUD_PORT : 0), before: state.node.cloudPort };
}

export function keepCloudPort(sockets: ReadonlyMap<string, ServiceSockets>, state: StateDirectory): void {
  const port = sockets.get("cloud")?.listen[0]?.port;
  if (port !== undefined && port !== state.node.cloudPort) state.save({ cloudPort: port });
}
