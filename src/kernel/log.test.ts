/** The log's promises: no secret in a line, and no line lost. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { makeLog } from "./log.ts";

test("a secret reaches no line: at the top, one level down, in an error, or in a child's bindings", () => {
  const lines: string[] = [];
  const log = makeLog("x", { to: { write: (line: string) => void lines.push(line) } });
  const error = Object.assign(new Error("it failed"), { token: "hunter2", status: 5 });
  const values = { token: "hunter2", options: { password: "hunter2", name: "n" }, list: [1], err: error };
  log.child({ keyPem: "hunter2", part: "p" }).info(values, "said");
  const [line = ""] = lines;
  assert.ok(!line.includes("hunter2"), line);
  const said = JSON.parse(line) as Record<string, Record<string, unknown>>;
  assert.deepEqual(
    [said["service"], said["part"], said["keyPem"], said["token"], said["list"], said["options"]],
    ["x", "p", "[secret]", "[secret]", [1], { password: "[secret]", name: "n" }],
  );
  assert.deepEqual(
    ["type", "message", "status", "token"].map((key) => said["err"]?.[key]),
    ["Error", "it failed", 5, "[secret]"],
  );
  assert.match(String(said["err"]?.["stack"]), /it failed/);
  assert.equal(error.token, "hunter2", "what the caller has is left as it is");
});

test("a reader that is behind loses no line, and none of its characters", () => {
  const lines = 3_000;
  const program = `
    import { makeLog } from ${JSON.stringify(import.meta.resolve("./log.ts"))};
    process.stdout; // which makes the pipe one that says EAGAIN
    const log = makeLog("x");
    for (let i = 0; i < ${lines}; i++) log.info({ i, text: "ä€".repeat(40) });`;
  // The shell's reader begins when the pipe has long been full.
  const { stdout } = spawnSync(
    "sh",
    ["-c", '"$0" --input-type=module-typescript -e "$1" | { sleep 0.3; cat; }', process.execPath, program],
    { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 },
  );
  const said = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { i: number; text: string });
  assert.deepEqual(
    said.map((line) => line.i),
    Array.from({ length: lines }, (_, i) => i),
  );
  assert.ok(said.every((line) => line.text === "ä€".repeat(40)));
});

test("who logs goes on when nobody reads any more", () => {
  const program = `
    import { makeLog } from ${JSON.stringify(import.meta.resolve("./log.ts"))};
    const log = makeLog("x");
    const endMs = Date.now() + 10_000;
    // The pipe holds 64 KiB: a line beyond it meets its end.
    for (let i = 0; i < 3_000 && Date.now() < endMs; i++) log.info({ i, text: "a".repeat(100) });
    process.stderr.write("went on");`;
  const { stderr } = spawnSync(
    "sh",
    ["-c", '{ "$0" --input-type=module-typescript -e "$1"; } | true', process.execPath, program],
    { encoding: "utf8" },
  );
  assert.match(stderr, /went on$/);
});

test("lines of one turn stand in the order in which they were said, and an exit loses none", () => {
  const program = `
    import { logFields, makeLog } from ${JSON.stringify(import.meta.resolve("./log.ts"))};
    const log = makeLog("x").child({ part: "p" });
    for (let i = 0; i < 3_000; i++) logFields(log, "info", '"i":' + i);
    log.info({ i: 3_000 });
    logFields(log, "info", '"i":3001');
    process.exit(0);`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module-typescript", "-e", program], {
    encoding: "utf8",
    maxBuffer: 16 * 1024 * 1024,
  });
  const said = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    said.map(({ i }) => i),
    Array.from({ length: 3_002 }, (_, i) => i),
  );
  const { i: _, time, ...rest } = said[3_001];
  assert.deepEqual(rest, { level: 30, service: "x", part: "p" });
  assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
});
