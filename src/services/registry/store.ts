/** Keeps what outlives the registry: EdgeX's registrations and keys, and what operators took out of use. Leases are not among it. */
import { type Database, openDatabase, type Statement, type DatabaseOptions } from "../../kernel/database.ts";
import { parseJson, stringifyJson } from "../../kernel/json.ts";
import type { Log } from "../../kernel/log.ts";
import type { KeyValue } from "./kvs.api.ts";
import type { Registration } from "./registrations.api.ts";

const SCHEMA = `
  CREATE TABLE registration (service TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE pair (key TEXT PRIMARY KEY, value TEXT NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE maintained (name TEXT PRIMARY KEY) WITHOUT ROWID;
`;

export interface RegistryStore {
  /** Where the damaged one went that it took the place of. */
  readonly replaced: Database["replaced"];
  registrations(): Registration[];
  putRegistration(registration: Registration): void;
  removeRegistration(serviceId: string): void;
  /** A key and all keys below it, in order. */
  pairs(key: string): KeyValue[];
  /** Writes all or none; a key that is there keeps when it was created. */
  putPairs(pairs: readonly KeyValue[]): void;
  removeKeys(keys: readonly string[]): void;
  /** How many keys there are, and the bytes of keys and values. */
  size(): { keys: number; bytes: number };
  maintained(): string[];
  setMaintained(name: string, on: boolean): void;
  close(): void;
}

/** Opens the store. Errors are those of openDatabase. */
export function openRegistryStore(options: { path: string; key: DatabaseOptions["key"]; log: Log }): RegistryStore {
  return new SqliteRegistry(openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } }));
}

type Row = { key: string; value: string; created: number; modified: number };

class SqliteRegistry implements RegistryStore {
  readonly #db: Database;
  readonly replaced: Database["replaced"];
  readonly #pairs: Statement<Row, [string, string, string]>;
  readonly #put: Statement<never, [string, string, number, number]>;
  readonly #remove: Statement<never, [string]>;

  constructor(db: Database) {
    this.#db = db;
    this.replaced = db.replaced;
    // What begins with `key/` lies between it and `key0`: '0' is the character after '/'.
    this.#pairs = db.prepare("SELECT * FROM pair WHERE key = ? OR (key > ? AND key < ?) ORDER BY key");
    this.#put = db.prepare(
      `INSERT INTO pair (key, value, created, modified) VALUES (?, ?, ?, ?)
       ON CONFLICT (key) DO UPDATE SET value = excluded.value, modified = excluded.modified`,
    );
    this.#remove = db.prepare("DELETE FROM pair WHERE key = ?");
  }

  registrations(): Registration[] {
    const rows = this.#db.prepare<string>("SELECT json FROM registration ORDER BY service", { pluck: true }).all();
    return rows.map((json) => parseJson(json) as Registration);
  }

  putRegistration(registration: Registration): void {
    this.#db
      .prepare("INSERT OR REPLACE INTO registration (service, json) VALUES (?, ?)")
      .run(registration.serviceId, stringifyJson(registration));
  }

  removeRegistration(serviceId: string): void {
    this.#db.prepare("DELETE FROM registration WHERE service = ?").run(serviceId);
  }

  pairs(key: string): KeyValue[] {
    return this.#pairs
      .all(key, `${key}/`, `${key}0`)
      .map((row) => ({ key: row.key, Created: row.created, Modified: row.modified, value: row.value }));
  }

  putPairs(pairs: readonly KeyValue[]): void {
    this.#db.transaction(() => {
      for (const { key, value, Created, Modified } of pairs) this.#put.run(key, value, Created, Modified);
    });
  }

  removeKeys(keys: readonly string[]): void {
    this.#db.transaction(() => {
      for (const key of keys) this.#remove.run(key);
    });
  }

  size(): { keys: number; bytes: number } {
    return this.#db
      .prepare<{ keys: number; bytes: number }>(
        "SELECT count(*) AS keys, coalesce(sum(length(key) + length(value)), 0) AS bytes FROM pair",
      )
      .get()!;
  }

  maintained(): string[] {
    return this.#db.prepare<string>("SELECT name FROM maintained", { pluck: true }).all();
  }

  setMaintained(name: string, on: boolean): void {
    const sql = on ? "INSERT OR IGNORE INTO maintained (name) VALUES (?)" : "DELETE FROM maintained WHERE name = ?";
    this.#db.prepare(sql).run(name);
  }

  close(): void {
    this.#db.close();
  }
}
