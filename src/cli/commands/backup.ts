/** `holdfast backup`: the whole state of a stopped node in one file that the escrow key alone opens. */
import { backUp } from "../../node/backup/backup.ts";
import { openState, stateDirectoryOf } from "../../node/state.ts";
import { NODE_VERSION } from "../../node/version.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { openPage } from "../page.ts";
import { size } from "../units.ts";

const help = `Usage: holdfast backup FILE [options]

Writes the whole state of a stopped node into FILE, sealed for the escrow key
('holdfast keys escrow --new'): nobody else opens it, this machine neither.
'holdfast restore' makes a node of it, here or elsewhere.

${COMMON_HELP}

Example:
  holdfast stop && holdfast backup /media/usb/node.backup && holdfast start`;

export const command: Command = {
  name: "backup",
  summary: "Write the state of a stopped node into one sealed file.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, COMMON, ["FILE"]);
    const [file = ""] = positionals;
    const path = values.state ?? stateDirectoryOf(process.env);
    const state = openState({ path, version: NODE_VERSION });
    try {
      const bytes = await backUp(path, file);
      const page = openPage();
      if (values.json) page.json({ file, bytes });
      else page.line(`${file}: ${size(bytes)}; the escrow key opens it, and nothing else does`);
    } finally {
      state.release();
    }
    return EXIT.fine;
  },
};
