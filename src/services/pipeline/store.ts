/** What the pipeline keeps besides the outbox: whom it is enrolled with, how far destinations are, what did not reach them. */
import { type Database, openDatabase, type DatabaseOptions } from "../../kernel/database.ts";
import type { Log } from "../../kernel/log.ts";
import type { SequenceRange } from "../../kernel/sequences.ts";
import { DEAD_LETTERS_SCHEMA, DeadLetters } from "./outbox/dead-letters.ts";
import { GAPS_SCHEMA, GapTable } from "./outbox/gap-store.ts";
import type { OutboxState } from "./outbox/outbox.ts";
import type { QueueClass } from "./pacing/priority.ts";
import { PIPELINES_SCHEMA, PipelineTables } from "./pipelines/tables.ts";
import type { SavedTotals } from "./uplink/totals.ts";

export interface Enrollment {
  readonly url: string;
  /** The cloud's name, in its certificates. */
  readonly cloud: string;
  readonly edge: string;
  readonly caPem: string;
  readonly certPem: string;
  readonly keyPem: string;
  /** Batches that are not for this cloud: another one had them when the node came here. */
  readonly settled?: Partial<Record<QueueClass, readonly SequenceRange[]>>;
}

const SCHEMA = `
  CREATE TABLE state (name TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
  ${DEAD_LETTERS_SCHEMA}
  ${GAPS_SCHEMA}
  ${PIPELINES_SCHEMA}
`;

export class PipelineStore {
  readonly database: Database;
  readonly deadLetters: DeadLetters;
  readonly gaps: GapTable;
  readonly pipelines: PipelineTables;

  constructor(options: { path: string; key: DatabaseOptions["key"]; log: Log }) {
    this.database = openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } });
    this.deadLetters = new DeadLetters(this.database);
    this.gaps = new GapTable(this.database);
    this.pipelines = new PipelineTables(this.database);
  }

  /** Where a damaged predecessor went, when there was one: the enrollment is gone with it. */
  get replaced(): Database["replaced"] {
    return this.database.replaced;
  }

  transaction<T>(work: () => T): T {
    return this.database.transaction(work);
  }

  get enrollment(): Enrollment | undefined {
    return this.get("enrollment") as Enrollment | undefined;
  }

  set enrollment(value: Enrollment) {
    this.set("enrollment", value);
  }

  get outbox(): OutboxState | undefined {
    return this.get("outbox") as OutboxState | undefined;
  }

  set outbox(state: OutboxState) {
    this.set("outbox", state);
  }

  totals(destination: string): SavedTotals | undefined {
    return this.get(`totals ${destination}`) as SavedTotals | undefined;
  }

  setTotals(destination: string, totals: SavedTotals): void {
    this.set(`totals ${destination}`, totals);
  }

  /** Reads a value that was kept under a name. */
  get(name: string): unknown {
    const row = this.database.prepare<{ json: string }, [string]>("SELECT json FROM state WHERE name = ?").get(name);
    return row && (JSON.parse(row.json) as unknown);
  }

  /** Keeps a value under a name. */
  set(name: string, value: unknown): void {
    this.database
      .prepare<never, [string, string]>(
        "INSERT INTO state (name, json) VALUES (?, ?) ON CONFLICT DO UPDATE SET json = excluded.json",
      )
      .run(name, JSON.stringify(value));
  }

  close(): void {
    this.database.close();
  }
}
