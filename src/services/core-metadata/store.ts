/** Keeps devices, profiles and device services, each as its JSON with the columns that are searched, in encrypted SQLite. */
import { type Database, openDatabase, type Statement, type DatabaseOptions } from "../../kernel/database.ts";
import type { Device, DeviceProfile, DeviceService } from "../../kernel/edgex.ts";
import { parseJson, stringifyJson } from "../../kernel/json.ts";
import type { Log } from "../../kernel/log.ts";

/** The nouns, and what each is made of. */
export interface Nouns {
  device: Device;
  profile: DeviceProfile;
  service: DeviceService;
}
export type Noun = keyof Nouns;

/** What a list is narrowed to. */
export interface Filter {
  readonly service?: string;
  readonly profile?: string;
  readonly labels?: readonly string[];
}

export interface MetadataStore {
  /** Where the damaged one went that it took the place of. */
  readonly replaced: Database["replaced"];
  byName<N extends Noun>(noun: N, name: string): Nouns[N] | undefined;
  byId<N extends Noun>(noun: N, id: string): Nouns[N] | undefined;
  /** Writes a new or changed one; it keeps its place in lists. */
  put<N extends Noun>(noun: N, value: Nouns[N]): void;
  remove(noun: Noun, name: string): void;
  /** A page in order of creation, and how many there are in all. */
  list<N extends Noun>(noun: N, filter: Filter, offset: number, limit: number): { total: number; values: Nouns[N][] };
  /** Names of the device services that own devices of a profile. */
  servicesOfProfile(profile: string): string[];
  close(): void;
}

const SCHEMA = `
  CREATE TABLE entity (
    sequence INTEGER PRIMARY KEY, noun TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL,
    service TEXT, profile TEXT, json TEXT NOT NULL,
    UNIQUE (noun, name), UNIQUE (noun, id)
  );
  CREATE INDEX entity_service ON entity (noun, service);
  CREATE INDEX entity_profile ON entity (noun, profile);
  CREATE TABLE label (sequence INTEGER NOT NULL REFERENCES entity ON DELETE CASCADE, label TEXT NOT NULL, PRIMARY KEY (sequence, label)) WITHOUT ROWID;
  CREATE INDEX label_label ON label (label);
`;

/** Opens the store. Errors are those of openDatabase. */
export function openMetadataStore(options: { path: string; key: DatabaseOptions["key"]; log: Log }): MetadataStore {
  return new SqliteMetadata(openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } }));
}

class SqliteMetadata implements MetadataStore {
  readonly replaced: Database["replaced"];
  readonly #db: Database;
  readonly #byName: Statement<{ json: string }, [string, string]>;
  readonly #byId: Statement<{ json: string }, [string, string]>;
  readonly #put: Statement<{ sequence: number }, [string, string, string, string | null, string | null, string]>;
  readonly #remove: Statement<never, [string, string]>;
  readonly #unlabel: Statement<never, [number]>;
  readonly #label: Statement<never, [number, string]>;

  constructor(db: Database) {
    this.#db = db;
    this.replaced = db.replaced;
    this.#byName = db.prepare("SELECT json FROM entity WHERE noun = ? AND name = ?");
    this.#byId = db.prepare("SELECT json FROM entity WHERE noun = ? AND id = ?");
    this.#put = db.prepare(
      `INSERT INTO entity (noun, id, name, service, profile, json) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (noun, id) DO UPDATE SET name = excluded.name, service = excluded.service, profile = excluded.profile, json = excluded.json
       RETURNING sequence`,
    );
    this.#remove = db.prepare("DELETE FROM entity WHERE noun = ? AND name = ?");
    this.#unlabel = db.prepare("DELETE FROM label WHERE sequence = ?");
    this.#label = db.prepare("INSERT OR IGNORE INTO label (sequence, label) VALUES (?, ?)");
  }

  byName<N extends Noun>(noun: N, name: string): Nouns[N] | undefined {
    return read(this.#byName.get(noun, name)) as Nouns[N] | undefined;
  }

  byId<N extends Noun>(noun: N, id: string): Nouns[N] | undefined {
    return read(this.#byId.get(noun, id)) as Nouns[N] | undefined;
  }

  put<N extends Noun>(noun: N, value: Nouns[N]): void {
    const { serviceName, profileName } = value as Partial<Device>;
    this.#db.transaction(() => {
      const { sequence } = this.#put.get(
        noun,
        value.id ?? "",
        value.name,
        serviceName ?? null,
        profileName ?? null,
        stringifyJson(value),
      )!;
      this.#unlabel.run(sequence);
      for (const label of value.labels ?? []) this.#label.run(sequence, label);
    });
  }

  remove(noun: Noun, name: string): void {
    this.#remove.run(noun, name);
  }

  list<N extends Noun>(noun: N, filter: Filter, offset: number, limit: number): { total: number; values: Nouns[N][] } {
    const parts = ["noun = ?"];
    const values: (string | number)[] = [noun];
    for (const column of ["service", "profile"] as const) {
      if (filter[column] === undefined) continue;
      parts.push(`${column} = ?`);
      values.push(filter[column]);
    }
    for (const label of filter.labels ?? []) {
      parts.push("sequence IN (SELECT sequence FROM label WHERE label = ?)");
      values.push(label);
    }
    const where = parts.join(" AND ");
    const total = this.#db.prepare<{ n: number }>(`SELECT count(*) AS n FROM entity WHERE ${where}`).get(...values)!.n;
    const rows = this.#db
      .prepare<{ json: string }>(`SELECT json FROM entity WHERE ${where} ORDER BY sequence LIMIT ? OFFSET ?`)
      .all(...values, limit, offset);
    return { total, values: rows.map((row) => parseJson(row.json) as Nouns[N]) };
  }

  servicesOfProfile(profile: string): string[] {
    return this.#db
      .prepare<{ service: string }>(
        "SELECT DISTINCT service FROM entity WHERE noun = 'device' AND profile = ? ORDER BY service",
      )
      .all(profile)
      .map((row) => row.service);
  }

  close(): void {
    this.#db.close();
  }
}

const read = (row: { json: string } | undefined): unknown => (row ? parseJson(row.json) : undefined);
