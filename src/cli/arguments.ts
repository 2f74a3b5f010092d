/** A command's arguments: read strictly, refused in words that name the argument at fault and the nearest known one. */
import { parseArgs, type ParseArgsConfig } from "node:util";
import { distance } from "../kernel/config.ts";
import { parseDurationMs } from "../kernel/duration.ts";
import { fail } from "../kernel/error.ts";
import { CLI_USAGE } from "./exit.ts";

type Options = NonNullable<ParseArgsConfig["options"]>;

/** Options of every command that asks the node. */
export const COMMON = { json: { type: "boolean" }, state: { type: "string" } } as const satisfies Options;

/** How `--help` tells them. */
export const COMMON_HELP = `  --json           print one JSON value, for programs
  --state DIR      the node's state directory (default: as of 'holdfast start')`;

type Read<O extends Options> = ReturnType<
  typeof parseArgs<{ options: O; strict: true; allowPositionals: true; args: string[] }>
>;

/** Reads arguments; `names` are those of the positional ones, an optional one in brackets. CLI_USAGE. */
export function readArguments<const O extends Options>(
  args: readonly string[],
  options: O,
  names: readonly string[] = [],
): Read<O> {
  let read: Read<O>;
  try {
    read = parseArgs({ args: [...args], options, strict: true, allowPositionals: true });
  } catch (cause) {
    throw fail(CLI_USAGE, wordsOf(cause, Object.keys(options)), { cause });
  }
  const needed = names.filter((name) => !name.startsWith("["));
  const given = read.positionals.length;
  if (given < needed.length) throw fail(CLI_USAGE, `${needed[given]} is missing`);
  if (given > names.length && !names.at(-1)?.endsWith("...]") && !names.at(-1)?.endsWith("...")) {
    throw fail(
      CLI_USAGE,
      names.length === 0
        ? `'${read.positionals[0]}' is not expected: the command takes options alone`
        : `'${read.positionals[names.length]}' is one argument too many`,
    );
  }
  return read;
}

function wordsOf(cause: unknown, known: readonly string[]): string {
  const message = cause instanceof Error ? cause.message.split(/\. |\n/, 1)[0] : String(cause);
  const unknown = /^Unknown option '--?([^']+)'/.exec(message)?.[1];
  if (unknown === undefined) return message;
  const [near] = known.map((name) => ({ name, away: distance(unknown, name) })).sort((a, b) => a.away - b.away);
  return `there is no option '--${unknown}'${near && near.away <= 2 ? `; did you mean '--${near.name}'?` : ""}`;
}

/** Reads a whole number within limits, both included; the default where none is given. CLI_USAGE. */
export function wholeNumber(
  text: string | undefined,
  option: { name: string; min: number; max: number; default: number },
): number {
  if (text === undefined) return option.default;
  const value = Number(text);
  if (/^\d{1,15}$/.test(text) && value >= option.min && value <= option.max) return value;
  throw fail(CLI_USAGE, `${option.name} takes a whole number from ${option.min} to ${option.max}, not '${text}'`);
}

/** Reads a duration (`30s`, `10m`, `1h30m`, `7d`) in milliseconds. CLI_USAGE. */
export function durationOf(text: string, name: string): number {
  try {
    return parseDurationMs(text.replace(/(\d+)d/, (_, days: string) => `${Number(days) * 24}h`));
  } catch (cause) {
    throw fail(CLI_USAGE, `${name} takes a duration such as 30s, 10m, 1h30m or 7d, not '${text}'`, { cause });
  }
}
