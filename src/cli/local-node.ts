/** The way from a command to the node on this machine: its Unix socket, which only the node's user may open. */
import { existsSync } from "node:fs";
import { Agent } from "node:http";
import { join } from "node:path";
import { type Call, makeCall } from "../kernel/call.ts";
import { connect } from "../kernel/connect.ts";
import type { Contract, Service } from "../kernel/contract.ts";
import { fail } from "../kernel/error.ts";
import { node, type Node, NODE_NOT_RUNNING } from "../node/api.ts";
import { stateDirectoryOf } from "../node/state.ts";

export interface LocalNode {
  readonly client: Node;
  /** The state directory. */
  readonly path: string;
  readonly call: (timeoutMs: number) => Call;
  /** Ends the connections, so that the command can end. */
  readonly close: () => void;
}

/** Finds the running node; NODE_NOT_RUNNING. */
export const localNode = (state?: string): LocalNode => socketClient(node, "control.sock", state);

/** Makes a client over one of the node's Unix sockets (`control.sock`, `cloud.sock`); NODE_NOT_RUNNING. */
export function socketClient<C extends Contract>(
  contract: C,
  socket: string,
  state?: string,
): Omit<LocalNode, "client"> & { client: Service<C> } {
  const path = state ?? stateDirectoryOf(process.env);
  const socketPath = join(path, socket);
  if (!existsSync(socketPath)) throw fail(NODE_NOT_RUNNING, `no node runs on the state directory ${path}`);
  const agent = new Agent({ keepAlive: true, maxSockets: 4 });
  const target = { host: "", port: 0, socketPath, agent, secure: false };
  return {
    client: connect(contract, { resolver: { pick: () => target, failed: () => undefined } }),
    path,
    call: (timeoutMs) => makeCall({ caller: "cli", timeoutMs }),
    close: () => agent.destroy(),
  };
}
