/** What the pipeline keeps besides the outbox: whom it is enrolled with, what was acknowledged, what was refused for good. */
import { type Database, openDatabase } from "../../kernel/database.ts";
import type { Log } from "../../kernel/log.ts";
import type { QueuedBatch } from "./outbox.ts";
import type { Stream } from "./stream.ts";

export interface Enrollment {
  readonly url: string;
  /** The cloud's name, in its certificates. */
  readonly cloud: string;
  readonly edge: string;
  readonly caPem: string;
  readonly certPem: string;
  readonly keyPem: string;
  /** Batches up to this one are not for this cloud: another one had them when the node came here. */
  readonly floor?: number;
}

export interface Totals {
  batches: number;
  events: number;
  readings: number;
  lastAtMs: number | undefined;
  bytesSent: number;
  bytesReceived: number;
  /** Batches up to this one of this epoch are in the counts. */
  counted: number;
  epoch: number;
}

/** Batches that were in the outbox, and reached no cloud or are not there any more. */
export interface Missing {
  readonly reason: string;
  readonly firstPosition: number;
  readonly lastPosition: number;
}

/** How far things are; written now and then, so that a kill costs some of it. */
export interface Progress {
  readonly followed: number;
  /** The last batch that the cloud has acknowledged. */
  readonly acknowledged: number;
  readonly stream: Stream;
  readonly totals: Totals;
}

const SCHEMA = `
  CREATE TABLE state (name TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE dead_letter (sequence INTEGER PRIMARY KEY, reason TEXT NOT NULL, at_ms INTEGER NOT NULL, blocks BLOB NOT NULL);
`;

/** Batches that the far side refused are kept, the newest of them: so many, and so many bytes. */
const DEAD_LETTERS_MAX = 1_000;
const DEAD_LETTERS_BYTES_MAX = 32 * 1024 * 1024;
/** Losses that are told, the newest of them. */
const MISSING_MAX = 32;

const NONE: Totals = {
  batches: 0,
  events: 0,
  readings: 0,
  lastAtMs: undefined,
  bytesSent: 0,
  bytesReceived: 0,
  counted: 0,
  epoch: 0,
};

export class PipelineStore {
  readonly #db: Database;

  constructor(options: { path: string; key: Uint8Array; log: Log }) {
    this.#db = openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } });
  }

  /** Where a damaged predecessor went, when there was one: the enrollment is gone with it. */
  get replaced(): Database["replaced"] {
    return this.#db.replaced;
  }

  get enrollment(): Enrollment | undefined {
    return this.#get("enrollment") as Enrollment | undefined;
  }

  set enrollment(value: Enrollment) {
    this.#set("enrollment", value);
  }

  /** Position of the bus, for when the outbox cannot tell it. */
  get followed(): number {
    return (this.#get("followed") as number | undefined) ?? 0;
  }

  set followed(position: number) {
    this.#set("followed", position);
  }

  get acknowledged(): number {
    return (this.#get("acknowledged") as number | undefined) ?? 0;
  }

  get stream(): Stream | undefined {
    return this.#get("stream") as Stream | undefined;
  }

  get totals(): Totals {
    return { ...NONE, ...(this.#get("totals") as Totals | undefined) };
  }

  save({ followed, acknowledged, stream, totals }: Progress): void {
    this.#db.transaction(() => {
      this.#set("followed", followed);
      this.#set("acknowledged", acknowledged);
      this.#set("stream", stream);
      this.#set("totals", totals);
    });
  }

  get missing(): Missing[] {
    return (this.#get("missing") as Missing[] | undefined) ?? [];
  }

  /** Notes a loss; false where it was noted before. */
  addMissing(loss: Missing): boolean {
    const known = this.missing;
    if (known.some((m) => m.firstPosition <= loss.firstPosition && m.lastPosition >= loss.lastPosition)) return false;
    this.#set("missing", [...known, loss].slice(-MISSING_MAX));
    return true;
  }

  /** Sets a batch aside. */
  addDeadLetter({ sequence, blocks }: QueuedBatch, reason: string, atMs: number): void {
    this.#db.transaction(() => {
      this.#db
        .prepare<never, [number, string, number, Uint8Array]>(
          "INSERT OR REPLACE INTO dead_letter (sequence, reason, at_ms, blocks) VALUES (?, ?, ?, ?)",
        )
        .run(sequence, reason.slice(0, 1_000), atMs, blocks);
      this.#db
        .prepare<never, [number, number]>(
          `DELETE FROM dead_letter WHERE sequence IN (SELECT sequence FROM (
             SELECT sequence, row_number() OVER w AS n, sum(length(blocks)) OVER w AS bytes
             FROM dead_letter WINDOW w AS (ORDER BY sequence DESC)) WHERE n > ? OR bytes > ?)`,
        )
        .run(DEAD_LETTERS_MAX, DEAD_LETTERS_BYTES_MAX);
    });
  }

  hasDeadLetter(sequence: number): boolean {
    return (
      this.#db.prepare<unknown, [number]>("SELECT 1 FROM dead_letter WHERE sequence = ?").get(sequence) !== undefined
    );
  }

  get deadLetters(): number {
    return this.#db.prepare<{ n: number }>("SELECT count(*) AS n FROM dead_letter").get()!.n;
  }

  close(): void {
    this.#db.close();
  }

  #get(name: string): unknown {
    const row = this.#db.prepare<{ json: string }, [string]>("SELECT json FROM state WHERE name = ?").get(name);
    return row && (JSON.parse(row.json) as unknown);
  }

  #set(name: string, value: unknown): void {
    this.#db
      .prepare<never, [string, string]>(
        "INSERT INTO state (name, json) VALUES (?, ?) ON CONFLICT DO UPDATE SET json = excluded.json",
      )
      .run(name, JSON.stringify(value));
  }
}
