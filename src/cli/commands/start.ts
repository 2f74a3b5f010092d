/** `holdfast start`: makes the code where it is not made yet, then becomes the node's first process. */
import { fail } from "../../kernel/error.ts";
import { NODE_START_FAILED } from "../../node/codes.ts";
import { prepareCode } from "../../node/code.ts";
import { NODE_FLAGS } from "../../node/flags.ts";
import { readOptions } from "../../node/options.ts";
import { explain } from "../../node/process.ts";
import { type Command, packageRoot } from "../command.ts";

const help = `Usage: holdfast start [options]

Starts the node: its identity at the first start, then every service as its own
confined process, and a cloud beside it for a first look. It needs no
configuration, no root, no network. Ctrl-C stops it; the next start carries on.

  --compact        all services in one process, for machines with little memory
  --open-edgex     open EdgeX's ports on 127.0.0.1 without TLS, for unmodified
                   EdgeX software on this machine
  --no-cloud       start no cloud beside the node; 'holdfast enroll' joins it to
                   one elsewhere
  --only A,B       start these services alone (and identity and core-keeper,
                   which all need)
  --config FILE    read this config (default: $HOLDFAST_CONFIG, else
                   holdfast.yaml in the state directory)
  --state DIR      keep the node's state here (default: $HOLDFAST_STATE, else
                   /var/lib/holdfast as root, else $XDG_STATE_HOME/holdfast or
                   ~/.local/state/holdfast)

Environment: HOLDFAST_PASSPHRASE_FILE seals the keys with the passphrase in that
file; HOLDFAST_CACHE is where the bundled code is kept. docs/config.md lists
every key of the config.

Example: holdfast start --compact --config /etc/holdfast/holdfast.yaml`;

export const command: Command = {
  name: "start",
  summary: "Start the node.",
  help,
  async run(args) {
    try {
      readOptions(args);
      return await becomeNode("node", args);
    } catch (error) {
      // As the process that it would have become: systemd is told by the status not to try again.
      return explain(error);
    }
  },
};

/** Becomes the first process of a node; returns only where that is impossible. */
export async function becomeNode(role: "node" | "cloud", args: readonly string[]): Promise<number> {
  const code = await prepareCode({ root: packageRoot() }, (words) => process.stdout.write(`Holdfast: ${words}\n`));
  // Run from that very code, this process is already all that another one would be: a Node's start is saved, 0.2 s.
  if (code.directory === import.meta.dirname) {
    const program = (await import(code.main)) as { run(args: readonly string[]): Promise<void> };
    await program.run([role, ...args]);
  }
  if (!process.execve)
    throw fail(
      NODE_START_FAILED,
      "this Node cannot execute another program in its place; start with bin/holdfast, which takes the one that Holdfast carries",
    );
  process.execve(process.execPath, [process.execPath, ...NODE_FLAGS, code.main, role, ...args], process.env);
  return 0;
}
