/**
 * Torments node and cloud for as long as is wanted: `npm run soak -- [--rounds N] [--seed N] [--for 30m] [--json]`. It runs the
 * fault tests pass after pass, each with the next seed, and says what holds; what fails is shown in full, with how to repeat it.
 */
import { globSync } from "node:fs";
import path from "node:path";
import { run } from "node:test";
import { inspect, parseArgs } from "node:util";
import { parseDurationMs } from "../src/kernel/duration.ts";

const FAULTS = ["test/{link,full,damage,clock,offline,power,restart,theft}.test.ts", "src/**/{crash,recovery}.test.ts"];
const ROUNDS = 200;
/** Rounds of a pass; then comes the next seed. */
const PASS_ROUNDS = 25;
const root = path.dirname(import.meta.dirname);

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: String(ROUNDS) },
    seed: { type: "string", default: "1" },
    for: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const [rounds, firstSeed] = [Number(values.rounds), Number(values.seed)];
if (!Number.isSafeInteger(rounds) || rounds < 1 || !Number.isSafeInteger(firstSeed)) {
  console.error("usage: npm run soak -- [--rounds N] [--seed N] [--for 30m] [--json]");
  process.exit(2);
}
const startMs = performance.now();
const endMs = values.for === undefined ? Number.POSITIVE_INFINITY : startMs + parseDurationMs(values.for);
const files = FAULTS.flatMap((pattern) => globSync(pattern, { cwd: root })).toSorted();
const told = { passes: 0, rounds: 0, held: 0, failed: 0, skipped: 0 };
const atTime = (): string => new Date(performance.now() - startMs).toISOString().slice(11, 19);

async function pass(seed: number, count: number): Promise<void> {
  process.env["HOLDFAST_SEED"] = String(seed);
  process.env["HOLDFAST_FAULT_ROUNDS"] = String(count);
  process.env["HOLDFAST_RESTART_RATE"] ??= "1000";
  process.env["HOLDFAST_THEFT_ROUNDS"] = String(count);
  console.log(`${atTime()} seed ${seed}: ${count} rounds of ${files.length} files`);
  const stream = run({ cwd: root, files: files.map((file) => path.join(root, file)), concurrency: 1 });
  stream.on("test:pass", ({ name, details, skip }) => {
    if (details.type === "suite") return;
    if (skip !== undefined && skip !== false) told.skipped++;
    else told.held++;
    console.log(`${atTime()}   ${skip ? "skipped" : "holds  "} ${name} (${(details.duration_ms / 1000).toFixed(1)} s)`);
  });
  stream.on("test:fail", ({ name, details, file }) => {
    if (details.type === "suite") return;
    told.failed++;
    const where = path.relative(root, file ?? "");
    console.log(`${atTime()}   FAILS   ${name}\n${inspect(details.error.cause ?? details.error, { depth: 6 })}`);
    console.log(`again: HOLDFAST_SEED=${seed} HOLDFAST_FAULT_ROUNDS=${count} bin/node --test ${where}`);
  });
  for await (const _ of stream);
  told.passes++;
  told.rounds += count;
}

for (let seed = firstSeed; told.rounds < rounds && performance.now() < endMs; seed++)
  await pass(seed, Math.min(PASS_ROUNDS, rounds - told.rounds));
console.log(
  `${atTime()} ${told.rounds} rounds: ${told.held} stories hold, ${told.failed} fail, ${told.skipped} were skipped`,
);
if (values.json) console.log(JSON.stringify({ soak: { ...told, seed: firstSeed } }));
process.exitCode = told.failed === 0 && told.held > 0 ? 0 : 1;
