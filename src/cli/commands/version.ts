/** `holdfast version`: what is installed here. */
import { readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { openPage } from "../page.ts";
import { NODE_VERSION } from "../../node/version.ts";

const help = `Usage: holdfast version [--json]

Tells the version of Holdfast, and of the Node that it carries.

With --json: {"holdfast", "node", "platform", "arch"}.`;

export const command: Command = {
  name: "version",
  summary: "Tell the version.",
  help,
  async run(args) {
    const { values } = readArguments(args, { json: { type: "boolean" } });
    const about = {
      holdfast: NODE_VERSION,
      node: process.versions.node,
      platform: process.platform,
      arch: process.arch,
    };
    const page = openPage();
    if (values.json) page.json(about);
    else page.line(`holdfast ${about.holdfast} (Node ${about.node}, ${about.platform} ${about.arch})`);
    return EXIT.fine;
  },
};
