/**
 * Runs the tests: `npm test`, or `bin/node test/run.ts [--rounds N] [part of a path ...]`.
 *
 * Node's own runner does the work, each file in its own process by this same node; here is only what is printed: a line a
 * file, what failed in full with what its file wrote, what was skipped and why, and last the runner's own counts.
 */
import { globSync } from "node:fs";
import path from "node:path";
import { run, type TestsStream } from "node:test";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { Report } from "./report.ts";

/** Two files at a time: the stories start a whole node each, and a small machine has two cores. */
const CONCURRENCY = 2;
/** A test that takes longer is stopped and fails; one that is meant to take longer says so itself (`{ timeout }`). */
const TEST_TIMEOUT_MS = 240_000;
/** A file whose process does not end by itself (a server left open) is stopped and fails. */
const FILE_TIMEOUT_MS = 30 * 60_000;

const root = path.dirname(import.meta.dirname);

function stop(message: string): never {
  console.error(message);
  process.exit(2);
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      options: { rounds: { type: "string" }, help: { type: "boolean", short: "h" } },
      allowPositionals: true,
    });
    if (values.help) {
      console.log(
        "usage: npm test -- [--rounds N] [part of a path ...]\n  --rounds N   how often the fault tests kill something (HOLDFAST_FAULT_ROUNDS)",
      );
      process.exit(0);
    }
    if (values.rounds !== undefined && !/^[1-9][0-9]{0,5}$/.test(values.rounds))
      stop("--rounds takes a number from 1 to 999999");
    return { rounds: values.rounds, filters: positionals.map((filter) => filter.replace(/^\.\//, "")) };
  } catch (error) {
    return stop(error instanceof Error ? error.message : String(error));
  }
}

const { rounds, filters } = readArguments();
// Test processes inherit it.
if (rounds !== undefined) process.env["HOLDFAST_FAULT_ROUNDS"] = rounds;

const files = globSync("{src,test}/**/*.test.ts", { cwd: root })
  .filter((file) => filters.length === 0 || filters.some((filter) => path.join(root, file).includes(filter)))
  // The stories start whole nodes and take longest: the short ones fill what is left at the end.
  .toSorted((a, b) => Number(b.startsWith("test")) - Number(a.startsWith("test")) || (a < b ? -1 : 1));
if (files.length === 0)
  stop(filters.length > 0 ? `no test file matches ${filters.join(", ")}` : "there is no test file");

const stream: TestsStream = run({
  cwd: root,
  files: files.map((file) => path.join(root, file)),
  concurrency: CONCURRENCY,
  timeout: FILE_TIMEOUT_MS,
  execArgv: [
    "--import",
    pathToFileURL(path.join(import.meta.dirname, "compiled.ts")).href,
    `--test-timeout=${TEST_TIMEOUT_MS}`,
    "--disable-warning=ExperimentalWarning",
  ],
});
const report = new Report(root, files, process.env["CI"] === "true", (line) => process.stdout.write(`${line}\n`));
report.listen(stream);
stream.once("end", () => {
  process.exitCode = report.finish() ? 0 : 1;
});
stream.resume();
