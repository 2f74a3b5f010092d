/** `holdfast deadletters`: what a destination refused for good, until somebody has looked. */
import { fail } from "../../kernel/error.ts";
import { type DeadLetter, pipeline } from "../../services/pipeline/api.ts";
import { COMMON, COMMON_HELP, readArguments } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { type Link, withLink } from "../link.ts";
import { openHints, openPage, type Page } from "../page.ts";
import { type Cell, table } from "../table.ts";
import { plain } from "../text.ts";
import { count, moment, number, size } from "../units.ts";

const LISTED_MAX = 1_000;

const help = `Usage: holdfast deadletters [list] [options]
       holdfast deadletters show ID
       holdfast deadletters replay ID
       holdfast deadletters drop ID

A batch that a destination can never take is set aside, and the queue goes on.
Here it can be looked at, sent again, or let go of.

  list      list them, newest first (what it does without a word)
  show      show the events of one
  replay    put one into the outbox again, for the destination that refused it
  drop      let go of one; the gap ledger tells of it

${COMMON_HELP}

With --json: {"deadLetters": [...]}; {"deadLetter", "events": [...]}; {"id"}.

Example:
  holdfast deadletters replay 7`;

export const command: Command = {
  name: "deadletters",
  summary: "Show what a destination refused; send it again or let it go.",
  help,
  async run(args) {
    const [word = "list", ...rest] = args[0]?.startsWith("-") ? ["list", ...args] : args;
    const act = Object.hasOwn(ACTS, word) ? ACTS[word] : undefined;
    if (!act) throw fail(CLI_USAGE, `there is no 'deadletters ${word}'; there are: ${Object.keys(ACTS).join(", ")}`);
    const { values, positionals } = readArguments(rest, COMMON, act.needsId ? ["ID"] : []);
    const id = Number(positionals[0] ?? 1);
    if (!Number.isSafeInteger(id) || id < 1) throw fail(CLI_USAGE, `'${positionals[0]}' is no id of a dead letter`);
    const role = act.changes ? "admin" : "viewer";
    await withLink({ state: values.state, role }, (link) => act.run(link, openPage(), id, values.json === true));
    return EXIT.fine;
  },
};

interface Act {
  readonly needsId: boolean;
  /** What holds readings is for those who may change the node. */
  readonly changes: boolean;
  run(link: Link, page: Page, id: number, json: boolean): Promise<void>;
}

const ACTS: { readonly [word: string]: Act } = {
  list: {
    needsId: false,
    changes: false,
    async run(link, page, _id, json) {
      const found = await link.service(pipeline).deadLetters({ limit: LISTED_MAX }, link.call());
      if (json) return page.json(found);
      if (found.deadLetters.length === 0) return openHints()?.line("No destination has refused anything.");
      page.lines(letterTable(page, found.deadLetters));
    },
  },
  show: {
    needsId: true,
    changes: true,
    async run(link, page, id, json) {
      const found = await link.service(pipeline).deadLetter({ id }, link.call());
      if (json) return page.json(found);
      page.lines(letterTable(page, [found.deadLetter]));
      page.line(`refused: ${plain(found.deadLetter.reason)}`);
      if (found.unreadable !== undefined) return page.line(`its events cannot be read: ${plain(found.unreadable)}`);
      for (const { deviceName, sourceName, readings } of found.events) {
        const values = readings.map(
          (r) => `${r.resourceName}=${"value" in r && r.value !== null ? String(r.value) : "?"}`,
        );
        page.line(plain(`${deviceName} ${sourceName}  ${values.join(" ")}`));
      }
    },
  },
  replay: {
    needsId: true,
    changes: true,
    async run(link, page, id, json) {
      await link.service(pipeline).replayDeadLetter({ id }, link.call());
      if (json) page.json({ id });
      else page.line(`dead letter ${id} is in the outbox again`);
    },
  },
  drop: {
    needsId: true,
    changes: true,
    async run(link, page, id, json) {
      await link.service(pipeline).dropDeadLetter({ id }, link.call());
      if (json) page.json({ id });
      else page.line(`dead letter ${id} is gone; 'holdfast backlog' shows it in the gap ledger`);
    },
  },
};

function letterTable(page: Page, letters: readonly DeadLetter[]): string[] {
  const rows = letters.map((letter): Cell[] => [
    String(letter.id),
    moment(letter.atMs),
    plain(letter.destination),
    plain(letter.pipeline),
    count(letter.events, "event"),
    number(letter.readings),
    size(letter.bytes),
    plain(letter.reason),
  ]);
  const columns = [
    { title: "ID", right: true },
    { title: "REFUSED" },
    { title: "BY" },
    { title: "PIPELINE", drop: 2 },
    { title: "EVENTS", right: true },
    { title: "READINGS", right: true, drop: 1 },
    { title: "SIZE", right: true, drop: 3 },
    { title: "BECAUSE", wraps: true, min: 12 },
  ];
  return table(page, columns, rows);
}
