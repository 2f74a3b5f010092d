/** `holdfast start`: makes the code where it is not made yet, then becomes the node's first process. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fail } from "../../kernel/error.ts";
import { NODE_START_FAILED } from "../../node/api.ts";
import { prepareCode } from "../../node/code.ts";
import { NODE_FLAGS } from "../../node/flags.ts";
import { readOptions } from "../../node/options.ts";
import type { Command } from "../main.ts";

const help = `Usage: holdfast start [options]

Starts the node: its identity at the first start, then every service as its own confined process, and a cloud beside it
for a first look. It needs no configuration, no root, no network. Ctrl-C stops it; the next start carries on.

  --compact        all services in one process, for machines with little memory
  --open-edgex     open EdgeX's ports on 127.0.0.1 without TLS, for unmodified EdgeX software on this machine
  --no-cloud       start no cloud beside the node; 'holdfast enroll' joins it to one elsewhere
  --only A,B       start these services alone (and identity and core-keeper, which all need)
  --config FILE    read this config (default: $HOLDFAST_CONFIG, else holdfast.yaml in the state directory)
  --state DIR      keep the node's state here (default: $HOLDFAST_STATE, else /var/lib/holdfast as root, else
                   $XDG_STATE_HOME/holdfast or ~/.local/state/holdfast)

Environment: HOLDFAST_PASSPHRASE_FILE seals the keys with the passphrase in that file; HOLDFAST_CACHE is where the
bundled code is kept. docs/config.md lists every key of the config.

Example: holdfast start --compact --config /etc/holdfast/holdfast.yaml`;

export const command: Command = {
  name: "start",
  summary: "Start the node.",
  help,
  async run(args) {
    readOptions(args);
    return becomeNode("node", args);
  },
};

/** Becomes the first process of a node; returns only where that is impossible. */
export async function becomeNode(role: "node" | "cloud", args: readonly string[]): Promise<number> {
  const code = await prepareCode({ root: rootOf(import.meta.dirname) }, (words) => process.stdout.write(`Holdfast: ${words}\n`));
  const env = { ...process.env, NODE_COMPILE_CACHE: code.compileCache } as Record<string, string>;
  if (!process.execve) throw fail(NODE_START_FAILED, "this Node cannot execute another program in its place; start with bin/holdfast, which takes the one that Holdfast carries");
  process.execve(process.execPath, [process.execPath, ...NODE_FLAGS, code.main, role, ...args], env);
  return 0;
}

/** Finds the package's directory above a file of it. */
function rootOf(directory: string): string {
  for (let at = directory; ; at = dirname(at)) {
    if (existsSync(join(at, "package.json")) && existsSync(join(at, "bin"))) return at;
    if (at === dirname(at)) throw fail(NODE_START_FAILED, `${directory} does not lie in Holdfast's package`);
  }
}
