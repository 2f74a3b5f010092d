/** The tables of spans, and what is asked of them. */
import type { Database } from "../../../kernel/database.ts";
import { PERIOD_SCHEMA } from "../latency/periods.ts";

/** Version 1 kept chunks of CBOR. */
export const SPAN_SCHEMA = `
  DROP TABLE IF EXISTS range; DROP TABLE IF EXISTS request; DROP TABLE IF EXISTS chunk; DROP TABLE IF EXISTS publisher;
  CREATE TABLE piece (id INTEGER PRIMARY KEY, kept INTEGER NOT NULL, spans BLOB NOT NULL);
  CREATE TABLE block (
    id INTEGER PRIMARY KEY, kept INTEGER NOT NULL, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL,
    longest_us INTEGER NOT NULL, count INTEGER NOT NULL, bloom BLOB NOT NULL, spans BLOB NOT NULL
  );
  -- All that a block tells of a publisher's events lies within.
  CREATE TABLE range (
    publisher TEXT NOT NULL, epoch INTEGER NOT NULL, last INTEGER NOT NULL, first INTEGER NOT NULL,
    block INTEGER NOT NULL REFERENCES block ON DELETE CASCADE, PRIMARY KEY (publisher, epoch, last, block)
  ) WITHOUT ROWID;
  CREATE INDEX range_block ON range (block);
  ${PERIOD_SCHEMA}
`;

export interface BlockHead {
  readonly id: number;
  readonly bloom: Uint8Array;
}
/** kept, first_ns, last_ns, longest_us, count, bloom, spans. */
export type BlockRow = [
  kept: number,
  firstNs: bigint,
  lastNs: bigint,
  longestUs: number,
  count: number,
  Uint8Array,
  Uint8Array,
];

export type Statements = ReturnType<typeof prepare>;

/** Prepares all statements of the store. */
export function prepare(db: Database) {
  const pluck = { pluck: true };
  const head = "SELECT id, bloom FROM block";
  return {
    addPiece: db.prepare<never, [number, Uint8Array]>("INSERT INTO piece (kept, spans) VALUES (?, ?)"),
    dropPieces: db.prepare<never, [number]>("DELETE FROM piece WHERE id <= ?"),
    addBlock: db.prepare<never, BlockRow>(
      "INSERT INTO block (kept, first_ns, last_ns, longest_us, count, bloom, spans) VALUES (?, ?, ?, ?, ?, ?, ?)",
    ),
    addRange: db.prepare<never, [string, number, number, number, number]>(
      "INSERT INTO range (publisher, epoch, last, first, block) VALUES (?, ?, ?, ?, ?)",
    ),
    blooms: db.prepare<BlockHead, []>(`${head} ORDER BY id DESC`),
    within: db.prepare<BlockHead, [bigint, bigint, number]>(
      `${head} WHERE last_ns >= ? AND first_ns <= ? AND longest_us >= ? ORDER BY id DESC`,
    ),
    byEvent: db.prepare<number, [string, number, number, number, number]>(
      "SELECT block FROM range WHERE publisher = ? AND epoch = ? AND last >= ? AND first <= ? ORDER BY last LIMIT ?",
      pluck,
    ),
    spans: db.prepare<Uint8Array, [number]>("SELECT spans FROM block WHERE id = ?", pluck),
    publishers: db.prepare<string, []>("SELECT DISTINCT publisher FROM range", pluck),
    oldest: db.prepare<{ id: number; kept: number; count: number }, []>(
      "SELECT id, kept, count FROM block ORDER BY id LIMIT 1",
    ),
    drop: db.prepare<never, [number]>("DELETE FROM block WHERE id = ?"),
    counted: db.prepare<number, []>("SELECT coalesce(sum(count), 0) FROM block", pluck),
    newestKept: db.prepare<number, []>("SELECT kept FROM block ORDER BY id DESC LIMIT 1", pluck),
    pages: db.prepare<number, []>(
      "SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)",
      pluck,
    ),
  };
}
