import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type DatabaseOptions, openDatabase } from "./database.ts";

const base = mkdtempSync(join(tmpdir(), "database-"));
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
    for (let row = 0; row < 10_000; row++)
      add.run(`${createHash("sha1").update(String(row)).digest("hex")}${canary.repeat(20)}`);
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
  for (const _ of db
    .prepare("SELECT a.text FROM note a JOIN (SELECT text FROM note) b ON a.text = b.text ORDER BY substr(a.text, 3)")
    .iterate()) {
    if (rows++ % 5_000 === 0) look();
  }
  db.exec("CREATE TEMP TABLE sorted AS SELECT text FROM note ORDER BY substr(text, 5)");
  look();
  assert.deepEqual([...seen].sort(), ["store.db", "store.db-shm", "store.db-wal"]);
  db.close();
  assert.ok(!readFileSync(path).includes(canary));
  assert.ok(readFileSync(path).length > 2_500_000);
});

test("a wrong key is refused, and neither the file nor a log left behind by a kill is harmed", async () => {
  const path = place();
  await killed(path);
  assert.ok(statSync(`${path}-wal`).size > 0);
  assert.throws(() => open(path, { key: Buffer.alloc(32, 8) }), coded("DATABASE_KEY_WRONG", /another key/));
  assert.deepEqual(
    readdirSync(join(path, "..")).filter((name) => name.includes("damaged")),
    [],
  );
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
  const broken = {
    version: 3,
    migrations: [...schema.migrations, "ALTER TABLE note ADD COLUMN colour TEXT", "CREATE TABLE note (again)"],
  };
  assert.throws(() => open(path, { schema: broken }), /already exists/);
  assert.equal(rowsOf(path), 3);
  const said: object[] = [];
  const right = { version: 3, migrations: [...broken.migrations.slice(0, 2), "CREATE TABLE label (id)"] };
  const db = open(path, { schema: right, log: { warn: (fields) => said.push(fields) } });
  assert.deepEqual(said, [{ path, from: 1, to: 3 }]);
  assert.deepEqual(db.prepare("SELECT id, colour FROM note WHERE id = 1").get(), { id: 1, colour: null });
  db.close();
});

test("what was acknowledged survives kill -9", async () => {
  const path = place();
  await killed(path);
  assert.equal(rowsOf(path), 100);
});

test("the disk shrinks again: the log after a large transaction, the database after deletion", () => {
  const path = place();
  fill(path, 1);
  const db = open(path);
  const add = db.prepare("INSERT INTO note (text) VALUES (?)");
  db.transaction(() => {
    for (let row = 0; row < 12_000; row++) add.run(`${row} many ${"x".repeat(500)}`);
  });
  assert.ok(statSync(`${path}-wal`).size > 8_000_000);
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

/** Lets another process commit 100 rows and dies by kill -9 while its database is open. */
async function killed(path: string): Promise<void> {
  const script = `
    import { openDatabase } from ${JSON.stringify(join(import.meta.dirname, "database.ts"))};
    const db = openDatabase({ path: ${JSON.stringify(path)}, key: Buffer.alloc(32, 7), schema: ${JSON.stringify(schema)} });
    const add = db.prepare("INSERT INTO note (text) VALUES (?)");
    for (let row = 0; row < 100; row++) add.run("row " + row);
    console.log("done");
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
}

test("a database comes under the newest key when it is opened, and opens with no older one any more", () => {
  const path = place();
  fill(path, 2000);
  const keys = [key, Buffer.alloc(32, 8), Buffer.alloc(32, 9)].map((bytes, id) => ({ id, key: bytes }));
  for (const known of [keys.slice(0, 2), keys]) {
    const db = open(path, { key: known });
    assert.equal(db.replaced, undefined);
    assert.equal(db.prepare<number>("SELECT count(*) FROM note", { pluck: true }).get(), 2000);
    db.close();
    assert.throws(() => open(path), coded("DATABASE_KEY_WRONG"));
  }
  const db = open(path, { key: keys.slice(2) });
  assert.equal(db.prepare<number>("SELECT count(*) FROM note", { pluck: true }).get(), 2000);
  db.close();
  assert.deepEqual(readdirSync(join(path, "..")), ["store.db"]);
});

test("a database that nobody closed keeps what its log had when it comes under a new key", async () => {
  const path = place();
  const script = `
    const { openDatabase } = await import(${JSON.stringify(join(import.meta.dirname, "database.ts"))});
    const db = openDatabase({ path: process.argv[1], key: Buffer.alloc(32, 7), schema: ${JSON.stringify(schema)} });
    const add = db.prepare("INSERT INTO note (text) VALUES (?)");
    for (let row = 0; row < 50; row++) add.run("row " + row);
    process.kill(process.pid, "SIGKILL");`;
  await once(spawn(process.execPath, ["--input-type=module", "-e", script, path]), "exit");
  assert.ok(statSync(`${path}-wal`).size > 0);
  const db = open(path, { key: [key, Buffer.alloc(32, 8)].map((bytes, id) => ({ id, key: bytes })) });
  assert.equal(db.replaced, undefined);
  assert.equal(db.prepare<number>("SELECT count(*) FROM note", { pluck: true }).get(), 50);
  db.close();
});
