/** Commands: one file each in commands/, found by name, run, and shown in the overview. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { distance } from "../kernel/config.ts";

/** What each file in commands/ exports as `command`. */
export interface Command {
  readonly name: string;
  /** One line for the list. */
  readonly summary: string;
  /** What `--help` prints: usage, options with defaults, an example. */
  readonly help: string;
  /** Answers the exit status; throws Failures, which are shown with what to do. */
  run(args: readonly string[]): Promise<number>;
}

/** Written by the bundler beside cli.js, where there is no folder to list. */
export const COMMANDS_FILE = "commands.json";
/** As EXIT.usage (exit.ts), which a start need not load. */
const EXIT_USAGE = 2;

/** How the overview puts the commands together; those it does not know come last. */
const GROUPS: readonly (readonly string[])[] = [
  ["start", "stop", "restart", "run", "status", "instances", "doctor", "version"],
  ["devices", "readings", "retention", "read", "write"],
  ["pipelines", "rules", "leaves"],
  ["backlog", "deadletters", "routes"],
  ["trace", "spans", "top", "slow", "errors", "follow", "logs"],
  ["token", "ca", "certs", "audit"],
  ["keys", "secret", "forget", "backup", "restore"],
  ["enroll", "cloud"],
];

/** The package's directory: from source, from dist, and from the code that was made of either. */
export function packageRoot(): string {
  const made = join(import.meta.dirname, "package-root");
  if (existsSync(made)) return readFileSync(made, "utf8");
  return existsSync(join(import.meta.dirname, COMMANDS_FILE))
    ? dirname(import.meta.dirname)
    : dirname(dirname(import.meta.dirname));
}

/** Lists the commands there are. */
export function commandNames(): string[] {
  const file = join(import.meta.dirname, COMMANDS_FILE);
  if (existsSync(file)) return JSON.parse(readFileSync(file, "utf8")) as string[];
  return readdirSync(join(import.meta.dirname, "commands"))
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .map((name) => name.slice(0, -3))
    .sort();
}

const load = async (name: string): Promise<Command> =>
  ((await import(`./commands/${name}.ts`)) as { command: Command }).command;

/** Runs the command that the arguments name; answers the exit status. */
export async function runCli(args: readonly string[]): Promise<number> {
  const [name = "", ...rest] = args;
  const names = commandNames();
  if (name === "" || name === "help" || name === "--help" || name === "-h") {
    const [wanted] = rest;
    if (wanted !== undefined && names.includes(wanted)) return show((await load(wanted)).help);
    return show(await overview(names));
  }
  if (name === "--version" || name === "-v")
    return show((JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string }).version);
  if (!names.includes(name)) {
    const [near] = names.map((known) => ({ known, away: distance(name, known) })).sort((a, b) => a.away - b.away);
    process.stderr.write(
      `holdfast: there is no command '${name}'${near && near.away <= 3 ? `; did you mean '${near.known}'?` : ""}\n          'holdfast --help' lists them.\n`,
    );
    return EXIT_USAGE;
  }
  const command = await load(name);
  if (rest.includes("--help") || rest.includes("-h")) return show(command.help);
  return command.run(rest);
}

async function overview(names: readonly string[]): Promise<string> {
  const commands = await Promise.all(names.map(load));
  const width = Math.max(...names.map((name) => name.length)) + 2;
  const known = GROUPS.flat();
  const groups = [...GROUPS, names.filter((name) => !known.includes(name))];
  const listed = groups.flatMap((group) => [
    ...group.flatMap((name) => commands.find((command) => command.name === name) ?? []),
    undefined,
  ]);
  return [
    "Holdfast takes in what devices report, keeps it encrypted, reduces it, and gets",
    "what matters to the cloud.",
    "",
    "Usage: holdfast COMMAND [options]",
    "",
    ...listed
      .map((command) => (command ? `  ${command.name.padEnd(width)}${command.summary}` : ""))
      .filter((line, at, all) => line !== "" || all[at - 1] !== ""),
    "'holdfast COMMAND --help' tells the options of a command. 'holdfast start' is first.",
  ].join("\n");
}

function show(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}
