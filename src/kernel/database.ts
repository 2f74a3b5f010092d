/**
 * An encrypted SQLite database: whole file, write-ahead log and temporary data under one key. A damaged one is moved aside
 * and a fresh one made, so that a node always starts by itself; the owner fills it again from the journal.
 */
import { createHmac } from "node:crypto";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import Native from "better-sqlite3-multiple-ciphers";
import type { NativeStatement, SqliteError } from "better-sqlite3-multiple-ciphers";
import { code, Failure, fail } from "./error.ts";

export const DATABASE_KEY_WRONG = code("DATABASE_KEY_WRONG", "internal", "Restore the key ring and the database from the same backup; nothing was changed.");
export const DATABASE_NEWER = code("DATABASE_NEWER", "conflict", "Start the newer version of Holdfast that wrote this state; nothing was changed.");
export const DATABASE_DAMAGED = code("DATABASE_DAMAGED", "internal", "Restart the service: it moves the damaged file aside and starts a fresh one by itself.");
export const DATABASE_DISK_FULL = code("DATABASE_DISK_FULL", "full", "Free some space on the disk; the change was not made and can be repeated.");
export const DATABASE_READ_ONLY = code("DATABASE_READ_ONLY", "full", "Let the service's user write to the state directory, and see whether the disk was remounted read-only.");
export const DATABASE_BUSY = code("DATABASE_BUSY", "unavailable", "Try again; if it stays, another process holds the database.");
export const DATABASE_IO = code("DATABASE_IO", "internal", "Look at the kernel's log: the disk may be failing.");

export type Value = null | number | bigint | string | Uint8Array;

/** A prepared statement with typed rows. Its errors are Failures, but for violated constraints: these stay SqliteErrors with their code. */
export interface Statement<Row, Parameters extends Value[]> {
  run(...parameters: Parameters): { changes: number; lastInsertRowid: number | bigint };
  get(...parameters: Parameters): Row | undefined;
  all(...parameters: Parameters): Row[];
  iterate(...parameters: Parameters): IterableIterator<Row>;
}

export interface StatementOptions {
  /** Integers come as bigint, exactly (EdgeX's origin is in nanoseconds). */
  bigint?: boolean;
  /** A row is its first column alone. */
  pluck?: boolean;
  /** A row is an array. */
  raw?: boolean;
}

export interface Database {
  readonly path: string;
  /** Where the damaged predecessor went, if there was one: the owner must fill the database anew. */
  readonly replaced: { movedTo: string; reason: string } | undefined;
  prepare<Row = unknown, Parameters extends Value[] = Value[]>(sql: string, options?: StatementOptions): Statement<Row, Parameters>;
  /** Runs statements that answer nothing. */
  exec(sql: string): void;
  /** Runs `work` at once in one durable transaction (a savepoint inside another) and gives what it returns; a throw undoes all of it. */
  transaction<T>(work: () => T): T;
  /** Gives up to `pagesMax` free pages (4 KiB each) back to the file system. */
  shrink(pagesMax: number): void;
  close(): void;
}

export interface DatabaseOptions {
  path: string;
  /** 32 bytes. */
  key: Uint8Array;
  /** `migrations[n]` is the SQL that leads from version n to n + 1. */
  schema: { version: number; migrations: string[] };
  log?: { warn(fields: object, message: string): void };
  /** Page cache; small boxes hold several databases. */
  cacheKiB?: number;
  busyTimeoutMs?: number;
}

const DAMAGED_KEPT_MAX = 3;
/** After an unclean end a database up to this size is checked whole before it is used (5 ms a MiB); larger ones only on suspicion. */
const CHECKED_BYTES_MAX = 16 * 1024 * 1024;
/** The log is cut back to this after a checkpoint, so that one large transaction does not keep the disk for ever. */
const LOG_BYTES_MAX = 4 * 1024 * 1024;

/**
 * Opens (or makes) an encrypted database and brings it to the schema's version. DATABASE_KEY_WRONG, DATABASE_NEWER,
 * DATABASE_DISK_FULL, DATABASE_READ_ONLY, DATABASE_BUSY; a damaged file is moved to `<path>.damaged-<n>` (the last 3 are kept).
 */
