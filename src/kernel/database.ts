/**
 * An encrypted SQLite database: whole file, write-ahead log and temporary data under one key. A damaged one is moved aside
 * and a fresh one made, so that a node always starts by itself; the owner fills it again from the journal.
 */
import { existsSync, rmSync } from "node:fs";
import Native from "better-sqlite3-multiple-ciphers";
import type { NativeStatement } from "better-sqlite3-multiple-ciphers";
import {
  DATABASE_DAMAGED,
  DATABASE_KEY_WRONG,
  DATABASE_NEWER,
  suspected,
  suspicion,
  translate,
} from "./database-errors.ts";
import { bringUnderNewest, keyOf, withSecret } from "./database-key.ts";
import { keyFits, moveAside, prepareFile, sizeOf } from "./database-file.ts";
import { Failure, fail } from "./error.ts";
import type { PurposeKey } from "./seal/store-keys.ts";

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
  prepare<Row = unknown, Parameters extends Value[] = Value[]>(
    sql: string,
    options?: StatementOptions,
  ): Statement<Row, Parameters>;
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
  /** 32 bytes; or the keys that there are, the newest last: the database is brought under that one. */
  key: Uint8Array | readonly PurposeKey[];
  /** `migrations[n]` is the SQL that leads from version n to n + 1. */
  schema: { version: number; migrations: string[] };
  log?: { warn(fields: object, message: string): void };
  /** Page cache; small boxes hold several databases. */
  cacheKiB?: number;
  busyTimeoutMs?: number;
}

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
  const keys = options.key instanceof Uint8Array ? [options.key] : options.key.map(({ key }) => key);
  if (keys.length === 0 || keys.some(({ length }) => length !== 32)) throw new TypeError("a database key has 32 bytes");
  if (schema.version !== schema.migrations.length)
    throw new TypeError(`schema version ${schema.version} needs as many migrations, not ${schema.migrations.length}`);
  let replaced: Database["replaced"];
  let native: Native | undefined;
  try {
    prepareFile(path);
    bringUnderNewest(path, keys, options.log);
    native = openWhole(options, keys);
  } catch (error) {
    const failure = translate(error, path);
    if (!(failure instanceof Failure) || failure.code !== DATABASE_DAMAGED.code) throw failure;
    if (keys.every((key) => keyFits(path, key) === "other")) {
      throw fail(DATABASE_KEY_WRONG, `${path} is encrypted with another key`, { cause: error });
    }
    replaced = { movedTo: moveAside(path), reason: failure.message };
    options.log?.warn(
      { code: DATABASE_DAMAGED.code, path, movedTo: replaced.movedTo },
      `a damaged database was moved aside, a fresh one begins: ${failure.message}`,
    );
    try {
      prepareFile(path);
      native = openWhole(options, keys);
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
        if (result instanceof Promise)
          throw new TypeError("a transaction cannot wait: its work must not return a promise");
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

/** Opens the file and reads its first pages; throws what SQLite says, having closed it. */
function openWhole(options: DatabaseOptions, keys: readonly Uint8Array[]): Native {
  const { path, cacheKiB = 2048, busyTimeoutMs = 5000 } = options;
  const key = keyOf(path, keys);
  // A log that was left behind means that nobody closed the database: power cut, or kill -9.
  const unclean = sizeOf(`${path}-wal`) > 0 && sizeOf(path) <= CHECKED_BYTES_MAX;
  const native = new Native(path, { timeout: busyTimeoutMs });
  try {
    native.pragma("cipher = 'chacha20'");
    withSecret(key, (secret) => native.key(secret));
    // Big sorts would go to /var/tmp in plaintext; the encryption covers the database and its logs only.
    native.pragma("temp_store = MEMORY");
    native.pragma("mmap_size = 0");
    native.pragma(`cache_size = -${cacheKiB}`);
    native.pragma("trusted_schema = OFF");
    // Before the first table, or never (and on an old file it would be a write at each open): free pages can then be
    // given back a few at a time, without a copy of the whole file.
    if (sizeOf(path) === 0) native.pragma("auto_vacuum = INCREMENTAL");
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
    throw fail(
      DATABASE_NEWER,
      `${path} is of schema version ${from}; this Holdfast knows versions up to ${schema.version}`,
    );
  }
  if (from === schema.version) return;
  database.transaction(() => {
    for (const sql of schema.migrations.slice(from)) native.exec(sql);
    native.pragma(`user_version = ${schema.version}`);
  });
  if (from > 0)
    log?.warn(
      { path, from, to: schema.version },
      "the database was brought to this version's schema; older versions cannot open it any more",
    );
}
