/** `holdfast forget`: makes all that the node holds of a device's events unreadable. */
import { fail } from "../../kernel/error.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { localNode } from "../local-node.ts";
import { openPage } from "../page.ts";

const TIMEOUT_MS = 30_000;

const help = `Usage: holdfast forget device NAME [options]

Makes all events of a device that the node holds unreadable: core-data destroys
the device's key, the bus and the outbox give them to nobody any more. What the
cloud has stays there, and the device itself stays known. One that goes on
reporting begins anew: stop or remove it first.

${COMMON_HELP}

With --json: {"device", "ms"}.

Example:
  holdfast forget device pump-1`;

export const command: Command = {
  name: "forget",
  summary: "Make all events of a device unreadable.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, COMMON, ["device", "NAME"]);
    const [what, device = ""] = positionals;
    if (what !== "device") throw fail(CLI_USAGE, `'${what}' cannot be forgotten; a device can`);
    const node = localNode(values.state);
    try {
      const { ms } = await node.client.forgetDevice({ body: { device } }, node.call(TIMEOUT_MS));
      const page = openPage();
      if (values.json) page.json({ device, ms });
      else page.line(`the events of ${device} are unreadable here, after ${Math.round(ms)} ms`);
    } finally {
      node.close();
    }
    return EXIT.fine;
  },
};