export function openDatabase(options: DatabaseOptions): Database {
  const { path, schema } = options;
  if (options.key.length !== 32) throw new TypeError(`a database key has 32 bytes, not ${options.key.length}`);
  if (schema.version !== schema.migrations.length) throw new TypeError(`schema version ${schema.version} needs as many migrations, not ${schema.migrations.length}`);
  let replaced: Database["replaced"];
  let native: Native | undefined;
  try {
    prepareFile(path);
    native = openWhole(options);
  } catch (error) {
    const failure = translate(error, path);
    if (!(failure instanceof Failure) || failure.code !== DATABASE_DAMAGED.code) throw failure;
    if (keyFits(path, options.key) === "other") {
      throw fail(DATABASE_KEY_WRONG, `${path} is encrypted with another key`, { cause: error });
    }
    replaced = { movedTo: moveAside(path), reason: failure.message };
    options.log?.warn({ code: DATABASE_DAMAGED.code, path, movedTo: replaced.movedTo }, `a damaged database was moved aside, a fresh one begins: ${failure.message}`);
    try {
      prepareFile(path);
      native = openWhole(options);
    } catch (again) {
      throw translate(again, path);
    }
  }
  const database = new Encrypted(native, path, replaced);
  try {
    migrate(database, native, options);
  } catch (error) {
    native.close();
    throw error;
  }
  return database;
}

class Encrypted implements Database {
  readonly path: string;
  readonly replaced: Database["replaced"];
  readonly #native: Native;
  readonly #begin: NativeStatement;
  readonly #commit: NativeStatement;
  readonly #rollback: NativeStatement;
  #depth = 0;

  constructor(native: Native, path: string, replaced: Database["replaced"]) {
    this.#native = native;
    this.path = path;
    this.replaced = replaced;
    // IMMEDIATE: a transaction that reads first and writes later could otherwise fail half way with BUSY, unretryable.
    this.#begin = native.prepare("BEGIN IMMEDIATE");
    this.#commit = native.prepare("COMMIT");
    this.#rollback = native.prepare("ROLLBACK");
  }

  prepare<Row, Parameters extends Value[]>(sql: string, options: StatementOptions = {}): Statement<Row, Parameters> {
    return this.#guard(() => {
      const statement = this.#native.prepare(sql);
      if (options.bigint) statement.safeIntegers(true);
      if (options.pluck) statement.pluck(true);
      if (options.raw) statement.raw(true);
      return new Guarded<Row, Parameters>(statement, this.path);
    });
  }

  exec(sql: string): void {
    this.#guard(() => this.#native.exec(sql));
  }

  transaction<T>(work: () => T): T {
    const depth = this.#depth;
    const savepoint = `nested${depth}`;
    return this.#guard(() => {
      if (depth === 0) this.#begin.run();
      else this.#native.exec(`SAVEPOINT ${savepoint}`);
      this.#depth++;
      try {
        const result = work();
        if (result instanceof Promise) throw new TypeError("a transaction cannot wait: its work must not return a promise");
        if (depth === 0) this.#commit.run();
        else this.#native.exec(`RELEASE ${savepoint}`);
        return result;
      } catch (error) {
        // A full disk rolls back by itself; a second ROLLBACK would hide the cause behind its own error.
        if (this.#native.inTransaction) {
          if (depth === 0) this.#rollback.run();
          else this.#native.exec(`ROLLBACK TO ${savepoint}; RELEASE ${savepoint}`);
        }
        throw error;
      } finally {
        this.#depth = depth;
      }
    });
  }

  shrink(pagesMax: number): void {
    this.#guard(() => this.#native.pragma(`incremental_vacuum(${Math.trunc(pagesMax)})`));
  }

  close(): void {
    if (this.#native.open) this.#native.close();
  }

  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw suspected(error, this.path);
    }
  }
}

