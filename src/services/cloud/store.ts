/** Keeps batches as they came (columns), with an index of the series in them, in encrypted SQLite; marks make each count once. */
import { type Database, openDatabase, type Statement } from "../../kernel/database.ts";
import { decodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import type { Piece } from "../../kernel/events/newest.ts";
import type { Log } from "../../kernel/log.ts";
import type { Batch, Refusal } from "./api.ts";
import { readingsOf } from "./count.ts";

export interface EdgeRow {
  readonly edge: string;
  readonly enrolledAtMs: number;
  readonly lastSeenMs: number | null;
  readonly batches: number;
  readonly events: number;
  readonly readings: number;
  readonly bytes: number;
  readonly refused: number;
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
    bytes INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0
  ) WITHOUT ROWID;
  CREATE TABLE code (hash BLOB PRIMARY KEY, expires_ms INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE mark (
    edge TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, durable INTEGER NOT NULL, through INTEGER,
    PRIMARY KEY (edge, stream, epoch)
  ) WITHOUT ROWID;
  CREATE TABLE refused (
    edge TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (edge, stream, epoch, sequence)
  ) WITHOUT ROWID;
  CREATE TABLE batch (
    id INTEGER PRIMARY KEY, edge TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    queued_ns INTEGER NOT NULL, received_ns INTEGER NOT NULL, blocks BLOB NOT NULL
  );
  CREATE INDEX batch_of_edge ON batch (edge, id);
  CREATE TABLE piece (
    edge TEXT NOT NULL, device TEXT NOT NULL, max_origin INTEGER NOT NULL, batch INTEGER NOT NULL, block INTEGER NOT NULL,
    min_origin INTEGER NOT NULL, readings INTEGER NOT NULL, PRIMARY KEY (edge, device, max_origin, batch, block)
  ) WITHOUT ROWID;
`;

/** Refusals of a stream and epoch that are remembered, the newest of them. */
const REFUSALS_MAX = 100;
const PAGE_PIECES = 256;
const PAGE_BATCHES = 16;

interface PieceRow {
  readonly batch: bigint;
  readonly block: bigint;
  readonly min_origin: bigint;
  readonly max_origin: bigint;
  readonly readings: bigint;
}

export class CloudStore {
  readonly #db: Database;
  readonly #mark: Statement<{ durable: number }, [string, string, number]>;
  readonly #setMark: Statement<never, [string, string, number, number, number | null]>;
  readonly #addBatch: Statement<never, [string, string, number, number, bigint, bigint, Uint8Array]>;
  readonly #addPiece: Statement<never, [string, string, bigint, number, number, bigint, number]>;
  readonly #count: Statement<never, [string, number, number, number, number, number, number, number]>;

  constructor(options: { path: string; key: Uint8Array; log: Log }) {
    const db = (this.#db = openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } }));
    this.#mark = db.prepare("SELECT durable FROM mark WHERE edge = ? AND stream = ? AND epoch = ?");
    this.#setMark = db.prepare(
      `INSERT INTO mark (edge, stream, epoch, durable, through) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET durable = excluded.durable, through = excluded.through`,
    );
    this.#addBatch = db.prepare(
      "INSERT INTO batch (edge, stream, epoch, sequence, queued_ns, received_ns, blocks) VALUES (?, ?, ?, ?, ?, ?, ?)",
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

  /** Where a damaged predecessor went, when there was one: its marks are gone with it. */
  get replaced(): Database["replaced"] {
    return this.#db.replaced;
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work);
  }

  mark({ edge, stream, epoch }: Place): number {
    return this.#mark.get(edge, stream, epoch)?.durable ?? 0;
  }

  setMark({ edge, stream, epoch }: Place, durable: number, through: number | undefined): void {
    this.#setMark.run(edge, stream, epoch, durable, through ?? null);
  }

  /** How far the sender of a stream had read its source with the batch that was kept last: epochs grow. */
  through(edge: string, stream: string): number | undefined {
    const newest = "SELECT through FROM mark WHERE edge = ? AND stream = ? ORDER BY epoch DESC LIMIT 1";
    const row = this.#db.prepare<{ through: number | null }, [string, string]>(newest).get(edge, stream);
    return row?.through ?? undefined;
  }

  /** Keeps one batch that was read; call within a transaction. */
  keep({ edge, stream, epoch }: Place, batch: Batch, blocks: readonly Block[], receivedNs: bigint): void {
    const bytes = batch.blocks;
    const { lastInsertRowid } = this.#addBatch.run(
      edge,
      stream,
      epoch,
      batch.sequence,
      batch.queuedNs,
      receivedNs,
      bytes,
    );
    const id = Number(lastInsertRowid);
    let [events, readings] = [0, 0];
    blocks.forEach((block, index) => {
      const { min, max } = spanOf(block);
      const count = readingsOf(block);
      this.#addPiece.run(edge, block.series.deviceName, max, id, index, min, count);
      events += block.sequences.length;
      readings += count;
    });
    const nowMs = Number(receivedNs / 1_000_000n);
    this.#count.run(edge, nowMs, nowMs, 1, events, readings, bytes.length, 0);
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

  edges(): EdgeRow[] {
    return this.#db.prepare<EdgeRow>("SELECT * FROM edge ORDER BY edge").all();
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

  /** Readings of a device, counted when they came. */
  readingsOf(edge: string, device: string): number {
    const sum = "SELECT coalesce(sum(readings), 0) AS n FROM piece WHERE edge = ? AND device = ?";
    return this.#db.prepare<{ n: number }, [string, string]>(sum).get(edge, device)!.n;
  }

  /** Blocks of a device, newest first; with a resource only its values are read, and none is counted before. */
  *pieces(edge: string, device: string, resource?: string): Generator<Piece> {
    const rows = this.#db.prepare<PieceRow, [string, string, bigint, bigint, bigint]>(
      `SELECT batch, block, min_origin, max_origin, readings FROM piece
       WHERE edge = ? AND device = ? AND (max_origin, batch, block) < (?, ?, ?)
       ORDER BY max_origin DESC, batch DESC, block DESC LIMIT ${PAGE_PIECES}`,
      { bigint: true },
    );
    const most = 2n ** 63n - 1n;
    let after: [bigint, bigint, bigint] = [most, most, most];
    for (;;) {
      const page = rows.all(edge, device, ...after);
      for (const { batch, block, min_origin, max_origin, readings } of page) {
        yield {
          minOrigin: min_origin,
          maxOrigin: max_origin,
          count: resource === undefined ? Number(readings) : undefined,
          open: () => [this.#blocksOf(Number(batch), resource)[Number(block)]],
        };
      }
      if (page.length < PAGE_PIECES) return;
      const last = page.at(-1)!;
      after = [last.max_origin, last.batch, last.block];
    }
  }

  /** Every batch of a node in order of arrival. */
  *batchesInOrder(edge: string): Generator<Block[]> {
    const page = this.#db.prepare<{ id: number; blocks: Uint8Array }, [string, number]>(
      `SELECT id, blocks FROM batch WHERE edge = ? AND id > ? ORDER BY id LIMIT ${PAGE_BATCHES}`,
    );
    for (let after = 0; ;) {
      const rows = page.all(edge, after);
      for (const row of rows) yield decodeBlocks(row.blocks);
      if (rows.length < PAGE_BATCHES) return;
      after = rows.at(-1)!.id;
    }
  }

  close(): void {
    this.#db.close();
  }

  #last: { readonly id: number; readonly resource: string | undefined; readonly blocks: Block[] } | undefined;

  /** The batch opened last is kept: the next piece is often in it too. */
  #blocksOf(id: number, resource: string | undefined): Block[] {
    if (this.#last?.id === id && this.#last.resource === resource) return this.#last.blocks;
    const row = this.#db.prepare<{ blocks: Uint8Array }, [number]>("SELECT blocks FROM batch WHERE id = ?").get(id)!;
    const blocks = decodeBlocks(row.blocks, resource === undefined ? undefined : ({ name }) => name === resource);
    this.#last = { id, resource, blocks };
    return blocks;
  }
}

function spanOf(block: Block): { min: bigint; max: bigint } {
  let min = block.origins[0];
  let max = min;
  for (const origin of block.origins) {
    if (origin < min) min = origin;
    if (origin > max) max = origin;
  }
  return { min, max };
}
