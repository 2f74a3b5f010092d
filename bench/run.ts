/** `npm run bench [NAME ...] [-- --json]`: runs the benches named, or tells which there are. */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";

const OWN = ["asker.ts", "etcd.ts", "run.ts", "table.ts"];
const names = readdirSync(import.meta.dirname)
  .filter((name) => name.endsWith(".ts") && !OWN.includes(name))
  .map((name) => name.slice(0, -3));
const wanted = process.argv.slice(2).filter((word) => !word.startsWith("-"));
const options = process.argv.slice(2).filter((word) => word.startsWith("-"));
const unknown = wanted.find((name) => !names.includes(name));
if (wanted.length === 0 || unknown !== undefined) {
  console.error(
    `${unknown === undefined ? "name a bench" : `there is no bench '${unknown}'`}; there are: ${names.join(", ")}`,
  );
  process.exit(2);
}
for (const name of wanted) {
  const file = path.join(import.meta.dirname, `${name}.ts`);
  const { status } = spawnSync(process.execPath, ["--no-function-context-cells", file, ...options], {
    stdio: "inherit",
  });
  if (status !== 0) process.exit(status ?? 1);
}
