/** `holdfast restore`: makes a node's state of a backup, on this machine or another. */
import { readFileSync } from "node:fs";
import { fail } from "../../kernel/error.ts";
import { restore } from "../../node/backup/backup.ts";
import { configFileOf, nodeSectionOf } from "../../node/config.ts";
import { chosen, providerOf } from "../../node/keys/open.ts";
import { stateDirectoryOf } from "../../node/state.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { openPage } from "../page.ts";
import { count } from "../units.ts";

const help = `Usage: holdfast restore FILE --escrow-key KEY [options]

Makes a node's state of what 'holdfast backup' wrote. The keys are then sealed
as this machine's config says. Nothing that is there is overwritten.

Never run the old node and the restored one at the same time: they are the same
to the cloud.

  --escrow-key KEY  file with the private half of the escrow key
  --config FILE     as of 'holdfast start'
${COMMON_HELP}

Example:
  holdfast restore /media/usb/node.backup --escrow-key /media/usb/escrow.pem`;

export const command: Command = {
  name: "restore",
  summary: "Make a node's state of a backup.",
  help,
  async run(args) {
    const options = { ...COMMON, "escrow-key": { type: "string" }, config: { type: "string" } } as const;
    const { values, positionals } = readArguments(args, options, ["FILE"]);
    const [from = ""] = positionals;
    const keyFile = values["escrow-key"];
    if (keyFile === undefined) throw fail(CLI_USAGE, "--escrow-key is missing");
    const statePath = values.state ?? stateDirectoryOf(process.env);
    const node = nodeSectionOf(configFileOf({ named: values.config, env: process.env, state: statePath }));
    const provider = await providerOf(chosen(node, process.env, undefined), { node, env: process.env });
    const escrowKey = readKey(keyFile);
    const files = await restore({ from, escrowKey, statePath, provider });
    const page = openPage();
    if (values.json) page.json({ state: statePath, files, provider: provider.name });
    else
      page.lines([
        `${statePath}: ${count(files, "file")}; the ${provider.name} seals the keys here`,
        "the old node must not start any more",
      ]);
    return EXIT.fine;
  },
};

function readKey(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw fail(CLI_USAGE, `${file} cannot be read (${(cause as NodeJS.ErrnoException).code})`, { cause });
  }
}
