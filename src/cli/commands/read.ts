/** `holdfast read`: reads from a device now, through core-command. */
import type { Event } from "../../kernel/edgex.ts";
import { coreCommand } from "../../services/core-command/api.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit.ts";
import { withLink } from "../link.ts";
import { openHints, openPage, type Page } from "../page.ts";
import { table } from "../table.ts";
import { plain } from "../text.ts";
import { duration } from "../units.ts";
import { valueOf } from "../value.ts";

const help = `Usage: holdfast read DEVICE COMMAND [options]

Reads from a device now: a command of its profile, or one resource. 'holdfast
devices DEVICE' lists both.

  --push           send what was read to core-data and the cloud, too
${COMMON_HELP}

With --json: {"event": {...}} as EdgeX has it.

Examples:
  holdfast read virtual-1 floats
  holdfast read virtual-1 Int32 --push`;

export const command: Command = {
  name: "read",
  summary: "Read from a device now.",
  help,
  async run(args) {
    const { values, positionals } = readArguments(args, { ...COMMON, push: { type: "boolean" } }, [
      "DEVICE",
      "COMMAND",
    ]);
    const [name = "", wanted = ""] = positionals;
    const page = openPage();
    await withLink({ state: values.state, role: "operator" }, async (link) => {
      const startMs = performance.now();
      const input = { name, command: wanted, pushEvent: values.push ?? false, returnEvent: true, regexCmd: true };
      const { event } = await link.service(coreCommand).read(input, link.call());
      const ms = performance.now() - startMs;
      if (values.json) return page.json({ event });
      if (!event) return;
      page.lines(eventLines(page, event));
      openHints()?.line(`\nin ${duration(ms)}; its story: holdfast trace ${event.id}`);
    });
    return EXIT.fine;
  },
};

/** Lays out the readings of an event. */
export function eventLines(page: Page, event: Event): string[] {
  const rows = event.readings.map((reading) => [
    plain(reading.resourceName),
    valueOf(reading),
    plain(reading.valueType),
  ]);
  return table(
    page,
    [
      { title: "RESOURCE", min: 14 },
      { title: "VALUE", min: 12 },
      { title: "TYPE", drop: 1 },
    ],
    rows,
  );
}
