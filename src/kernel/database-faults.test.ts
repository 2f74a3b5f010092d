import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { type DatabaseOptions, openDatabase } from "./database.ts";

const base = mkdtempSync(join(tmpdir(), "database-faults-"));
after(() => rmSync(base, { recursive: true }));
let count = 0;
const place = (): string => join(base, String(count++), "store.db");
const key = Buffer.alloc(32, 7);
const schema = {
  version: 1,
  migrations: ["CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT"],
};
const open = (path: string, more: Partial<DatabaseOptions> = {}) => openDatabase({ path, key, schema, ...more });
const coded = (code: string, message = /./) => ({ name: "Failure", code, message });
const fill = (path: string, rows: number): void => {
  const db = open(path);
  const add = db.prepare("INSERT INTO note (text) VALUES (?)");
  db.transaction(() => {
    for (let row = 0; row < rows; row++) add.run(`${row} ${"x".repeat(500)}`);
  });
  db.close();
};
const rowsOf = (path: string): number => {
  const db = open(path);
  const rows = db.prepare<number>("SELECT count(*) FROM note", { pluck: true }).get();
  db.close();
  return rows ?? -1;
};
const overwrite = (path: string, at: number, bytes: Buffer): void => {
  const whole = readFileSync(path);
  bytes.copy(whole, at);
  writeFileSync(path, whole);
};

test("a database that was zeroed, cut, or overwritten is moved aside, and a fresh one begins and says so", () => {
  const faults: Record<string, (path: string, size: number) => void> = {
    zeroed: (path, size) => writeFileSync(path, Buffer.alloc(size)),
    garbage: (path, size) => writeFileSync(path, randomBytes(size)),
    "first page zeroed": (path) => overwrite(path, 0, Buffer.alloc(4096)),
    "first page torn": (path) => overwrite(path, 512, Buffer.alloc(3584)),
    "cut in half": (path, size) => truncateSync(path, size >> 1),
    "cut to a few bytes": (path) => truncateSync(path, 300),
  };
  for (const [name, fault] of Object.entries(faults)) {
    const path = place();
    fill(path, 200);
    fault(path, statSync(path).size);
    const said: string[] = [];
    const db = open(path, { log: { warn: (_, message) => said.push(message) } });
    assert.equal(db.replaced?.movedTo, `${path}.damaged-1`, name);
    assert.match(said.join(), /moved aside, a fresh one begins/, name);
    assert.equal(db.prepare("SELECT count(*) FROM note", { pluck: true }).get(), 0);
    db.close();
    assert.ok(existsSync(`${path}.damaged-1`));
  }
});

test("damage met in the middle of work is a Failure, and the next open moves the file aside", () => {
  const path = place();
  fill(path, 2000);
  // From the second half on, table and index alike; the first pages are whole, so the open finds nothing.
  const half = statSync(path).size >> 1;
  overwrite(path, half, Buffer.alloc(half));
  const db = open(path);
  assert.equal(db.replaced, undefined);
  assert.throws(() => db.prepare("SELECT sum(length(text)) FROM note NOT INDEXED").all(), coded("DATABASE_DAMAGED"));
  assert.throws(
    () => db.transaction(() => db.prepare("UPDATE note SET text = text || 'y'").run()),
    coded("DATABASE_DAMAGED"),
  );
  db.close();
  assert.match(open(path).replaced?.reason ?? "", /damaged/);
  assert.equal(open(path).replaced, undefined);
});

test("an open that finds nothing to do writes nothing, nor does a suspicion that proves wrong", () => {
  const path = place();
  fill(path, 50);
  const before = readFileSync(path);
  writeFileSync(`${path}.suspect`, "");
  open(path).close();
  assert.ok(readFileSync(path).equals(before));
  assert.equal(rowsOf(path), 50);
  assert.equal(existsSync(`${path}.suspect`), false);
});

test("at most three damaged files are kept, the newest", () => {
  const path = place();
  for (let round = 0; round < 5; round++) {
    fill(path, 1);
    writeFileSync(path, Buffer.alloc(8192, round));
  }
  open(path).close();
  const names = readdirSync(join(path, "..")).filter((name) => name.includes("damaged"));
  assert.deepEqual(
    names.sort(),
    [3, 4, 5].map((n) => `store.db.damaged-${n}`),
  );
});

test("a full disk is a Failure that loses nothing, and the same change passes when there is room", (t) => {
  const path = place();
  const at = join(path, "..");
  if (!smallDisk(at, t)) return;
  writeFileSync(join(at, "ballast"), Buffer.alloc(2_000_000));
  const db = open(path);
  const add = db.prepare("INSERT INTO note (text) VALUES (?)");
  const put = (from: number, rows: number) =>
    db.transaction(() => {
      for (let row = from; row < from + rows; row++) add.run(`${row} ${"x".repeat(1000)}`);
    });
  put(0, 100);
  assert.throws(() => put(100, 500), coded("DATABASE_DISK_FULL"));
  assert.equal(db.prepare("SELECT count(*) FROM note", { pluck: true }).get(), 100);
  rmSync(join(at, "ballast"));
  put(100, 100);
  assert.equal(db.prepare("SELECT count(*) FROM note", { pluck: true }).get(), 200);
  db.close();
  writeFileSync(join(at, "ballast"), "");
  spawnSync("dd", ["if=/dev/zero", `of=${join(at, "ballast")}`, "bs=4096"]);
  assert.throws(() => open(join(at, "second.db")), coded("DATABASE_DISK_FULL"));
});

test("a read-only disk is a Failure that says so", (t) => {
  const path = place();
  const at = join(path, "..");
  if (!smallDisk(at, t)) return;
  fill(path, 5);
  spawnSync("mount", ["-o", "remount,ro", at]);
  assert.throws(() => open(path), coded("DATABASE_READ_ONLY"));
  assert.throws(() => open(join(at, "new", "other.db")), coded("DATABASE_READ_ONLY"));
});

test("a database held by another process is busy, not damaged", () => {
  const path = place();
  const db = open(path);
  const other = open(path, { busyTimeoutMs: 10 });
  db.transaction(() => {
    assert.throws(() => other.transaction(() => 1), coded("DATABASE_BUSY"));
  });
  assert.equal(
    other.transaction(() => 1),
    1,
  );
  other.close();
  db.close();
});

function smallDisk(at: string, t: TestContext): boolean {
  mkdirSync(at);
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", at]).status === 0;
  if (mounted) t.after(() => spawnSync("umount", ["--lazy", at]));
  else t.skip("no right to mount a small disk here");
  return mounted;
}
