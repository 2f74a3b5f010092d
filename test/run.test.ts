import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { missing, NEEDS, skipFor } from "./need.ts";

/** Runs a copy of the runner in a tree of its own, with the given files beside it. */
function runIn(t: TestContext, files: { readonly [name: string]: string }, args: readonly string[] = [], ci = false) {
  const root = mkdtempSync(path.join(os.tmpdir(), "holdfast-run-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(path.join(root, "test"));
  writeFileSync(path.join(root, "package.json"), '{"type":"module"}');
  for (const name of ["run.ts", "report.ts", "compiled.ts"])
    copyFileSync(path.join(import.meta.dirname, name), path.join(root, "test", name));
  for (const [name, text] of Object.entries(files))
    writeFileSync(path.join(root, "test", name), `import { test } from "node:test";\n${text}`);
  const env: NodeJS.ProcessEnv = { ...process.env, CI: String(ci) };
  // The mark by which the runner knows that it would run inside of itself.
  delete env["NODE_TEST_CONTEXT"];
  const ended = spawnSync(process.execPath, [path.join(root, "test", "run.ts"), ...args], {
    env,
    encoding: "utf8",
    timeout: 60_000,
  });
  return { status: ended.status, text: ended.stdout + ended.stderr };
}

test("passing tests give a line a file, the runner's counts, and exit code 0", (t) => {
  const { status, text } = runIn(
    t,
    {
      "a.test.ts": 'test("one", () => console.log("noise"));\ntest("two", () => process.emitWarning("noise"));',
      "b.test.ts":
        'test("rounds", () => { if (process.env.HOLDFAST_FAULT_ROUNDS !== "7") throw new Error("no rounds"); });',
      "helper.ts": 'test("not a test file", () => { throw new Error("ran"); });',
    },
    ["--rounds", "7"],
  );
  assert.equal(status, 0, text);
  assert.match(text, /^✔ test\/a\.test\.ts \(2 tests, [0-9.]+ s\)\n/);
  assert.match(
    text,
    /\nℹ tests 3\nℹ suites 0\nℹ pass 3\nℹ fail 0\nℹ cancelled 0\nℹ skipped 0\nℹ todo 0\nℹ duration_ms [0-9.]+\n$/,
  );
  assert.doesNotMatch(text, /noise|Warning/);
});

test("a failing test is shown in full, with what its file wrote, and exit code 1", (t) => {
  const { status, text } = runIn(t, {
    "a.test.ts":
      'test("outer", async (t) => { console.log("seen"); await t.test("inner", () => { throw new Error("boom", { cause: new Error("deep") }); }); });',
    "b.test.ts": 'throw new Error("at load");',
    "c.test.ts": 'test("leaves", () => process.exit(3));',
    "d.test.ts": "",
  });
  assert.equal(status, 1, text);
  assert.match(
    text,
    /✖ test\/a\.test\.ts[^]*✖ inner\n +at test\/a\.test\.ts:2:[^]*Error: boom[^]*cause[^]*deep[^]*wrote:\n +seen/,
  );
  assert.equal(text.match(/Error: boom/g)?.length, 1);
  assert.match(text, /✖ test\/b\.test\.ts[^]*Error: at load/);
  assert.match(text, /✖ test\/c\.test\.ts/);
  assert.match(text, /✖ no test ran in test\/d\.test\.ts/);
});

test("a skipped test is named, and is a failure in CI", (t) => {
  const files = { "a.test.ts": 'test("wire", { skip: "needs tcpdump" }, () => {});\ntest("x", () => {});' };
  const here = runIn(t, files);
  assert.equal(here.status, 0, here.text);
  assert.match(here.text, /skipped: test\/a\.test\.ts: wire \(needs tcpdump\)/);
  const ci = runIn(t, files, [], true);
  assert.equal(ci.status, 1, ci.text);
  assert.match(ci.text, /a skipped test is a failure where CI=true/);
});

test("a run without a test does not pass", (t) => {
  const files = { "a.test.ts": 'test("x", () => {});' };
  assert.equal(runIn(t, files, ["a.test"]).status, 0);
  const none = runIn(t, files, ["nowhere"]);
  assert.equal(none.status, 2);
  assert.match(none.text, /no test file matches nowhere/);
  assert.equal(runIn(t, {}).status, 2);
  assert.equal(runIn(t, files, ["--rounds", "many"]).status, 2);
  assert.equal(runIn(t, files, ["--bogus"]).status, 2);
});

test("a missing component is a reason to skip at home and an error in CI", (t) => {
  assert.equal(missing({ commands: ["sh"] }), undefined);
  assert.equal(
    missing({ commands: ["sh", "no-such-command"], debian: "x" }),
    "needs no-such-command (Debian: apt-get install x)",
  );
  assert.equal(missing({ root: true }, 1000), "needs to be run as root");
  assert.equal(missing({ root: true }, 0), undefined);
  const before = process.env["CI"];
  t.after(() => {
    if (before === undefined) delete process.env["CI"];
    else process.env["CI"] = before;
  });
  process.env["CI"] = "false";
  assert.equal(
    skipFor({ commands: ["no-such-command"], debian: "x" }),
    "needs no-such-command (Debian: apt-get install x)",
  );
  assert.equal(skipFor({}), false);
  process.env["CI"] = "true";
  assert.throws(() => skipFor({ commands: ["no-such-command"], debian: "x" }), /CI=true allows no skipping/);
});

test("CI installs what the tests need", () => {
  const script = readFileSync(path.join(import.meta.dirname, "../.ci/run"), "utf8");
  const installed = /^packages=\(([^)]*)\)$/m.exec(script)?.[1]?.split(/\s+/) ?? [];
  const needed = Object.values(NEEDS).flatMap((need) => ("debian" in need ? need.debian.split(" ") : []));
  assert.deepEqual([...new Set(needed)].toSorted(), installed.toSorted());
});
