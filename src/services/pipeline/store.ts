/** What the pipeline keeps besides the outbox: whom it is enrolled with, what was acknowledged, what was refused for good. */
import { type Database, openDatabase } from "../../kernel/database.ts";
import type { Log } from "../../kernel/log.ts";
import type { QueuedBatch } from "./outbox.ts";

export interface Enrollment {
  readonly url: string;
  /** The cloud's name, in its certificates. */
  readonly cloud: string;
  readonly edge: string;
  readonly caPem: string;
  readonly certPem: string;
  readonly keyPem: string;
}

export interface Totals {
  batches: number;
  events: number;
  readings: number;
  lastAtMs: number | undefined;
  bytesSent: number;
  bytesReceived: number;
}

const SCHEMA = `
  CREATE TABLE state (name TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE dead_letter (sequence INTEGER PRIMARY KEY, reason TEXT NOT NULL, at_ms INTEGER NOT NULL, blocks BLOB NOT NULL);
`;

/** Batches that the far side refused are kept, the newest of them. */
const DEAD_LETTERS_MAX = 1_000;

export class PipelineStore {
  readonly #db: Database;

  constructor(options: { path: string; key: Uint8Array; log: Log }) {
    this.#db = openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } });
  }

  get enrollment(): Enrollment | undefined {
    return this.#get<Enrollment>("enrollment");
  }

  set enrollment(value: Enrollment) {
    this.#set("enrollment", value);
  }

  /** Position of the bus, for when the outbox cannot tell it. */
  get followed(): number {
    return this.#get<number>("followed") ?? 0;
  }

  get totals(): Totals {
    return { batches: 0, events: 0, readings: 0, lastAtMs: undefined, bytesSent: 0, bytesReceived: 0, ...this.#get<Totals>("totals") };
  }

  save(followed: number, totals: Totals): void {
    this.#db.transaction(() => {
      this.#set("followed", followed);
      this.#set("totals", totals);
    });
  }

  addDeadLetter(batch: QueuedBatch, reason: string, atMs: number): void {
    this.#db.transaction(() => {
      this.#db
        .prepare<never, [number, string, number, Uint8Array]>("INSERT OR REPLACE INTO dead_letter (sequence, reason, at_ms, blocks) VALUES (?, ?, ?, ?)")
        .run(batch.sequence, reason.slice(0, 1_000), atMs, batch.blocks);
      this.#db
        .prepare<never, [number]>("DELETE FROM dead_letter WHERE sequence NOT IN (SELECT sequence FROM dead_letter ORDER BY sequence DESC LIMIT ?)")
        .run(DEAD_LETTERS_MAX);
    });
  }

  get deadLetters(): number {
    return this.#db.prepare<{ n: number }>("SELECT count(*) AS n FROM dead_letter").get()!.n;
  }

  close(): void {
    this.#db.close();
  }

  #get<T>(name: string): T | undefined {
    const row = this.#db.prepare<{ json: string }, [string]>("SELECT json FROM state WHERE name = ?").get(name);
    return row && (JSON.parse(row.json) as T);
  }

  #set(name: string, value: unknown): void {
    this.#db.prepare<never, [string, string]>("INSERT INTO state (name, json) VALUES (?, ?) ON CONFLICT DO UPDATE SET json = excluded.json").run(name, JSON.stringify(value));
  }
}
