/** Runs every check that is not a test: `npm run check`. Types, lint, format, dead code; the output of one that is content is not shown. */
import { spawnSync } from "node:child_process";
import path from "node:path";

const TOOLS = [
  { name: "types", bin: "tsc", args: ["-p", "."] },
  { name: "lint", bin: "oxlint", args: ["--type-aware", "--deny-warnings", "--report-unused-disable-directives"] },
  { name: "format", bin: "oxfmt", args: ["--check", "."] },
  { name: "dead code", bin: "knip", args: ["--no-progress", "--no-config-hints"] },
] as const;

const root = process.cwd();
// The tools are native, or JavaScript that a launcher starts with the first node on the PATH: that is to be this one.
const env = { ...process.env, PATH: `${path.dirname(process.execPath)}${path.delimiter}${process.env["PATH"] ?? ""}` };
const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => !TOOLS.some((tool) => tool.name === name));
if (unknown !== undefined) {
  console.error(`there is no check '${unknown}'; there are: ${TOOLS.map((tool) => tool.name).join(", ")}`);
  process.exit(2);
}

for (const { name, bin, args } of TOOLS) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const startedMs = performance.now();
  const ended = spawnSync(process.execPath, [path.join(root, "node_modules", ".bin", bin), ...args], {
    cwd: root,
    env,
    encoding: "utf8",
  });
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  console.log(`${ended.status === 0 ? "✔" : "✖"} ${name} (${seconds} s)`);
  if (ended.status === 0) continue;
  process.exitCode = 1;
  console.log(ended.error ? String(ended.error) : ended.stdout + ended.stderr);
}
