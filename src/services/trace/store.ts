/**
 * Keeps spans as compressed chunks in encrypted SQLite, with two indexes: request ids, and ranges of events. A batch of
 * events is one span; the story of any event in it is found by its number.
 */
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { decodeCbor, encodeCbor } from "../../kernel/cbor.ts";
import { type Database, openDatabase, type Statement } from "../../kernel/database.ts";
import type { Log } from "../../kernel/log.ts";
import { nanosOf } from "../../kernel/nanos.ts";
import { Span, type StoredSpan } from "./api.ts";

export interface EventPlace {
  readonly publisher: string;
  readonly epoch: number;
  readonly sequence: number;
}

export interface SpanStore {
  add(spans: readonly StoredSpan[]): void;
  ofRequest(requestId: string): StoredSpan[];
  ofEvent(place: EventPlace): StoredSpan[];
  /** Every publisher that a range named, to find the one an event id's tag stands for. */
  publishers(): string[];
  /** Runs over all spans that began in a span of time. */
  between(fromNs: bigint, toNs: bigint): Iterable<StoredSpan>;
  /** Drops the oldest chunks until the age and the size fit. */
  retain(olderThanNs: bigint, sizeBytesMax: number): void;
  readonly sizeBytes: number;
  close(): void;
}

const SCHEMA = `
  CREATE TABLE chunk (id INTEGER PRIMARY KEY, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, size INTEGER NOT NULL, spans BLOB NOT NULL);
  CREATE INDEX chunk_last ON chunk (last_ns);
  CREATE TABLE request (request BLOB NOT NULL, chunk INTEGER NOT NULL REFERENCES chunk ON DELETE CASCADE, PRIMARY KEY (request, chunk)) WITHOUT ROWID;
  CREATE INDEX request_chunk ON request (chunk);
  CREATE TABLE publisher (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
  CREATE TABLE range (
    publisher INTEGER NOT NULL, epoch INTEGER NOT NULL, last INTEGER NOT NULL, first INTEGER NOT NULL,
    chunk INTEGER NOT NULL REFERENCES chunk ON DELETE CASCADE, PRIMARY KEY (publisher, epoch, last, first, chunk)
  ) WITHOUT ROWID;
  CREATE INDEX range_chunk ON range (chunk);
`;

/** Widest range of events one span may tell of; the search looks no further than this past a sequence. */
const RANGE_ROWS_MAX = 65_536;
/** Chunks that one question reads at the most: a hot request id cannot make it read the whole store. */
const CHUNKS_MAX = 512;
const CHUNK_BYTES_MAX = 64 * 1024 * 1024;

/** Opens the store. Errors are those of openDatabase. */
export function openSpanStore(options: { path: string; key: Uint8Array; log: Log }): SpanStore {
  return new SqliteSpans(openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } }));
}

const idBytes = (requestId: string): Buffer => Buffer.from(requestId.replaceAll("-", ""), "hex");

class SqliteSpans implements SpanStore {
  readonly #db: Database;
  readonly #addChunk: Statement<never, [bigint, bigint, number, Uint8Array]>;
  readonly #addRequest: Statement<never, [Uint8Array, number]>;
  readonly #addRange: Statement<never, [number, number, number, number, number]>;
  readonly #byRequest: Statement<{ spans: Uint8Array }, [Uint8Array, number]>;
  readonly #byRange: Statement<{ spans: Uint8Array }, [string, number, number, number, number, number]>;
  readonly #publishers = new Map<string, number>();
  #size: number;

