import { closeSync, openSync, readFileSync, realpathSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fail } from "../error.ts";
import { errnoOf } from "./disk.ts";
import { JOURNAL_DIRECTORY_UNUSABLE, JOURNAL_LOCKED } from "./errors.ts";

const SQLITE_BUSY = 5;
const SQLITE_NOTADB = 26;

/** The directories open in this process: fcntl locks do not keep a process from itself. */
const open = new Set<string>();

/**
 * Takes the directory for this process alone and answers the function that gives it back; throws JOURNAL_LOCKED. The lock is the
 * kernel's own (fcntl, by way of Node's SQLite and an empty file), so it is gone in the moment its holder dies, however it dies, and
 * holds between containers too, which a file with a process id in it does not.
 */
export function lockDirectory(directory: string): () => void {
  const path = join(directory, "lock");
  const real = realpathSync(directory);
  if (open.has(real)) throw fail(JOURNAL_LOCKED, `the journal in ${directory} is open in this process already`);
  try {
    closeSync(openSync(path, "ax", 0o600));
  } catch (caught) {
    if (errnoOf(caught) !== "EEXIST") throw caught;
  }
  let database: DatabaseSync;
  try {
    database = take(path);
  } catch (caught) {
    if (sqliteCode(caught) !== SQLITE_NOTADB) throw told(caught, directory, path);
    // Somebody wrote into the lock file. Emptying it keeps the inode, and with it the lock of a living holder.
    truncateSync(path);
    try {
      database = take(path);
    } catch (again) {
      throw told(again, directory, path);
    }
  }
  open.add(real);
  return () => {
    database.close();
    open.delete(real);
  };
}

function take(path: string): DatabaseSync {
  const database = new DatabaseSync(path);
  try {
    database.exec("PRAGMA journal_mode = OFF; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
    return database;
  } catch (caught) {
    database.close();
    throw caught;
  }
}

const sqliteCode = (caught: unknown): number =>
  caught instanceof Error && "errcode" in caught && typeof caught.errcode === "number" ? caught.errcode & 0xff : 0;

function told(caught: unknown, directory: string, path: string): Error {
  if (sqliteCode(caught) === SQLITE_BUSY)
    return fail(JOURNAL_LOCKED, `the journal in ${directory} is open in ${holder(path)}`, { cause: caught });
  return fail(JOURNAL_DIRECTORY_UNUSABLE, `the journal's lock ${path} cannot be used`, { cause: caught });
}

/** Asks the kernel who holds the lock; for the message only. */
function holder(path: string): string {
  try {
    const inode = String(statSync(path).ino);
    const line = readFileSync("/proc/locks", "utf8")
      .split("\n")
      .find((one) => one.includes(`:${inode} `));
    const pid = line?.trim().split(/\s+/)[4];
    return pid === undefined ? "another process" : `process ${pid}`;
  } catch {
    return "another process"; // /proc is not there, or hidden by a sandbox
  }
}
