/** The way from a command to the node on this machine: its Unix socket, which only the node's user may open. */
import { lstatSync } from "node:fs";
import { Agent } from "node:http";
import { join, resolve } from "node:path";
import { type Call, makeCall } from "../kernel/call.ts";
import { connect } from "../kernel/connect.ts";
import type { Contract, Service } from "../kernel/contract.ts";
import { Failure, fail, UNAVAILABLE } from "../kernel/error.ts";
import { node, type Node, NODE_NOT_RUNNING } from "../node/api.ts";
import { stateDirectoryOf } from "../node/state.ts";
import { CLI_FORBIDDEN } from "./exit.ts";

export interface LocalNode {
  readonly client: Node;
  /** The state directory. */
  readonly path: string;
  readonly call: (timeoutMs: number) => Call;
  /** Ends the connections, so that the command can end. */
  readonly close: () => void;
}

/** Where a node started by root keeps its state. */
const ROOTS_STATE = "/var/lib/holdfast";

/** Finds the running node; NODE_NOT_RUNNING, CLI_FORBIDDEN. */
export const localNode = (state?: string): LocalNode => socketClient(node, "control.sock", state);

/** Makes a client over one of the node's Unix sockets (`control.sock`, `cloud.sock`); NODE_NOT_RUNNING, CLI_FORBIDDEN. */
export function socketClient<C extends Contract>(
  contract: C,
  socket: string,
  state?: string,
): Omit<LocalNode, "client"> & { client: Service<C> } {
  const path = state === undefined ? stateDirectoryOf(process.env) : resolve(state);
  const socketPath = join(path, socket);
  const what = socket === "cloud.sock" ? "cloud" : "node";
  requireSocket(socketPath, path, what);
  const agent = new Agent({ keepAlive: true, maxSockets: 4 });
  const target = { host: "", port: 0, socketPath, agent, secure: false };
  const client = connect(contract, { resolver: { pick: () => target, failed: () => undefined } });
  return {
    client: inWordsOfTheNode(client, path, what),
    path,
    call: (timeoutMs) => makeCall({ caller: "cli", timeoutMs }),
    close: () => agent.destroy(),
  };
}

function requireSocket(socketPath: string, path: string, what: string): void {
  try {
    lstatSync(socketPath);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EACCES") throw forbidden(path, cause);
    throw fail(NODE_NOT_RUNNING, `no ${what} runs on the state directory ${path}${elsewhere(path)}`, { cause });
  }
}

/** A person forgets that root started it: says where a node seems to run instead. */
function elsewhere(path: string): string {
  if (path === ROOTS_STATE) return "";
  try {
    lstatSync(join(ROOTS_STATE, "control.sock"));
    return ` (but one of root's on ${ROOTS_STATE}: sudo holdfast ..., or --state)`;
  } catch {
    // None there either.
    return "";
  }
}

const forbidden = (path: string, cause: unknown): Failure =>
  fail(CLI_FORBIDDEN, `the state directory ${path} is another user's, and so is its node`, { cause });

/** A socket that nobody listens on is what a killed node leaves behind. */
function inWordsOfTheNode<C extends Contract>(client: Service<C>, path: string, what: string): Service<C> {
  const wordsOf = (error: unknown): unknown => {
    const reason =
      error instanceof Failure && error.code === UNAVAILABLE.code
        ? (error.cause as NodeJS.ErrnoException | undefined)?.code
        : undefined;
    if (reason === "EACCES") return forbidden(path, error);
    if (reason !== "ECONNREFUSED" && reason !== "ENOENT") return error;
    const said = `no ${what} runs on the state directory ${path}; its socket is left over from the last one`;
    return fail(NODE_NOT_RUNNING, said, { cause: error });
  };
  async function* streamed(items: AsyncIterable<unknown>): AsyncGenerator {
    try {
      yield* items;
    } catch (error) {
      throw wordsOf(error);
    }
  }
  type Operation = (input: never, call: Call) => Promise<unknown> | AsyncIterable<unknown>;
  const wrapped = Object.entries(client as Record<string, Operation>).map(([name, operation]) => [
    name,
    (input: never, call: Call) => {
      const answer = operation(input, call);
      if (!(answer instanceof Promise)) return streamed(answer);
      return answer.catch((error: unknown) => {
        throw wordsOf(error);
      });
    },
  ]);
  return Object.fromEntries(wrapped) as Service<C>;
}