/** Thin on purpose: a try costs nothing where nothing is thrown. */
class Guarded<Row, Parameters extends Value[]> implements Statement<Row, Parameters> {
  readonly #statement: NativeStatement;
  readonly #path: string;

  constructor(statement: NativeStatement, path: string) {
    this.#statement = statement;
    this.#path = path;
  }

  run(...parameters: Parameters): { changes: number; lastInsertRowid: number | bigint } {
    try {
      return this.#statement.run(...parameters);
    } catch (error) {
      throw suspected(error, this.#path);
    }
  }

  get(...parameters: Parameters): Row | undefined {
    try {
      return this.#statement.get(...parameters) as Row | undefined;
    } catch (error) {
      throw suspected(error, this.#path);
    }
  }

  all(...parameters: Parameters): Row[] {
    try {
      return this.#statement.all(...parameters) as Row[];
    } catch (error) {
      throw suspected(error, this.#path);
    }
  }

  *iterate(...parameters: Parameters): IterableIterator<Row> {
    try {
      yield* this.#statement.iterate(...parameters) as IterableIterator<Row>;
    } catch (error) {
      throw suspected(error, this.#path);
    }
  }
}

/** Makes directory and file as their owner's alone: SQLite gives the log and its index the mode of the database. */
function prepareFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  closeSync(openSync(path, "a", 0o600));
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
const suspicion = (path: string): string => `${path}.suspect`;

/** Opens the file and reads its first pages; throws what SQLite says, having closed it. */
function openWhole(options: DatabaseOptions): Native {
  const { path, key, cacheKiB = 2048, busyTimeoutMs = 5000 } = options;
  // A log that was left behind means that nobody closed the database: power cut, or kill -9.
  const unclean = sizeOf(`${path}-wal`) > 0 && sizeOf(path) <= CHECKED_BYTES_MAX;
  const native = new Native(path, { timeout: busyTimeoutMs });
  try {
    native.pragma("cipher = 'chacha20'");
    // A raw key needs no derivation, so the salt in front of the file is free to tell later whose key it was made with.
    const secret = Buffer.from(`raw:${Buffer.from(key).toString("hex")}${keyMark(key).toString("hex")}`, "latin1");
    native.key(secret);
    secret.fill(0);
    // Big sorts would go to /var/tmp in plaintext; the encryption covers the database and its logs only.
    native.pragma("temp_store = MEMORY");
    native.pragma("mmap_size = 0");
    native.pragma(`cache_size = -${cacheKiB}`);
    native.pragma("trusted_schema = OFF");
    // Before the first table, or never: free pages can then be given back a few at a time, without a copy of the whole file.
    native.pragma("auto_vacuum = INCREMENTAL");
    native.pragma("journal_mode = WAL");
    native.pragma("synchronous = FULL");
    native.pragma(`journal_size_limit = ${LOG_BYTES_MAX}`);
    native.pragma("foreign_keys = ON");
    native.prepare("SELECT count(*) FROM sqlite_schema").get();
    if (unclean || existsSync(suspicion(path))) check(native, path);
    return native;
  } catch (error) {
    native.close();
    throw error;
  }
}

function check(native: Native, path: string): void {
  const found = native.prepare("PRAGMA quick_check(1)").pluck().get();
  if (found !== "ok") throw fail(DATABASE_DAMAGED, `${path} is damaged: ${String(found).replaceAll("\n", " ")}`);
  rmSync(suspicion(path), { force: true });
}

function migrate(database: Database, native: Native, { path, schema, log }: DatabaseOptions): void {
  const from = Number(native.pragma("user_version", { simple: true }));
  if (from > schema.version) {
    throw fail(DATABASE_NEWER, `${path} is of schema version ${from}; this Holdfast knows versions up to ${schema.version}`);
  }
  if (from === schema.version) return;
  database.transaction(() => {
    for (const sql of schema.migrations.slice(from)) native.exec(sql);
    native.pragma(`user_version = ${schema.version}`);
  });
  if (from > 0) log?.warn({ path, from, to: schema.version }, "the database was brought to this version's schema; older versions cannot open it any more");
}

/** 16 bytes that tell whether a key is the one of a file, and nothing about the key. */
const keyMark = (key: Uint8Array): Buffer => createHmac("sha256", key).update("holdfast database").digest().subarray(0, 16);

/** A wrong key and a damaged first page are the same error to SQLite; the mark and the plain part of the header tell them apart. */
function keyFits(path: string, key: Uint8Array): "own" | "other" | "unknown" {
  const head = Buffer.alloc(24);
  const file = openSync(path, "r");
  try {
    readSync(file, head, 0, head.length, 0);
  } finally {
    closeSync(file);
  }
  if (head.subarray(0, 16).equals(keyMark(key))) return "own";
  // The SQLite file format, 1.3: page size 4096 at 16; payload fractions 64, 32, 32 at 21.
  const header = head.readUInt16BE(16) === 4096 && head[21] === 64 && head[22] === 32 && head[23] === 32;
  return header ? "other" : "unknown";
}

/** Moves a damaged database aside under the next free number, and lets the oldest go. */
function moveAside(path: string): string {
  const prefix = `${basename(path)}.damaged-`;
  const numbers = readdirSync(dirname(path))
    .map((name) => (name.startsWith(prefix) ? Number(name.slice(prefix.length)) : Number.NaN))
    .filter(Number.isInteger)
    .sort((a, b) => a - b);
  const movedTo = `${path}.damaged-${(numbers.at(-1) ?? 0) + 1}`;
  try {
    for (const old of numbers.slice(0, Math.max(0, numbers.length + 1 - DAMAGED_KEPT_MAX))) {
      for (const end of ["", "-wal"]) rmSync(join(dirname(path), `${prefix}${old}${end}`), { force: true });
    }
    // The log first: a fresh database must never find the old one's.
    if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${movedTo}-wal`);
    rmSync(`${path}-shm`, { force: true });
    rmSync(suspicion(path), { force: true });
    renameSync(path, movedTo);
  } catch (error) {
    throw translate(error, path);
  }
  return movedTo;
}

/** As `translate`, and remembers damage beside the file, so that the next open looks at every page. */
function suspected(error: unknown, path: string): unknown {
  const failure = translate(error, path);
  if (failure === error || !(failure instanceof Failure) || failure.code !== DATABASE_DAMAGED.code) return failure;
  try {
    writeFileSync(suspicion(path), failure.message, { mode: 0o600 });
  } catch (cause) {
    return fail(DATABASE_DAMAGED, `${failure.message}; and ${suspicion(path)} could not be written`, { cause });
  }
  return failure;
}

/** Turns what SQLite or the file system threw into a Failure, where it is the disk's fault and not the statement's. */
function translate(error: unknown, path: string): unknown {
  if (error instanceof Failure || !(error instanceof Error)) return error;
  const reason = (error as SqliteError | NodeJS.ErrnoException).code ?? "";
  const made = (kind: Parameters<typeof fail>[0], words: string): Failure => fail(kind, `${path} ${words} (${reason})`, { cause: error });
  // SHMSIZE: the log's index could not grow.
  if (/^(SQLITE_FULL|SQLITE_IOERR_SHMSIZE|ENOSPC|EDQUOT)/.test(reason)) return made(DATABASE_DISK_FULL, "cannot grow: the disk is full");
  if (/^(SQLITE_READONLY|SQLITE_CANTOPEN|SQLITE_PERM|EACCES|EPERM|EROFS)/.test(reason)) return made(DATABASE_READ_ONLY, "cannot be opened or written");
  if (/^(SQLITE_CORRUPT|SQLITE_NOTADB)/.test(reason)) return made(DATABASE_DAMAGED, `is damaged: ${error.message}`);
  if (/^(SQLITE_BUSY|SQLITE_LOCKED)/.test(reason)) return made(DATABASE_BUSY, "is held by another process");
  if (/^SQLITE_IOERR|^EIO/.test(reason)) return made(DATABASE_IO, "cannot be read or written");
  return error;
}
