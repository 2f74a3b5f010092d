/** Writes docs/errors.md from the codes that the source declares: `bin/node test/errors-page.ts`. */
import { globSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

const root = path.dirname(import.meta.dirname);
const DECLARED = /\bcode\(\s*"([A-Z0-9_]+)",\s*"([a-z-]+)",\s*"((?:[^"\\]|\\.)*)",?\s*\)/g;
const found = new Map<string, { kind: string; todo: string }>();
for (const file of globSync("src/**/*.ts", { cwd: root }).sort()) {
  if (file.endsWith(".test.ts")) continue;
  for (const [, name = "", kind = "", todo = ""] of readFileSync(path.join(root, file), "utf8").matchAll(DECLARED)) {
    found.set(name, { kind, todo: todo.replaceAll("\\", "") });
  }
}
const rows = [...found]
  .sort(([a], [b]) => (a < b ? -1 : 1))
  .map(([name, { kind, todo }]) => `| \`${name}\` | ${kind} | ${todo} |`);
const page = [
  "# Errors",
  "",
  "Every error has a stable code, a message for people, and what to do. On the wire: `{apiVersion, requestId, statusCode, message,",
  "code, todo}`. The kind decides the HTTP status (`src/kernel/error.ts`). This page is written by `bin/node test/errors-page.ts`.",
  "",
  "| code | kind | what to do |",
  "|---|---|---|",
  ...rows,
  "",
];
writeFileSync(path.join(root, "docs", "errors.md"), page.join("\n"));
