/** `holdfast audit`: who did what, and who was denied; the trail followed, searched, kept elsewhere, and verified. */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fail } from "../../kernel/error.ts";
import { identity } from "../../services/identity/api.ts";
import { trace, type Trace } from "../../services/trace/api.ts";
import { readLine, type Verdict, Verifier, type VerifyOptions } from "../../services/trace/chain.api.ts";
import { COMMON, COMMON_HELP, readArguments, wholeNumber } from "../arguments.ts";
import type { Command } from "../command.ts";
import { CLI_USAGE, EXIT } from "../exit.ts";
import { type Link, withLink } from "../link.ts";
import { openHints, openPage, type Page } from "../page.ts";
import { plain } from "../text.ts";
import { clockTime, count } from "../units.ts";

const LIMIT = 100;
const LIMIT_MAX = 5_000;
const PAGE_LINES = 1_000;
const LOOK_MS = 500;

const help = `Usage: holdfast audit [search] [TEXT] [options]
       holdfast audit follow [TEXT] [options]
       holdfast audit export > FILE
       holdfast audit verify [FILE]

Shows the audit trail: every refusal, every change, every certificate and token.
'export' writes all of it, a line each; 'verify' checks the node's trail, or an
exported one, line by line against the signatures of identity. It ends with 1
where a line was changed, taken out, put in or moved, or the end is missing.

  --who NAME       of this person, service or address alone
  --service NAME   noted by this service alone
  --action NAME    of this action alone
  --denied         what was refused alone
  --limit N        the newest so many (default ${LIMIT}, at most ${LIMIT_MAX})
${COMMON_HELP}

With --json: the lines as they are kept; for verify {"lines", "first", "last",
"checkpoints", "unsigned", "findings"}.

Examples:
  holdfast audit --denied
  holdfast audit search token --who alice
  holdfast audit export > trail.jsonl && holdfast audit verify trail.jsonl`;

const OPTIONS = {
  ...COMMON,
  who: { type: "string" },
  service: { type: "string" },
  action: { type: "string" },
  denied: { type: "boolean" },
  limit: { type: "string" },
} as const;

type Wanted = Omit<Parameters<Trace["auditSearch"]>[0], "limit">;

export const command: Command = {
  name: "audit",
  summary: "Show who did what and who was denied; verify the trail.",
  help,
  async run(args) {
    const words = ["search", "follow", "export", "verify"];
    const [word, rest] = words.includes(args[0] ?? "") ? [args[0], args.slice(1)] : ["search", args];
    const { values, positionals } = readArguments(rest, OPTIONS, word === "export" ? [] : ["[TEXT]"]);
    const limit = wholeNumber(values.limit, { name: "--limit", min: 1, max: LIMIT_MAX, default: LIMIT });
    const { who, service, action, denied } = values;
    const [text] = positionals;
    const wanted: Wanted = {
      ...(text === undefined ? {} : { text }),
      ...(who === undefined ? {} : { who }),
      ...(service === undefined ? {} : { service }),
      ...(action === undefined ? {} : { action }),
      ...(denied ? { outcome: "denied" as const } : {}),
    };
    return withLink({ state: values.state, role: "admin" }, async (link) => {
      if (word === "verify") return tell(await verdictOf(link, text), values.json ?? false);
      if (word === "export") return exportAll(link);
      const page = openPage();
      const show = (lines: readonly string[]): void =>
        page.lines(values.json ? lines : lines.map((line) => auditText(page, line, Date.now())));
      const first = await link.service(trace).auditSearch({ ...wanted, limit }, link.call());
      if (first.lines.length === 0 && word === "search") openHints()?.line("There are no such lines in the trail.");
      show(first.lines);
      sayDamage(first.damage);
      return word === "follow" ? follow(link, wanted, first.newest, show) : EXIT.fine;
    });
  },
};

