/** Keeps batches as they came (columns), with an index of the series in them, in encrypted SQLite; ranges make each count once. */
import { type Database, openDatabase, type Statement, type DatabaseOptions } from "../../kernel/database.ts";
import type { Block } from "../../kernel/events/model.ts";
import { readingsOf, spanOf } from "../../kernel/events/rows.ts";
import type { Log } from "../../kernel/log.ts";
import type { SequenceRange } from "../../kernel/sequences.ts";
import type { Arrival } from "./accept.ts";
import type { Batch, Refusal } from "./api.ts";
import { Backfills, BACKFILLS_SCHEMA } from "./backfills.ts";
import { GapLedger, GAPS_SCHEMA } from "./gaps.ts";
import { Kept } from "./kept.ts";

export interface EdgeRow {
  readonly edge: string;
  readonly enrolledAtMs: number;
  readonly lastSeenMs: number | null;
  readonly batches: number;
  readonly events: number;
  readonly readings: number;
  readonly bytes: number;
  readonly refused: number;
  readonly aheadNs: number | null;
  readonly errorNs: number | null;
}

/** Whose batches, of which stream, in which epoch of it. */
export interface Place {
  readonly edge: string;
  readonly stream: string;
  readonly epoch: number;
}

const SCHEMA = `
  CREATE TABLE edge (
    edge TEXT PRIMARY KEY, enrolledAtMs INTEGER NOT NULL, lastSeenMs INTEGER,
    batches INTEGER NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0, readings INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0, aheadNs INTEGER, errorNs INTEGER
  ) WITHOUT ROWID;
  CREATE TABLE code (hash BLOB PRIMARY KEY, expires_ms INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE settled (
    edge TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, ranges TEXT NOT NULL,
    PRIMARY KEY (edge, stream, epoch)
  ) WITHOUT ROWID;
  CREATE TABLE source (
    edge TEXT NOT NULL, stream TEXT NOT NULL, pipeline TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    through INTEGER NOT NULL, PRIMARY KEY (edge, stream, pipeline)
  ) WITHOUT ROWID;
  CREATE TABLE refused (
    edge TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (edge, stream, epoch, sequence)
  ) WITHOUT ROWID;
  CREATE TABLE batch (
    id INTEGER PRIMARY KEY, edge TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    pipeline TEXT NOT NULL, queued_ns INTEGER NOT NULL, received_ns INTEGER NOT NULL, ahead_ns INTEGER, blocks BLOB NOT NULL
  );
  CREATE INDEX batch_of_edge ON batch (edge, id);
  CREATE UNIQUE INDEX batch_in_order ON batch (edge, stream, epoch, sequence);
  CREATE TABLE piece (
    edge TEXT NOT NULL, device TEXT NOT NULL, max_origin INTEGER NOT NULL, batch INTEGER NOT NULL, block INTEGER NOT NULL,
    min_origin INTEGER NOT NULL, readings INTEGER NOT NULL, PRIMARY KEY (edge, device, max_origin, batch, block)
  ) WITHOUT ROWID;
  ${GAPS_SCHEMA}
`;

/** Refusals of a stream and epoch that are remembered, the newest of them. */
const REFUSALS_MAX = 100;
/** Batches whose dwell times are told. */
const DWELL_BATCHES = 1_000;

export class CloudStore {
  readonly gaps: GapLedger;
  readonly kept: Kept;
  readonly backfills: Backfills;
  readonly #db: Database;
  readonly #settled: Statement<{ ranges: string }, [string, string, number]>;
  readonly #settle: Statement<never, [string, string, number, string]>;
  readonly #setSource: Statement<never, [string, string, string, number, number, number]>;
  readonly #addBatch: Statement<
    never,
    [string, string, number, number, string, bigint, bigint, bigint | null, Uint8Array]
  >;
  readonly #addPiece: Statement<never, [string, string, bigint, number, number, bigint, number]>;
  readonly #count: Statement<never, [string, number, number, number, number, number, number, number]>;

