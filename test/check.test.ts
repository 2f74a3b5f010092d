import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";

// A check that has never failed may be checking nothing: each is shown a fault here that it has to find.

const root = path.dirname(import.meta.dirname);
const CONFIGS = [".oxlintrc.json", ".oxfmtrc.json", "knip.json", "tsconfig.json", "package.json", "test/check.ts"];

/** Runs one check in a tree that holds our configuration and the planted files, with no other node to be found. */
function check(t: TestContext, name: string, files: { readonly [file: string]: string }) {
  const tree = mkdtempSync(path.join(os.tmpdir(), "holdfast-check-"));
  t.after(() => rmSync(tree, { recursive: true, force: true }));
  for (const file of CONFIGS) cpSync(path.join(root, file), path.join(tree, file));
  symlinkSync(path.join(root, "node_modules"), path.join(tree, "node_modules"));
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(tree, file)), { recursive: true });
    writeFileSync(path.join(tree, file), text);
  }
  const ended = spawnSync(process.execPath, ["test/check.ts", name], {
    cwd: tree,
    env: { PATH: "/nowhere" },
    encoding: "utf8",
    timeout: 60_000,
  });
  return { status: ended.status, text: ended.stdout + ended.stderr };
}

const SOUND = 'export const start = (name: string): string => `hello ${name}`;\n\nconsole.log(start("you"));\n';

test("sound code passes the types, the lint and the format", (t) => {
  for (const name of ["types", "lint", "format"]) {
    const { status, text } = check(t, name, { "src/main.ts": SOUND });
    assert.equal(status, 0, text);
  }
});

test("a wrong type is found", (t) => {
  const { status, text } = check(t, "types", {
    "src/main.ts": "const wrong: number = 'one';\nexport const all = [wrong];\n",
  });
  assert.equal(status, 1, text);
  assert.match(text, /src\/main\.ts\(1,7\): error TS2322/);
});

const long = `export function long(): void {\n${"  process.emitWarning('');\n".repeat(59)}}\n`;
const FAULTS: { readonly [rule: string]: string } = {
  "typescript(no-floating-promises)": "export async function go(): Promise<void> {}\n\ngo();\n",
  "typescript(no-misused-promises)": "export const all = [1].filter(async (one) => Promise.resolve(one > 0));\n",
  "typescript(no-explicit-any)": "export const value: unknown = 1 as any;\n",
  "typescript(no-unsafe-assignment)": 'export const value: string = JSON.parse("1");\n',
  "typescript(ban-ts-comment)": "// @ts-" + "ignore\nexport const value = 1;\n",
  "eslint(no-unused-vars)": "const unused = 1;\nexport {};\n",
  "eslint(eqeqeq)": "export const same = (a: number, b: number): boolean => a == b;\n",
  "eslint(no-empty)": "try {\n  process.emitWarning('');\n} catch {}\nexport {};\n",
  "eslint(max-lines-per-function)": long,
  "eslint(no-console)": 'export const say = (): void => console.log("x");\n',
  "import(no-cycle)": 'import { other } from "./other.ts";\n\nexport const here = (): number => other();\n',
};

test("each rule of the lint finds the fault that it is there for", (t) => {
  const other = 'import { here } from "./import-no-cycle.ts";\n\nexport const other = (): number => here();\n';
  const files: { [file: string]: string } = { "src/other.ts": other };
  for (const [rule, text] of Object.entries(FAULTS))
    files[`src/${rule.replaceAll(/\W+/g, "-").replace(/-$/, "")}.ts`] = text;
  const { status, text } = check(t, "lint", files);
  assert.equal(status, 1, text);
  for (const rule of Object.keys(FAULTS)) {
    const file = `src/${rule.replaceAll(/\W+/g, "-").replace(/-$/, "")}.ts`;
    assert.ok(
      text.split("\n\n").some((found) => found.includes(rule) && found.includes(file)),
      `${rule} is not found in ${file}:\n${text}`,
    );
  }
});

test("a file out of format is found", (t) => {
  const { status, text } = check(t, "format", { "src/main.ts": SOUND.replace('"you"', "'you'") });
  assert.equal(status, 1, text);
  assert.match(text, /src\/main\.ts/);
});

test("a file, an export and a dependency that nobody uses are found", (t) => {
  const { status, text } = check(t, "dead code", {
    "src/main.ts": 'import { used } from "./used.ts";\n\nused();\n',
    "src/used.ts": "export const used = (): void => undefined;\nexport const unused = (): number => 1;\n",
    "src/lost.ts": "export const lost = 1;\n",
    "src/needs.test.ts": 'import "left-pad";\n',
  });
  assert.equal(status, 1, text);
  assert.match(text, /Unused files[^]*src\/lost\.ts/);
  assert.match(text, /Unused exports[^]*unused +src\/used\.ts/);
  assert.match(text, /Unused dependencies[^]*fastify/);
  assert.match(text, /Unlisted dependencies[^]*left-pad/);
});
