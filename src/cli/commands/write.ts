/** `holdfast write`: writes values to a device, through core-command. */
import { fail } from "../../kernel/error.ts";
import { coreCommand } from "../../services/core-command/api.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { withLink } from "../link.ts";
import { openHints, openPage } from "../page.ts";
import { plain } from "../text.ts";
import { count, duration } from "../units.ts";

const help = `Usage: holdfast write DEVICE COMMAND RESOURCE=VALUE... [options]

Writes values to a device: to the resources of a command of its profile, or to
one resource. A value is text as EdgeX writes it: 21.5, true, [1,2,3], {"a":1}.
'holdfast devices DEVICE' lists what can be written.

${COMMON_HELP}

With --json: {"device": ..., "command": ..., "written": {RESOURCE: VALUE}}.

Examples:
  holdfast write virtual-1 Float64 Float64=21.5
  holdfast write virtual-1 floats Float32=1.5 Float64=-2`;

export const command: Command = {
  name: "write",
  summary: "Write values to a device.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, COMMON, ["DEVICE", "COMMAND", "RESOURCE=VALUE..."]);
    const [device = "", wanted = "", ...pairs] = positionals;
    const body = valuesOf(pairs);
    const page = openPage();
    await withLink({ state: values.state, role: "operator" }, async (link) => {
      const startMs = performance.now();
      const call = link.call();
      await link.service(coreCommand).write({ name: device, command: wanted, body }, call);
      const ms = performance.now() - startMs;
      if (values.json) return page.json({ device, command: wanted, written: body });
      page.line(`${count(pairs.length, "value")} written to ${plain(device)} in ${duration(ms)}`);
      openHints()?.line(`its story: holdfast trace ${call.requestId}`);
    });
    return EXIT.fine;
  },
};

/** Reads `RESOURCE=VALUE` pairs; EdgeX takes every value as text. CLI_USAGE. */
export function valuesOf(pairs: readonly string[]): Record<string, string> {
  const values = new Map<string, string>();
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    if (at < 1) throw fail(CLI_USAGE, `'${pair}' is not of the form RESOURCE=VALUE`);
    const name = pair.slice(0, at);
    if (values.has(name)) throw fail(CLI_USAGE, `'${name}' is given twice`);
    values.set(name, pair.slice(at + 1));
  }
  return Object.fromEntries(values);
}
