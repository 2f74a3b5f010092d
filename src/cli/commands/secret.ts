/** `holdfast secret`: passwords and tokens that services need, kept sealed and handed over to those whose config names them. */
import { fail } from "../../kernel/error.ts";
import { ask } from "../../node/keys/inputs.ts";
import { NODE_SECRET_INVALID, VALUE_BYTES_MAX } from "../../node/keys/secrets.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { localNode } from "../local-node.ts";
import { openPage } from "../page.ts";

const TIMEOUT_MS = 5_000;

const help = `Usage: holdfast secret set|list|remove [NAME] [options]

Keeps passwords and tokens that services need, sealed like everything on the
disk. Where the config takes a file (passwordFile, headerFiles, ...),
'secret:NAME' names a secret. A service is handed those that it names, over a
pipe, at its start.

  set NAME     read the value from the pipe, or ask for it; a last line break
               is not part of it
  list         the names; nobody is shown a value
  remove NAME

${COMMON_HELP}

Example:
  printf %s "$password" | holdfast secret set broker`;

export const command: Command = {
  name: "secret",
  summary: "Keep passwords and tokens that services need.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, COMMON, ["ACTION", "[NAME]"]);
    const [action, name] = positionals;
    if (action !== "list" && name === undefined) throw fail(CLI_USAGE, "NAME is missing");
    const node = localNode(values.state);
    const page = openPage();
    try {
      const call = node.call(TIMEOUT_MS);
      if (action === "list") {
        const { names } = await node.client.secrets({}, call);
        if (values.json) page.json({ names });
        else page.lines(names.length === 0 ? ["there are no secrets"] : names);
      } else if (action === "set") {
        const value = await valueOf(name ?? "");
        await node.client.setSecret({ body: { name: name ?? "", value } }, node.call(TIMEOUT_MS));
        if (!values.json)
          page.line(`${name} is kept; services that name it get it at their next start (holdfast restart SERVICE)`);
      } else if (action === "remove") {
        await node.client.removeSecret({ body: { name: name ?? "" } }, call);
        if (!values.json) page.line(`${name} is gone; services that have it keep it until they end`);
      } else throw fail(CLI_USAGE, `'${action}' is none of set, list, remove`);
    } finally {
      node.close();
    }
    return EXIT.fine;
  },
};

async function valueOf(name: string): Promise<string> {
  if (process.stdin.isTTY) return ask(`value of ${name}`, NODE_SECRET_INVALID);
  let text = "";
  process.stdin.setEncoding("utf8");
  for await (const part of process.stdin) {
    text += String(part);
    if (text.length > VALUE_BYTES_MAX + 2) break;
  }
  return text.replace(/\r?\n$/, "");
}