  constructor(options: { path: string; key: DatabaseOptions["key"]; log: Log }) {
    const db = (this.#db = openDatabase({
      ...options,
      schema: { version: 2, migrations: [SCHEMA, BACKFILLS_SCHEMA] },
    }));
    this.gaps = new GapLedger(db);
    this.kept = new Kept(db);
    this.backfills = new Backfills(db);
    this.#settled = db.prepare("SELECT ranges FROM settled WHERE edge = ? AND stream = ? AND epoch = ?");
    this.#settle = db.prepare(
      `INSERT INTO settled (edge, stream, epoch, ranges) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET ranges = excluded.ranges`,
    );
    // A lane of what waited comes behind what is new: the furthest counts, in the newest epoch.
    this.#setSource = db.prepare(
      `INSERT INTO source (edge, stream, pipeline, epoch, sequence, through) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, through = excluded.through
       WHERE (excluded.epoch, excluded.sequence) > (epoch, sequence)`,
    );
    this.#addBatch = db.prepare(
      `INSERT INTO batch (edge, stream, epoch, sequence, pipeline, queued_ns, received_ns, ahead_ns, blocks)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#addPiece = db.prepare(
      "INSERT INTO piece (edge, device, max_origin, batch, block, min_origin, readings) VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    // A certificate outlives a database that was restored from before the node was enrolled: then this is its row.
    this.#count = db.prepare(
      `INSERT INTO edge (edge, enrolledAtMs, lastSeenMs, batches, events, readings, bytes, refused) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET lastSeenMs = excluded.lastSeenMs, batches = batches + excluded.batches,
       events = events + excluded.events, readings = readings + excluded.readings, bytes = bytes + excluded.bytes,
       refused = refused + excluded.refused`,
    );
  }

  /** Where a damaged predecessor went, when there was one: what it had is gone with it. */
  get replaced(): Database["replaced"] {
    return this.#db.replaced;
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work);
  }

  /** Sequences of a stream and epoch that are kept, refused, or never come. */
  settled({ edge, stream, epoch }: Place): SequenceRange[] {
    const row = this.#settled.get(edge, stream, epoch);
    return row ? (JSON.parse(row.ranges) as SequenceRange[]) : [];
  }

  settle({ edge, stream, epoch }: Place, ranges: readonly SequenceRange[]): void {
    this.#settle.run(edge, stream, epoch, JSON.stringify(ranges));
  }

  /** How far each pipeline that a stream is made of had read its source with the last batch that is here. */
  sources(edge: string, stream: string): { name: string; through: number }[] {
    const all = "SELECT pipeline AS name, through FROM source WHERE edge = ? AND stream = ? ORDER BY pipeline";
    return this.#db.prepare<{ name: string; through: number }, [string, string]>(all).all(edge, stream);
  }

  /** Keeps one batch that was read; call within a transaction. */
  keep({ edge, stream, epoch }: Place, batch: Batch, blocks: readonly Block[], arrival: Arrival): void {
    const { sequence, pipeline, queuedNs, blocks: bytes } = batch;
    const { receivedNs, aheadNs = null } = arrival;
    const { lastInsertRowid } = this.#addBatch.run(
      edge,
      stream,
      epoch,
      sequence,
      pipeline,
      queuedNs,
      receivedNs,
      aheadNs,
      bytes,
    );
    this.#noteSource({ edge, stream, epoch }, batch);
    const id = Number(lastInsertRowid);
    let [events, readings] = [0, 0];
    blocks.forEach((block, index) => {
      const { min, max } = spanOf(block.origins);
      const count = readingsOf(block);
      this.#addPiece.run(edge, block.series.deviceName, max, id, index, min, count);
      events += block.sequences.length;
      readings += count;
    });
    const nowMs = Number(receivedNs / 1_000_000n);
    this.#count.run(edge, nowMs, nowMs, 1, events, readings, bytes.length, 0);
  }

  /** Notes a batch of which all is here already; call within a transaction. */
  pass(place: Place, batch: Batch, { receivedNs }: Arrival): void {
    this.#noteSource(place, batch);
    const nowMs = Number(receivedNs / 1_000_000n);
    this.#count.run(place.edge, nowMs, nowMs, 0, 0, 0, 0, 0);
  }

  #noteSource({ edge, stream, epoch }: Place, { pipeline, sequence, through }: Batch): void {
    if (through !== undefined) this.#setSource.run(edge, stream, pipeline, epoch, sequence, through);
  }

  /** Remembers that a batch was refused: its sender may not have heard it. */
  refuse({ edge, stream, epoch }: Place, { sequence, reason }: Refusal, receivedNs: bigint): void {
    this.#db
      .prepare<never, [string, string, number, number, string]>(
        "INSERT OR REPLACE INTO refused (edge, stream, epoch, sequence, reason) VALUES (?, ?, ?, ?, ?)",
      )
      .run(edge, stream, epoch, sequence, reason);
    this.#db
      .prepare<never, [string, string, number, string, string, number, number]>(
        `DELETE FROM refused WHERE edge = ? AND stream = ? AND epoch = ? AND sequence < (
           SELECT min(sequence) FROM (
             SELECT sequence FROM refused WHERE edge = ? AND stream = ? AND epoch = ? ORDER BY sequence DESC LIMIT ?))`,
      )
      .run(edge, stream, epoch, edge, stream, epoch, REFUSALS_MAX);
    const nowMs = Number(receivedNs / 1_000_000n);
    this.#count.run(edge, nowMs, nowMs, 0, 0, 0, 0, 1);
  }

  /** Refusals from a sequence on. */
  refusals({ edge, stream, epoch }: Place, from: number): Refusal[] {
    return this.#db
      .prepare<Refusal, [string, string, number, number]>(
        "SELECT sequence, reason FROM refused WHERE edge = ? AND stream = ? AND epoch = ? AND sequence >= ? ORDER BY sequence",
      )
      .all(edge, stream, epoch, from);
  }

  enroll(edge: string, nowMs: number): void {
    this.#db
      .prepare<never, [string, number]>(
        "INSERT INTO edge (edge, enrolledAtMs) VALUES (?, ?) ON CONFLICT DO UPDATE SET enrolledAtMs = excluded.enrolledAtMs",
      )
      .run(edge, nowMs);
  }

  hasEdge(edge: string): boolean {
    return this.#db.prepare<unknown, [string]>("SELECT 1 FROM edge WHERE edge = ?").get(edge) !== undefined;
  }

  edges(): EdgeRow[] {
    return this.#db.prepare<EdgeRow>("SELECT * FROM edge ORDER BY edge").all();
  }

  /** Keeps how far a node's clock is ahead. */
  setClock(edge: string, { aheadNs, errorNs }: { aheadNs: bigint; errorNs: bigint }): void {
    this.#db
      .prepare<never, [bigint, bigint, string]>("UPDATE edge SET aheadNs = ?, errorNs = ? WHERE edge = ?")
      .run(aheadNs, errorNs, edge);
  }

  /** How long the newest batches of a node took from its outbox to here, milliseconds, in ascending order. */
  dwellMs(edge: string): number[] {
    return this.#db
      .prepare<number, [string]>(
        `SELECT (received_ns - queued_ns + coalesce(ahead_ns, 0)) / 1e6 FROM batch
         WHERE edge = ? ORDER BY id DESC LIMIT ${DWELL_BATCHES}`,
        { pluck: true },
      )
      .all(edge)
      .sort((a, b) => a - b);
  }

  /** Keeps a code; those that ran out go. */
  addCode(hash: Uint8Array, expiresMs: number, nowMs: number): void {
    this.#db.prepare<never, [number]>("DELETE FROM code WHERE expires_ms <= ?").run(nowMs);
    this.#db
      .prepare<never, [Uint8Array, number]>("INSERT INTO code (hash, expires_ms) VALUES (?, ?)")
      .run(hash, expiresMs);
  }

  hasCode(hash: Uint8Array, nowMs: number): boolean {
    const found = "SELECT 1 FROM code WHERE hash = ? AND expires_ms > ?";
    return this.#db.prepare<unknown, [Uint8Array, number]>(found).get(hash, nowMs) !== undefined;
  }

  /** Takes a code away: true where it was there and is still good. */
  takeCode(hash: Uint8Array, nowMs: number): boolean {
    const taken = "DELETE FROM code WHERE hash = ? AND expires_ms > ?";
    return this.#db.prepare<never, [Uint8Array, number]>(taken).run(hash, nowMs).changes > 0;
  }

  close(): void {
    this.#db.close();
  }
}
