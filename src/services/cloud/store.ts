/** Keeps batches as they came (columns), with an index of the series in them, in encrypted SQLite; marks make each count once. */
import { type Database, openDatabase, type Statement } from "../../kernel/database.ts";
import { decodeBlocks, headOfBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import type { Piece } from "../../kernel/events/newest.ts";
import type { Log } from "../../kernel/log.ts";
import type { Batch } from "./api.ts";
import { readingsOf } from "./count.ts";

export interface EdgeRow {
  readonly edge: string;
  readonly enrolledAtMs: number;
  readonly lastSeenMs: number | null;
  readonly batches: number;
  readonly events: number;
  readonly readings: number;
  readonly bytes: number;
}

const SCHEMA = `
  CREATE TABLE edge (
    edge TEXT PRIMARY KEY, enrolledAtMs INTEGER NOT NULL, lastSeenMs INTEGER,
    batches INTEGER NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0, readings INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0
  ) WITHOUT ROWID;
  CREATE TABLE code (hash BLOB PRIMARY KEY, expires_ms INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE mark (edge TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, durable INTEGER NOT NULL, PRIMARY KEY (edge, stream, epoch)) WITHOUT ROWID;
  CREATE TABLE batch (
    id INTEGER PRIMARY KEY, edge TEXT NOT NULL, stream TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    queued_ns INTEGER NOT NULL, received_ns INTEGER NOT NULL, blocks BLOB NOT NULL
  );
  CREATE TABLE piece (
    edge TEXT NOT NULL, device TEXT NOT NULL, max_origin INTEGER NOT NULL, batch INTEGER NOT NULL, block INTEGER NOT NULL, min_origin INTEGER NOT NULL,
    PRIMARY KEY (edge, device, max_origin, batch, block)
  ) WITHOUT ROWID;
`;

export interface Kept {
  readonly events: number;
  readonly readings: number;
}

export class CloudStore {
  readonly #db: Database;
  readonly #mark: Statement<{ durable: number }, [string, string, number]>;
  readonly #setMark: Statement<never, [string, string, number, number]>;
  readonly #addBatch: Statement<never, [string, string, number, number, bigint, bigint, Uint8Array]>;
  readonly #addPiece: Statement<never, [string, string, bigint, number, number, bigint]>;
  readonly #count: Statement<never, [number, number, number, number, string]>;

  constructor(options: { path: string; key: Uint8Array; log: Log }) {
    const db = (this.#db = openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } }));
    this.#mark = db.prepare("SELECT durable FROM mark WHERE edge = ? AND stream = ? AND epoch = ?");
    this.#setMark = db.prepare("INSERT INTO mark (edge, stream, epoch, durable) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET durable = excluded.durable");
    this.#addBatch = db.prepare("INSERT INTO batch (edge, stream, epoch, sequence, queued_ns, received_ns, blocks) VALUES (?, ?, ?, ?, ?, ?, ?)");
    this.#addPiece = db.prepare("INSERT INTO piece (edge, device, max_origin, batch, block, min_origin) VALUES (?, ?, ?, ?, ?, ?)");
    this.#count = db.prepare("UPDATE edge SET lastSeenMs = ?, batches = batches + 1, events = events + ?, readings = readings + ?, bytes = bytes + ? WHERE edge = ?");
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work);
  }

  mark(edge: string, stream: string, epoch: number): number {
    return this.#mark.get(edge, stream, epoch)?.durable ?? 0;
  }

  setMark(edge: string, stream: string, epoch: number, durable: number): void {
    this.#setMark.run(edge, stream, epoch, durable);
  }

  /** Keeps one batch; call within a transaction. EVENTS_MALFORMED where its blocks cannot be read. */
  keep(place: { edge: string; stream: string; epoch: number }, batch: Batch, receivedNs: bigint): Kept {
    const { edge, stream, epoch } = place;
    const blocks = decodeBlocks(batch.blocks);
    const id = Number(this.#addBatch.run(edge, stream, epoch, batch.sequence, batch.queuedNs, receivedNs, batch.blocks).lastInsertRowid);
    let events = 0;
    let readings = 0;
    blocks.forEach((block, index) => {
      const { min, max } = spanOf(block);
      this.#addPiece.run(edge, block.series.deviceName, max, id, index, min);
      events += block.sequences.length;
      readings += readingsOf(block);
    });
    this.#count.run(Number(receivedNs / 1_000_000n), events, readings, batch.blocks.length, edge);
    return { events, readings };
  }

  enrolled(edge: string): boolean {
    return this.#db.prepare("SELECT 1 FROM edge WHERE edge = ?").get(edge) !== undefined;
  }

  enroll(edge: string, nowMs: number): void {
    this.#db.prepare<never, [string, number]>("INSERT INTO edge (edge, enrolledAtMs) VALUES (?, ?) ON CONFLICT DO UPDATE SET enrolledAtMs = excluded.enrolledAtMs").run(edge, nowMs);
  }

  edges(): EdgeRow[] {
    return this.#db.prepare<EdgeRow>("SELECT * FROM edge ORDER BY edge").all();
  }

  addCode(hash: Uint8Array, expiresMs: number): void {
    this.#db.prepare<never, [Uint8Array, number]>("INSERT INTO code (hash, expires_ms) VALUES (?, ?)").run(hash, expiresMs);
  }

  /** Takes a code away: true where it was there and is still good. Codes that ran out go too. */
  takeCode(hash: Uint8Array, nowMs: number): boolean {
    this.#db.prepare<never, [number]>("DELETE FROM code WHERE expires_ms < ?").run(nowMs);
    return this.#db.prepare<never, [Uint8Array]>("DELETE FROM code WHERE hash = ?").run(hash).changes > 0;
  }

  /** Blocks of a device, newest first. */
  *pieces(edge: string, device: string): Generator<Piece> {
    const rows = this.#db.prepare<{ batch: bigint; block: bigint; min_origin: bigint; max_origin: bigint }>(
      `SELECT batch, block, min_origin, max_origin FROM piece WHERE edge = ? AND device = ? AND (max_origin, batch, block) < (?, ?, ?)
       ORDER BY max_origin DESC, batch DESC, block DESC LIMIT 256`,
      { bigint: true },
    );
    let after: [bigint, bigint, bigint] = [2n ** 63n - 1n, 2n ** 63n - 1n, 2n ** 63n - 1n];
    for (;;) {
      const page = rows.all(edge, device, ...after);
      for (const { batch, block, min_origin, max_origin } of page) {
        yield { minOrigin: min_origin, maxOrigin: max_origin, count: undefined, open: () => [this.#blocksOf(Number(batch))[Number(block)]] };
      }
      if (page.length < 256) return;
      const last = page.at(-1)!;
      after = [last.max_origin, last.batch, last.block];
    }
  }

  /** Every block of a node in order of arrival. */
  *blocksInOrder(edge: string): Generator<Block> {
    const page = this.#db.prepare<{ id: number; blocks: Uint8Array }>("SELECT id, blocks FROM batch WHERE edge = ? AND id > ? ORDER BY id LIMIT 64");
    for (let after = 0; ; ) {
      const rows = page.all(edge, after);
      for (const row of rows) yield* decodeBlocks(row.blocks, () => true);
      if (rows.length < 64) return;
      after = rows.at(-1)!.id;
    }
  }

  /** Publisher and sequences of a batch, for the trace; nothing is decoded. */
  ranges(blocks: Uint8Array): { publisher: string; epoch: number; from: number; to: number }[] {
    return headOfBlocks(blocks).map((h) => ({ publisher: h.publisher.name, epoch: h.publisher.epoch, from: h.firstSequence, to: h.lastSequence }));
  }

  close(): void {
    this.#db.close();
  }

  #last: { id: number; blocks: Block[] } | undefined;

  /** The batch opened last is kept: the next piece is often in it too. */
  #blocksOf(id: number): Block[] {
    if (this.#last?.id === id) return this.#last.blocks;
    const row = this.#db.prepare<{ blocks: Uint8Array }, [number]>("SELECT blocks FROM batch WHERE id = ?").get(id)!;
    this.#last = { id, blocks: decodeBlocks(row.blocks) };
    return this.#last.blocks;
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
