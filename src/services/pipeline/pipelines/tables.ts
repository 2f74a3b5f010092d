/** What pipeline.db keeps of pipelines: how far each is, what its functions remember, and what was changed while running. */
import { decodeCbor, encodeCbor } from "../../../kernel/cbor.ts";
import type { Database } from "../../../kernel/database.ts";

export const PIPELINES_SCHEMA = `
  CREATE TABLE pipeline (name TEXT PRIMARY KEY, position INTEGER NOT NULL, emitted INTEGER NOT NULL, definition TEXT NOT NULL,
    state BLOB, pending BLOB, counts BLOB);
  CREATE TABLE definition (kind TEXT NOT NULL, name TEXT NOT NULL, declared TEXT, json TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID;
`;

/** Functions of very many series remember much. */
const STATE_BYTES_MAX = 256 * 1024 * 1024;

/** A moment in a pipeline's life. */
export interface Mark {
  /** All records of the bus up to here were taken. */
  readonly position: number;
  /** Events that the pipeline has given since it is there: its output is the same every time, so that this counts it. */
  readonly emitted: number;
}

/** From where on a pipeline is followed, with what its functions remembered there. */
export interface Checkpoint extends Mark {
  /** The definition, as JSON, that the state belongs to. */
  readonly definition: string;
  /** Undefined: the functions begin anew. */
  readonly state: readonly unknown[] | undefined;
  /** The last of the events given until then, encoded: the outbox may not have them yet. */
  readonly pending: readonly Uint8Array[];
}

/** What was changed while running. */
export interface Changed {
  readonly name: string;
  /** What the config said then, as JSON. */
  readonly declared: string | undefined;
  /** Undefined: it was removed. */
  readonly json: string | undefined;
}

interface Row extends Mark {
  readonly definition: string;
  readonly state: Uint8Array | null;
  readonly pending: Uint8Array | null;
}

export class PipelineTables {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  get names(): string[] {
    return this.#db
      .prepare<{ name: string }>("SELECT name FROM pipeline ORDER BY name")
      .all()
      .map(({ name }) => name);
  }

  load(name: string): Checkpoint | undefined {
    const row = this.#db
      .prepare<Row, [string]>("SELECT position, emitted, definition, state, pending FROM pipeline WHERE name = ?")
      .get(name);
    return row && { ...row, state: listOf(row.state), pending: (listOf(row.pending) ?? []) as readonly Uint8Array[] };
  }

  /** Keeps a checkpoint, with what was counted until then. */
  save(name: string, { position, emitted, definition, state, pending }: Checkpoint, counts: unknown): void {
    this.#db
      .prepare<never, [string, number, number, string, Uint8Array | null, Uint8Array | null, Uint8Array]>(
        "INSERT OR REPLACE INTO pipeline (name, position, emitted, definition, state, pending, counts) VALUES (?, ?, ?, ?, ?, ?, ?)",
      )
      .run(name, position, emitted, definition, listed(state), listed(pending), encodeCbor(counts));
  }

  /** Notes how far a pipeline is whose functions remember nothing. */
  note(name: string, { position, emitted }: Mark): void {
    this.#db
      .prepare<never, [number, number, string]>(
        "UPDATE pipeline SET position = ?, emitted = ?, pending = NULL WHERE name = ?",
      )
      .run(position, emitted, name);
  }

  /** Keeps a definition that makes the same of what comes as the one before. */
  define(name: string, definition: string): void {
    this.#db
      .prepare<never, [string, string, string]>(
        "UPDATE pipeline SET definition = ? WHERE name = ? AND definition IS NOT ?",
      )
      .run(definition, name, definition);
  }

  /** What was counted of a pipeline, as `save` got it. */
  counts(name: string): unknown {
    const row = this.#db
      .prepare<{ counts: Uint8Array | null }, [string]>("SELECT counts FROM pipeline WHERE name = ?")
      .get(name);
    return row?.counts ? decodeCbor(row.counts) : undefined;
  }

  saveCounts(name: string, counts: unknown): void {
    this.#db
      .prepare<never, [Uint8Array, string]>("UPDATE pipeline SET counts = ? WHERE name = ?")
      .run(encodeCbor(counts), name);
  }

  remove(name: string): void {
    this.#db.prepare<never, [string]>("DELETE FROM pipeline WHERE name = ?").run(name);
  }

  /** What was changed of a kind of things that the config declares. */
  changed(kind: string): Changed[] {
    return this.#db
      .prepare<{ name: string; declared: string | null; json: string | null }, [string]>(
        "SELECT name, declared, json FROM definition WHERE kind = ?",
      )
      .all(kind)
      .map(({ name, declared, json }) => ({ name, declared: declared ?? undefined, json: json ?? undefined }));
  }

  change(kind: string, { name, declared, json }: Changed): void {
    this.#db
      .prepare<never, [string, string, string | null, string | null]>(
        "INSERT OR REPLACE INTO definition (kind, name, declared, json) VALUES (?, ?, ?, ?)",
      )
      .run(kind, name, declared ?? null, json ?? null);
  }

  /** Forgets a change: what the config says holds again. */
  unchange(kind: string, name: string): void {
    this.#db.prepare<never, [string, string]>("DELETE FROM definition WHERE kind = ? AND name = ?").run(kind, name);
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work);
  }
}

const listed = (list: readonly unknown[] | undefined): Uint8Array | null =>
  list && list.length > 0 ? encodeCbor(list) : null;

const listOf = (bytes: Uint8Array | null): readonly unknown[] | undefined =>
  bytes ? (decodeCbor(bytes, { bytesMax: STATE_BYTES_MAX }) as unknown[]) : undefined;
