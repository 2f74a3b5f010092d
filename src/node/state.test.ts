import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { openState, STATE_FORMAT, stateDirectoryOf } from "./state.ts";

const asRoot = process.geteuid?.() === 0;

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-state-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "state");
}

test("the state directory is HOLDFAST_STATE, else the system's as root, else the user's", () => {
  assert.equal(stateDirectoryOf({ HOLDFAST_STATE: "/x" }, true), "/x");
  assert.equal(stateDirectoryOf({}, true), "/var/lib/holdfast");
  assert.equal(stateDirectoryOf({ HOME: "/home/a" }, false), "/home/a/.local/state/holdfast");
  assert.equal(stateDirectoryOf({ HOME: "/home/a", XDG_STATE_HOME: "/s" }, false), "/s/holdfast");
});

test("a first start makes the directory for this user alone, a second finds the same node", (t) => {
  const path = place(t);
  const first = openState({ path, version: "1.0.0" });
  assert.equal(first.fresh, true);
  assert.match(first.node.name, /^[a-z0-9][a-z0-9-]{0,62}$/);
  assert.equal(statSync(path).mode & 0o777, asRoot ? 0o711 : 0o700);
  assert.equal(statSync(join(path, "node.json")).mode & 0o777, 0o600);
  first.save({ cloudPort: 4711 });
  first.release();
  const second = openState({ path, version: "1.0.1" });
  assert.equal(second.fresh, false);
  assert.deepEqual({ ...second.node }, { ...first.node, version: "1.0.1" });
  second.release();
});

test("a directory that others may enter is closed to them", (t) => {
  const path = place(t);
  mkdirSync(path);
  chmodSync(path, 0o777);
  openState({ path, version: "1.0.0" }).release();
  assert.equal(statSync(path).mode & 0o066, 0);
});

test("as root, a directory made by hand for root alone lets the services' own uids through to theirs", (t) => {
  const path = place(t);
  mkdirSync(path, { mode: 0o700 });
  openState({ path, version: "1.0.0" }).release();
  assert.equal(statSync(path).mode & 0o777, asRoot ? 0o711 : 0o700);
});

test("a second node on the same state is refused and told the pid, until the first is gone, even by kill -9", async (t) => {
  const path = place(t);
  const other = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { openState } from ${JSON.stringify(join(import.meta.dirname, "state.ts"))};
    openState({ path: ${JSON.stringify(path)}, version: "1.0.0" }); process.stdout.write("locked"); setInterval(() => {}, 1000);`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(() => other.kill("SIGKILL"));
  await once(other.stdout, "data");
  assert.throws(
    () => openState({ path, version: "1.0.0" }),
    (error: Error & { code: string }) =>
      error.code === "NODE_STATE_LOCKED" && error.message.includes(`process ${other.pid}`),
  );
  other.kill("SIGKILL");
  await once(other, "exit");
  openState({ path, version: "1.0.0" }).release();
});

test("a node.json that the disk damaged or lost costs nothing: its copy tells the node's name", (t) => {
  const path = place(t);
  const first = openState({ path, version: "1.0.0" });
  first.save({ cloudPort: 8444 });
  first.release();
  for (const damage of [(file: string) => writeFileSync(file, "\0\0\0\0"), (file: string) => rmSync(file)]) {
    for (const name of ["node.json", "node.json.bak"]) {
      damage(join(path, name));
      const again = openState({ path, version: "1.0.0" });
      assert.deepEqual(again.node, first.node);
      again.release();
    }
  }
  for (const name of ["node.json", "node.json.bak"]) writeFileSync(join(path, name), "");
  assert.throws(() => openState({ path, version: "1.0.0" }), { code: "NODE_STATE_UNUSABLE", message: /damaged/ });
});

test("a state directory of a newer version is refused and its version named", (t) => {
  const path = place(t);
  openState({ path, version: "1.0.0" }).release();
  const file = join(path, "node.json");
  const newer = { ...(JSON.parse(readFileSync(file, "utf8")) as object), format: STATE_FORMAT + 1, version: "9.8.7" };
  writeFileSync(file, JSON.stringify(newer));
  assert.throws(
    () => openState({ path, version: "1.0.0" }),
    (error: Error & { code: string }) => error.code === "NODE_STATE_NEWER" && error.message.includes("9.8.7"),
  );
  assert.deepEqual(JSON.parse(readFileSync(file, "utf8")), newer);
});

test("what is no directory, a link, too long, or somebody else's is refused", (t) => {
  const path = place(t);
  writeFileSync(path, "");
  assert.throws(() => openState({ path, version: "1" }), { code: "NODE_STATE_UNUSABLE", message: /not a directory/ });
  assert.throws(() => openState({ path: join(path, "below"), version: "1" }), { code: "NODE_STATE_UNUSABLE" });
  symlinkSync(tmpdir(), `${path}-link`);
  assert.throws(() => openState({ path: `${path}-link`, version: "1" }), {
    code: "NODE_STATE_UNUSABLE",
    message: /symbolic link/,
  });
  assert.throws(() => openState({ path: join(path, "x".repeat(120)), version: "1" }), {
    code: "NODE_STATE_UNUSABLE",
    message: /too long/,
  });
  // /proc belongs to root: somebody else's for a user. As root, a directory given away stands for it.
  if (asRoot)
    assert.throws(() => openState({ path: foreign(path), version: "1" }), {
      code: "NODE_STATE_UNUSABLE",
      message: /belongs to uid 12345/,
    });
  else
    assert.throws(() => openState({ path: "/proc", version: "1" }), {
      code: "NODE_STATE_UNUSABLE",
      message: /belongs to uid 0/,
    });
});

function foreign(path: string): string {
  mkdirSync(`${path}-foreign`);
  chownSync(`${path}-foreign`, 12345, 12345);
  return `${path}-foreign`;
}

test("a read-only state directory is refused with the reason", (t) => {
  const path = place(t);
  mkdirSync(path, { mode: 0o500 });
  if (asRoot) {
    // Root may write to a directory of any mode, but not to a file system that is mounted read-only.
    execFileSync("mount", ["-t", "tmpfs", "-o", "ro,size=64k", "none", path]);
  }
  try {
    assert.throws(() => openState({ path, version: "1" }), { code: "NODE_STATE_UNUSABLE" });
  } finally {
    if (asRoot) execFileSync("umount", [path]);
  }
});
