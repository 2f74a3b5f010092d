/** Things that people define while the node runs (pipelines, rules): listed, shown, set from a file, removed, all the same way. */
import { readFileSync, statSync } from "node:fs";
import { parse } from "yaml";
import { fail } from "../kernel/error.ts";
import { COMMON, readArguments } from "./arguments.ts";
import { CLI_USAGE, EXIT } from "./exit.ts";
import { type Link, withLink } from "./link.ts";
import { openPage, type Page } from "./page.ts";
import { plain } from "./text.ts";

export interface Defined {
  readonly name: string;
  readonly origin: "config" | "changed";
  readonly definition: Readonly<Record<string, unknown>>;
}

/** One kind of them. */
export interface Kind<T extends Defined> {
  /** Of the command: `pipelines`. */
  readonly name: string;
  /** Of one: `pipeline`. */
  readonly one: string;
  list(link: Link): Promise<readonly T[]>;
  set(link: Link, name: string, definition: Record<string, unknown>): Promise<void>;
  remove(link: Link, name: string): Promise<void>;
  listLines(page: Page, all: readonly T[], nowMs: number): string[];
  showLines(page: Page, one: T, nowMs: number): string[];
}

/** Above this a file is no definition. */
const FILE_BYTES_MAX = 1_048_576;

const WORDS: { readonly [word: string]: readonly string[] } = {
  list: [],
  show: ["NAME"],
  set: ["NAME", "FILE"],
  remove: ["NAME"],
};

/** Does what the arguments say with things of a kind; answers the exit status. CLI_USAGE, and what the service refuses. */
export async function runDefinitions<T extends Defined>(kind: Kind<T>, args: readonly string[]): Promise<number> {
  const [word = "list", ...rest] = args[0]?.startsWith("-") ? ["list", ...args] : args;
  const names = Object.hasOwn(WORDS, word) ? WORDS[word] : undefined;
  if (!names) throw fail(CLI_USAGE, `there is no '${kind.name} ${word}'; there are: ${Object.keys(WORDS).join(", ")}`);
  const { values, positionals } = readArguments(rest, COMMON, names);
  const [name = "", file = ""] = positionals;
  const definition = word === "set" ? readDefinition(file) : {};
  const page = openPage();
  const role = word === "set" || word === "remove" ? "admin" : "viewer";
  await withLink({ state: values.state, role }, async (link) => {
    if (word === "set") {
      await kind.set(link, name, definition);
      return values.json ? page.json({ name }) : page.line(`${kind.one} '${plain(name)}' is set`);
    }
    if (word === "remove") {
      await kind.remove(link, name);
      return values.json ? page.json({ name }) : page.line(`${kind.one} '${plain(name)}' is removed`);
    }
    const all = await kind.list(link);
    if (word === "list")
      return values.json ? page.json({ [kind.name]: all }) : page.lines(kind.listLines(page, all, Date.now()));
    const found = all.find((one) => one.name === name);
    if (!found) throw fail(CLI_USAGE, `there is no ${kind.one} '${name}'; 'holdfast ${kind.name}' lists them`);
    return values.json ? page.json(found) : page.lines(kind.showLines(page, found, Date.now()));
  });
  return EXIT.fine;
}

/** Reads a definition from a file, YAML or JSON; `-` is standard input. CLI_USAGE. */
function readDefinition(file: string): Record<string, unknown> {
  let text: string;
  try {
    if (file !== "-" && statSync(file).size > FILE_BYTES_MAX) throw new Error("it is too large");
    text = readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (cause) {
    throw fail(CLI_USAGE, `${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  let value: unknown;
  try {
    value = parse(text, { version: "1.2", maxAliasCount: 100 });
  } catch (cause) {
    throw fail(CLI_USAGE, `${file} is no YAML: ${(cause as Error).message.split("\n", 1)[0]}`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw fail(CLI_USAGE, `${file} holds no definition: keys and values are expected`);
  return value as Record<string, unknown>;
}

/** Writes a definition as the file that it could come from. */
export const definitionLines = (definition: Defined["definition"]): string[] =>
  JSON.stringify(definition, null, 2).split("\n").map(plain);
