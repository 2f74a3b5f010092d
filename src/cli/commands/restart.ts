/** `holdfast restart`: replaces the processes of services one after another, of new code where the package was replaced. */
import { parseArgs } from "node:util";
import { fail } from "../../kernel/error.ts";
import { NODE_OPTION_INVALID } from "../../node/codes.ts";
import { prepareCode } from "../../node/code.ts";
import { type Command, packageRoot } from "../command.ts";
import { localNode } from "../local-node.ts";

const help = `Usage: holdfast restart SERVICE... [--state DIR] [--json]
       holdfast restart --all [--state DIR] [--json]

Puts a new process in the place of each service's present one, one service
after another. No request fails: a service without a store serves on until its
successor is up; one with a store lets go of it, and who calls meanwhile waits.
The processes are made of the package as it is now and of the config as it is
now: after an upgrade, 'restart --all' brings the new code.

  --all         every service, those first that others need
  --state DIR   the node's state directory
  --json        one document at the end: {"restarted": [{service, pid, ms}]}

What only the node's first process does (sockets, keys, the sandbox, which
services there are) changes with 'holdfast stop' and 'holdfast start'.

Example: holdfast restart core-data gateway`;

/** A node of all services, on a slow machine. */
const RESTART_MS_MAX = 600_000;

export const command: Command = {
  name: "restart",
  summary: "Restart services, one after another, without failing a request.",
  help,
  async run(args) {
    const { state, json, services } = readArgs(args);
    const { client, call, close } = localNode(state);
    const restarted: { service: string; pid: number; ms: number }[] = [];
    try {
      await prepareCode({ root: packageRoot() }, (words) => void (json || process.stdout.write(`${words}\n`)));
      for await (const one of client.restart({ services: [...services] }, call(RESTART_MS_MAX))) {
        restarted.push(one);
        if (!json) process.stdout.write(`${one.service} was restarted in ${one.ms} ms\n`);
      }
    } finally {
      close();
    }
    if (json) process.stdout.write(`${JSON.stringify({ restarted })}\n`);
    return 0;
  },
};

function readArgs(args: readonly string[]): { state: string | undefined; json: boolean; services: readonly string[] } {
  const options = { state: { type: "string" }, all: { type: "boolean" }, json: { type: "boolean" } } as const;
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, strict: true, allowPositionals: true });
    if ((values.all === true) !== (positionals.length === 0))
      throw new Error("name the services to restart, or say --all");
    return { state: values.state, json: values.json ?? false, services: positionals };
  } catch (cause) {
    throw fail(NODE_OPTION_INVALID, `restart: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
