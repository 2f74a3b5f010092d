/** `holdfast enroll`: joins the node to a cloud. */
import { fail } from "../../kernel/error.ts";
import { pipeline } from "../../services/pipeline/api.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { withLink } from "../link.ts";
import { openPage } from "../page.ts";
import { plain } from "../text.ts";

const TIMEOUT_MS = 35_000;

const help = `Usage: holdfast enroll URL CODE [options]

Joins the node to a cloud. What waits in the outbox goes there, and all that
comes. The code is made on the cloud's machine by 'holdfast cloud code'; it
names the cloud's authority, so the node knows whom it trusts, and is good once.

${COMMON_HELP}

With --json: {"edge", "url"}.

Example:
  holdfast enroll https://cloud.example:8444 "$CODE"`;

export const command: Command = {
  name: "enroll",
  summary: "Join the node to a cloud.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, COMMON, ["URL", "CODE"]);
    const [url = "", code = ""] = positionals;
    if (!url.startsWith("https://") || !URL.canParse(url)) throw fail(CLI_USAGE, `'${url}' is no https:// address`);
    const page = openPage();
    await withLink({ state: values.state, role: "admin" }, async (link) => {
      const joined = await link.service(pipeline).enroll({ body: { url, code } }, link.call(TIMEOUT_MS));
      if (values.json) return page.json(joined);
      page.line(`joined to ${plain(joined.url)} as '${plain(joined.edge)}'`);
    });
    return EXIT.fine;
  },
};
