/** How a command ends: its exit status, and what it says when it fails. */
import { code, Failure } from "../kernel/error.ts";
import { NODE_NOT_RUNNING, NODE_OPTION_INVALID } from "../node/codes.ts";
import { openPage, type Page } from "./page.ts";
import { plain, wrap } from "./text.ts";

export const CLI_USAGE = code("CLI_USAGE", "invalid", "The command's --help tells what it takes, with examples.");
export const CLI_FORBIDDEN = code(
  "CLI_FORBIDDEN",
  "forbidden",
  "Run the command as the user that the node runs as (sudo, where that is root).",
);

/** Exit statuses of all commands but `start` and `cloud`, which have those of sysexits.h for systemd (78: not by a restart). */
export const EXIT = { fine: 0, failed: 1, usage: 2, notRunning: 3, unknown: 4 } as const;

const INDENT = " ".repeat("holdfast: ".length);

/** Says a failure on standard error, with what to do about it, and answers the exit status. */
export function sayFailure(error: unknown, page: Page = openPage(process.stderr)): number {
  if (!(error instanceof Failure)) {
    const words = error instanceof Error ? (error.stack ?? error.message) : String(error);
    page.line(`${page.style("red", "holdfast:")} ${words}`);
    return EXIT.failed;
  }
  for (const line of failureLines(error, page)) page.line(line);
  return statusOf(error);
}

/** Writes a failure for people: the message, what to do, the code to look up. */
export function failureLines(failure: Failure, page: Page): string[] {
  const [first = "", ...more] = wrap(`${plain(failure.message)} (${failure.code})`, page.width - INDENT.length);
  return [
    `${page.style("red", "holdfast:")} ${first}`,
    ...[...more, ...wrap(plain(failure.todo), page.width - INDENT.length)].map((line) => `${INDENT}${line}`),
  ];
}

export function statusOf(failure: Failure): number {
  if (failure.code === NODE_NOT_RUNNING.code) return EXIT.notRunning;
  if (failure.code === CLI_USAGE.code || failure.code === NODE_OPTION_INVALID.code) return EXIT.usage;
  return failure.kind === "not-found" ? EXIT.unknown : EXIT.failed;
}