  constructor(db: Database) {
    this.#db = db;
    this.#addChunk = db.prepare("INSERT INTO chunk (first_ns, last_ns, size, spans) VALUES (?, ?, ?, ?)");
    this.#addRequest = db.prepare("INSERT OR IGNORE INTO request (request, chunk) VALUES (?, ?)");
    this.#addRange = db.prepare(
      "INSERT OR IGNORE INTO range (publisher, epoch, last, first, chunk) VALUES (?, ?, ?, ?, ?)",
    );
    this.#byRequest = db.prepare(
      "SELECT spans FROM chunk WHERE id IN (SELECT chunk FROM request WHERE request = ?) ORDER BY id LIMIT ?",
    );
    this.#byRange = db.prepare(
      `SELECT spans FROM chunk WHERE id IN (
         SELECT chunk FROM range WHERE publisher = (SELECT id FROM publisher WHERE name = ?) AND epoch = ?
         AND last BETWEEN ? AND ? AND first <= ? LIMIT ?) ORDER BY id`,
    );
    for (const { id, name } of db.prepare<{ id: number; name: string }>("SELECT id, name FROM publisher").all())
      this.#publishers.set(name, id);
    this.#size = db.prepare<{ n: number }>("SELECT coalesce(sum(size), 0) AS n FROM chunk").get()!.n;
  }

  get sizeBytes(): number {
    return this.#size;
  }

  add(spans: readonly StoredSpan[]): void {
    if (spans.length === 0) return;
    const blob = zstdCompressSync(encodeCbor(spans));
    let first = spans[0].startNs;
    let last = first;
    for (const span of spans) {
      if (span.startNs < first) first = span.startNs;
      if (span.startNs > last) last = span.startNs;
    }
    this.#db.transaction(() => {
      const chunk = Number(this.#addChunk.run(first, last, blob.length, blob).lastInsertRowid);
      for (const span of spans) {
        if (span.requestId) this.#addRequest.run(idBytes(span.requestId), chunk);
        for (const range of span.ranges ?? [])
          this.#addRange.run(this.#publisher(range.publisher), range.epoch, range.to, range.from, chunk);
      }
    });
    this.#size += blob.length;
  }

  ofRequest(requestId: string): StoredSpan[] {
    return this.#read(this.#byRequest.all(idBytes(requestId), CHUNKS_MAX)).filter(
      (span) => span.requestId === requestId,
    );
  }

  ofEvent({ publisher, epoch, sequence }: EventPlace): StoredSpan[] {
    const rows = this.#byRange.all(publisher, epoch, sequence, sequence + RANGE_ROWS_MAX, sequence, CHUNKS_MAX);
    return this.#read(rows).filter((span) =>
      span.ranges?.some(
        (r) => r.publisher === publisher && r.epoch === epoch && r.from <= sequence && sequence <= r.to,
      ),
    );
  }

  publishers(): string[] {
    return [...this.#publishers.keys()];
  }

  *between(fromNs: bigint, toNs: bigint): Iterable<StoredSpan> {
    const rows = this.#db
      .prepare<{ spans: Uint8Array }>("SELECT spans FROM chunk WHERE last_ns >= ? AND first_ns <= ? ORDER BY id")
      .all(fromNs, toNs);
    for (const row of rows)
      for (const span of this.#read([row])) if (span.startNs >= fromNs && span.startNs <= toNs) yield span;
  }

  retain(olderThanNs: bigint, sizeBytesMax: number): void {
    const drop = this.#db.prepare<never, [number]>("DELETE FROM chunk WHERE id = ?");
    const oldest = this.#db.prepare<{ id: bigint; size: bigint; last_ns: bigint }>(
      "SELECT id, size, last_ns FROM chunk ORDER BY id LIMIT 64",
      { bigint: true },
    );
    for (;;) {
      const rows = oldest.all().filter((row) => row.last_ns < olderThanNs || this.#size > sizeBytesMax);
      if (rows.length === 0) break;
      this.#db.transaction(() => {
        for (const row of rows) {
          if (row.last_ns >= olderThanNs && this.#size <= sizeBytesMax) break;
          drop.run(Number(row.id));
          this.#size -= Number(row.size);
        }
      });
    }
    this.#db.shrink(256);
  }

  close(): void {
    this.#db.close();
  }

  #read(rows: readonly { spans: Uint8Array }[]): StoredSpan[] {
    return rows
      .flatMap(
        (row) =>
          decodeCbor(zstdDecompressSync(row.spans, { maxOutputLength: CHUNK_BYTES_MAX }), {
            bytesMax: CHUNK_BYTES_MAX,
          }) as StoredSpan[],
      )
      .map((span) => nanosOf(Span, span) as StoredSpan);
  }

  #publisher(name: string): number {
    const known = this.#publishers.get(name);
    if (known !== undefined) return known;
    const id = Number(
      this.#db.prepare<never, [string]>("INSERT INTO publisher (name) VALUES (?)").run(name).lastInsertRowid,
    );
    this.#publishers.set(name, id);
    return id;
  }
}
