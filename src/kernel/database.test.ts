import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { type DatabaseOptions, openDatabase } from "./database.ts";

const base = mkdtempSync(join(tmpdir(), "database-"));
after(() => rmSync(base, { recursive: true }));
let count = 0;
const place = (): string => join(base, String(count++), "store.db");
const key = Buffer.alloc(32, 7);
const schema = { version: 1, migrations: ["CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT"] };
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

test("what was committed is there after the database was closed and opened again", () => {
  const path = place();
  fill(path, 20);
  assert.equal(rowsOf(path), 20);
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test("a throw undoes the whole transaction, a nested one only its own part", () => {
  const db = open(place());
  const add = db.prepare<unknown, [string]>("INSERT INTO note (text) VALUES (?)");
  const texts = db.prepare<string>("SELECT text FROM note", { pluck: true });
  assert.throws(() => db.transaction(() => (add.run("a"), assert.fail("no"))), /no/);
  assert.deepEqual(texts.all(), []);
  const given = db.transaction(() => {
    add.run("outer");
    assert.throws(() => db.transaction(() => (add.run("inner"), assert.fail("no"))), /no/);
    return db.transaction(() => (add.run("kept"), 7));
  });
  assert.equal(given, 7);
  assert.deepEqual([...texts.iterate()], ["outer", "kept"]);
  assert.throws(() => db.transaction(async () => add.run("late")), /cannot wait/);
  assert.deepEqual(texts.all(), ["outer", "kept"]);
  db.close();
});

test("integers beyond 2^53 come back exactly where asked for", () => {
  const db = open(place());
  const origin = 1_790_000_000_123_456_789n;
  db.prepare("INSERT INTO note VALUES (?, 'x')").run(origin);
  assert.equal(db.prepare<bigint>("SELECT id FROM note", { bigint: true, pluck: true }).get(), origin);
  assert.deepEqual(db.prepare("SELECT id, text FROM note", { bigint: true, raw: true }).all(), [[origin, "x"]]);
  db.close();
});

test("a violated constraint stays what SQLite calls it, so that the domain can answer", () => {
  const db = open(place());
  const add = db.prepare("INSERT INTO note (text) VALUES ('same')");
  add.run();
  assert.throws(() => db.transaction(() => add.run()), { code: "SQLITE_CONSTRAINT_UNIQUE" });
  db.close();
});

test("no plaintext is found in the database, its log, its index, or a temporary file of a big sort", () => {
  const path = place();
  const canary = "CANARYcanary";
  const db = open(path);
  const add = db.prepare("INSERT INTO note (text) VALUES (?)");
  db.transaction(() => {
    for (let row = 0; row < 20_000; row++) add.run(`${createHash("sha1").update(String(row)).digest("hex")}${canary.repeat(20)}`);
  });
  const seen = new Set<string>();
  const look = (): void => {
    // Temporary files are unlinked at once: they are only found through the descriptors of the process.
    for (const fd of readdirSync("/proc/self/fd")) {
      // The descriptor that lists the others is closed by now.
      const to = existsSync(`/proc/self/fdinfo/${fd}`) ? readlinkSync(`/proc/self/fd/${fd}`) : "";
      if (!/store\.db|etilqs/.test(to)) continue;
      seen.add(to.replace(/.*\//, ""));
      assert.ok(!readFileSync(`/proc/self/fd/${fd}`).includes(canary), to);
    }
  };
  let rows = 0;
  for (const _ of db.prepare("SELECT a.text FROM note a JOIN (SELECT text FROM note) b ON a.text = b.text ORDER BY substr(a.text, 3)").iterate()) {
    if (rows++ % 15_000 === 0) look();
  }
  db.exec("CREATE TEMP TABLE sorted AS SELECT text FROM note ORDER BY substr(text, 5)");
  look();
  assert.deepEqual([...seen].sort(), ["store.db", "store.db-shm", "store.db-wal"]);
  db.close();
  assert.ok(!readFileSync(path).includes(canary));
  assert.ok(readFileSync(path).length > 5_000_000);
});

test("a wrong key is refused, and neither the file nor a log left behind by a kill is harmed", async () => {
  const path = place();
  await killed(path);
  assert.ok(statSync(`${path}-wal`).size > 0);
  assert.throws(() => open(path, { key: Buffer.alloc(32, 8) }), coded("DATABASE_KEY_WRONG", /another key/));
  assert.deepEqual(readdirSync(join(path, "..")).filter((name) => name.includes("damaged")), []);
  assert.equal(rowsOf(path), 100);
});

test("a database of a newer version is refused, both versions named, and left as it is", () => {
  const path = place();
  const next = { version: 3, migrations: [...schema.migrations, "CREATE TABLE more (id) ", "CREATE TABLE most (id)"] };
  open(path, { schema: next }).close();
  const before = readFileSync(path);
  assert.throws(() => open(path), coded("DATABASE_NEWER", /version 3.*up to 1/));
  assert.ok(readFileSync(path).equals(before));
});

test("migrations lead from any older version to this one, all or none", () => {
  const path = place();
  fill(path, 3);
  const broken = { version: 3, migrations: [...schema.migrations, "ALTER TABLE note ADD COLUMN colour TEXT", "CREATE TABLE note (again)"] };
  assert.throws(() => open(path, { schema: broken }), /already exists/);
  assert.equal(rowsOf(path), 3);
  const said: object[] = [];
  const right = { version: 3, migrations: [...broken.migrations.slice(0, 2), "CREATE TABLE label (id)"] };
  const db = open(path, { schema: right, log: { warn: (fields) => said.push(fields) } });
  assert.deepEqual(said, [{ path, from: 1, to: 3 }]);
  assert.deepEqual(db.prepare("SELECT id, colour FROM note WHERE id = 1").get(), { id: 1, colour: null });
  db.close();
});

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
  assert.throws(() => db.transaction(() => db.prepare("UPDATE note SET text = text || 'y'").run()), coded("DATABASE_DAMAGED"));
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
  assert.deepEqual(names.sort(), [3, 4, 5].map((n) => `store.db.damaged-${n}`));
});

test("what was acknowledged survives kill -9", async () => {
  const path = place();
  await killed(path);
  assert.equal(rowsOf(path), 100);
});

test("a full disk is a Failure that loses nothing, and the same change passes when there is room", (t) => {
  const path = place();
  const at = join(path, "..");
  if (!smallDisk(at, t)) return;
  writeFileSync(join(at, "ballast"), Buffer.alloc(2_000_000));
  const db = open(path);
  const add = db.prepare("INSERT INTO note (text) VALUES (?)");
  const put = (from: number, rows: number) => db.transaction(() => {
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
  assert.equal(other.transaction(() => 1), 1);
  other.close();
  db.close();
});

test("the disk shrinks again: the log after a large transaction, the database after deletion", () => {
  const path = place();
  fill(path, 1);
  const db = open(path);
  const add = db.prepare("INSERT INTO note (text) VALUES (?)");
  db.transaction(() => {
    for (let row = 0; row < 20_000; row++) add.run(`${row} many ${"x".repeat(500)}`);
  });
  assert.ok(statSync(`${path}-wal`).size > 10_000_000);
  db.transaction(() => add.run("the one that begins the log anew"));
  assert.ok(statSync(`${path}-wal`).size <= 4 * 1024 * 1024);
  db.exec("DELETE FROM note");
  db.shrink(1_000_000);
  db.close();
  assert.ok(statSync(path).size < 100_000, String(statSync(path).size));
});

test("programming errors are told as such", () => {
  assert.throws(() => open(place(), { key: Buffer.alloc(16) }), TypeError);
  assert.throws(() => open(place(), { schema: { version: 2, migrations: [""] } }), /as many migrations/);
  const db = open(place());
  assert.throws(() => db.prepare("SELECT text FROM nowhere"), /no such table/);
  db.close();
});

function smallDisk(at: string, t: TestContext): boolean {
  mkdirSync(at);
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", at]).status === 0;
  if (mounted) t.after(() => spawnSync("umount", ["--lazy", at]));
  else t.skip("no right to mount a small disk here");
  return mounted;
}

/** Lets another process commit 100 rows and dies by kill -9 while its database is open. */
async function killed(path: string): Promise<void> {
  const script = `
    import { openDatabase } from ${JSON.stringify(join(import.meta.dirname, "database.ts"))};
    const db = openDatabase({ path: ${JSON.stringify(path)}, key: Buffer.alloc(32, 7), schema: ${JSON.stringify(schema)} });
    const add = db.prepare("INSERT INTO note (text) VALUES (?)");
    for (let row = 0; row < 100; row++) add.run("row " + row);
    console.log("done");
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
}