/** Shows lines as they come. */
async function follow(
  link: Link,
  wanted: Wanted,
  from: number,
  show: (lines: readonly string[]) => void,
): Promise<never> {
  for (let seen = from; ;) {
    await sleep(LOOK_MS);
    const { lines, newest } = await link.service(trace).auditSearch({ ...wanted, limit: LIMIT_MAX }, link.call());
    show(lines.filter((line) => (readLine(line)?.n ?? 0) > seen));
    seen = newest;
  }
}

/** Runs over the node's trail from its beginning. */
async function* allLines(link: Link, onDamage: (damage: readonly string[]) => void): AsyncIterable<string> {
  for (let after = 0; ;) {
    const { lines, newest, damage } = await link.service(trace).auditLines({ after, limit: PAGE_LINES }, link.call());
    onDamage(damage);
    yield* lines;
    const last = readLine(lines.at(-1) ?? "")?.n ?? newest;
    if (lines.length === 0 || last >= newest) return;
    after = last;
  }
}

async function exportAll(link: Link): Promise<number> {
  const damaged: string[] = [];
  for await (const line of allLines(link, (found) => damaged.push(...found))) {
    if (!process.stdout.write(`${line}\n`)) await new Promise((resolve) => process.stdout.once("drain", resolve));
  }
  sayDamage(damaged);
  return damaged.length > 0 ? EXIT.failed : EXIT.fine;
}

/** Checks the node's trail, or one in a file: an export may be older than what identity signed last. */
async function verdictOf(link: Link, file: string | undefined): Promise<Verdict> {
  const ask = async (): Promise<Required<VerifyOptions>> => {
    const { node, keys, n, hash } = await link.service(identity).auditAnchor({}, link.call());
    return { node, keys, anchor: { n, hash } };
  };
  if (file !== undefined) {
    const { node, keys } = await ask();
    const verifier = new Verifier({ node, keys });
    try {
      for await (const line of createInterface({ input: createReadStream(file) })) verifier.take(line);
    } catch (cause) {
      throw fail(CLI_USAGE, `${file} cannot be read: ${(cause as Error).message}`, { cause });
    }
    return verifier.end();
  }
  // Asked first: what is signed while the lines come is in the trail as well, what is signed before has to be.
  await link.service(trace).auditLines({ after: 0, limit: 1 }, link.call());
  const verifier = new Verifier(await ask());
  for await (const line of allLines(link, (damage) => damage.forEach((d) => verifier.found(d)))) verifier.take(line);
  return verifier.end();
}

function tell(verdict: Verdict, json: boolean): number {
  const page = openPage();
  if (json) page.json(verdict);
  else page.lines(verdictLines(page, verdict));
  return verdict.findings.length === 0 ? EXIT.fine : EXIT.failed;
}

/** Says a verdict for people. */
export function verdictLines(page: Page, { lines, first, last, checkpoints, unsigned, findings }: Verdict): string[] {
  const what = `${count(lines, "line")} (${first} to ${last}), ${count(checkpoints, "checkpoint")} signed by identity`;
  const rest = unsigned > 0 ? `; the last ${count(unsigned, "line")} are not signed yet` : "";
  return findings.length === 0
    ? [`The trail is whole: ${what}${rest}.`]
    : [`${page.style("red", "The trail is NOT whole")}: ${what}${rest}.`, ...findings.map((one) => `  ${plain(one)}`)];
}

/** Writes a line of the trail for people. */
export function auditText(page: Page, text: string, nowMs: number): string {
  const line = readLine(text);
  if (!line) return plain(text);
  const { action, outcome, who, what, requestId, note, count: times } = line;
  const denied = outcome === "denied" ? page.style("red", "denied") : "done  ";
  const more = [note, times === undefined ? "" : `${times} times`, requestId?.slice(0, 8)].filter(Boolean).join("  ");
  return `${clockTime(Date.parse(line.time), nowMs)}  ${denied}  ${plain(`${who}  ${action}  ${what}  ${more}`)}`.trimEnd();
}

function sayDamage(damage: readonly string[]): void {
  if (damage.length === 0) return;
  openPage(process.stderr).lines([...damage.map(plain), "'holdfast audit verify' tells more."]);
}
