/**
 * Keeps spans as compressed chunks in encrypted SQLite, with two indexes: request ids, and ranges of events. A batch of
 * events is one span; the story of any event in it is found by its number.
 */
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { decodeCbor, encodeCbor } from "../../kernel/cbor.ts";
import { type Database, openDatabase, type Statement } from "../../kernel/database.ts";
import type { Log } from "../../kernel/log.ts";
import { nanosOf } from "../../kernel/nanos.ts";
import type { Range } from "../../kernel/trace.ts";
import { Span, type StoredSpan } from "./api.ts";

export interface EventPlace {
  readonly publisher: string;
  readonly epoch: number;
  readonly sequence: number;
}

export interface SpanStore {
  /** Where the damaged one went that it took the place of. */
  readonly replaced: Database["replaced"];
  /** Keeps spans; `seconds` is what the retention clock says. */
  add(spans: readonly StoredSpan[], seconds: number): void;
  ofRequest(requestId: string): StoredSpan[];
  ofEvent(place: EventPlace): StoredSpan[];
  /** Every publisher that a range named, to find the one an event id's tag stands for. */
  publishers(): string[];
  /** Runs over all spans that began in a span of time. */
  between(fromNs: bigint, toNs: bigint): Iterable<StoredSpan>;
  /** Drops the chunks that were kept longest ago, until age and size fit; `beforeSeconds` is of the retention clock. */
  retain(beforeSeconds: number, sizeBytesMax: number): void;
  readonly sizeBytes: number;
  /** What the retention clock said when the newest chunk was kept; undefined where there is none. */
  readonly keptSeconds: number | undefined;
  close(): void;
}

const SCHEMA = `
  CREATE TABLE chunk (id INTEGER PRIMARY KEY, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, kept INTEGER NOT NULL, size INTEGER NOT NULL,
    spans BLOB NOT NULL);
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

/** Widest range of events in the index; the search looks no further than this past a sequence. Of a wider one, so many parts are found. */
const RANGE_ROWS_MAX = 65_536;
const RANGE_PARTS_MAX = 64;
/** Chunks that one question reads at the most: a hot request id cannot make it read the whole store. */
const CHUNKS_MAX = 512;
const CHUNK_BYTES_MAX = 64 * 1024 * 1024;

/** Opens the store. Errors are those of openDatabase. */
export function openSpanStore(options: { path: string; key: Uint8Array; log: Log }): SpanStore {
  return new SqliteSpans(openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } }));
}

const idBytes = (requestId: string): Buffer => Buffer.from(requestId.replaceAll("-", ""), "hex");

class SqliteSpans implements SpanStore {
  readonly replaced: Database["replaced"];
  readonly #db: Database;
  readonly #addChunk: Statement<never, [bigint, bigint, number, number, Uint8Array]>;
  readonly #addRequest: Statement<never, [Uint8Array, number]>;
  readonly #addRange: Statement<never, [number, number, number, number, number]>;
  readonly #byRequest: Statement<{ spans: Uint8Array }, [Uint8Array, number]>;
  readonly #byRange: Statement<{ spans: Uint8Array }, [string, number, number, number, number, number]>;
  readonly #publishers = new Map<string, number>();
  #size: number;

  constructor(db: Database) {
    this.#db = db;
    this.replaced = db.replaced;
    this.#addChunk = db.prepare("INSERT INTO chunk (first_ns, last_ns, kept, size, spans) VALUES (?, ?, ?, ?, ?)");
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
    this.#loadPublishers();
    this.#size = db.prepare<{ n: number }>("SELECT coalesce(sum(size), 0) AS n FROM chunk").get()!.n;
  }

  get sizeBytes(): number {
    return this.#size;
  }

  get keptSeconds(): number | undefined {
    return this.#db.prepare<{ kept: number }>("SELECT kept FROM chunk ORDER BY id DESC LIMIT 1").get()?.kept;
  }

  add(spans: readonly StoredSpan[], seconds: number): void {
    if (spans.length === 0) return;
    const blob = zstdCompressSync(encodeCbor(spans));
    let first = spans[0].startNs;
    let last = first;
    for (const span of spans) {
      if (span.startNs < first) first = span.startNs;
      if (span.startNs > last) last = span.startNs;
    }
    try {
      this.#db.transaction(() => {
        const chunk = Number(this.#addChunk.run(first, last, seconds, blob.length, blob).lastInsertRowid);
        for (const span of spans) {
          if (span.requestId) this.#addRequest.run(idBytes(span.requestId), chunk);
          for (const range of span.ranges ?? []) this.#index(range, chunk);
        }
      });
    } catch (error) {
      // Publishers that got a number in it have none now.
      this.#loadPublishers();
      throw error;
    }
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
    const ids = this.#db
      .prepare<{ id: number }>("SELECT id FROM chunk WHERE last_ns >= ? AND first_ns <= ? ORDER BY id")
      .all(fromNs, toNs);
    const one = this.#db.prepare<{ spans: Uint8Array }>("SELECT spans FROM chunk WHERE id = ?");
    // One chunk at a time: all of them may be more than memory should hold.
    for (const { id } of ids) {
      for (const span of this.#read(one.all(id))) if (span.startNs >= fromNs && span.startNs <= toNs) yield span;
    }
  }

  retain(beforeSeconds: number, sizeBytesMax: number): void {
    const drop = this.#db.prepare<never, [number]>("DELETE FROM chunk WHERE id = ?");
    const oldest = this.#db.prepare<{ id: number; size: number; kept: number }>(
      "SELECT id, size, kept FROM chunk ORDER BY id LIMIT 64",
    );
    for (;;) {
      const gone: number[] = [];
      let left = this.#size;
      for (const { id, size, kept } of oldest.all()) {
        if (kept >= beforeSeconds && left <= sizeBytesMax) break;
        left -= size;
        gone.push(id);
      }
      if (gone.length === 0) break;
      this.#db.transaction(() => gone.forEach((id) => drop.run(id)));
      this.#size = left;
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

  /** A wide range is several rows: the search for a sequence looks no further than RANGE_ROWS_MAX. */
  #index({ publisher, epoch, from, to }: Range, chunk: number): void {
    const number = this.#publisher(publisher);
    for (let last = to; last >= from && to - last < RANGE_ROWS_MAX * RANGE_PARTS_MAX; last -= RANGE_ROWS_MAX)
      this.#addRange.run(number, epoch, last, Math.max(from, last - RANGE_ROWS_MAX + 1), chunk);
  }

  #loadPublishers(): void {
    this.#publishers.clear();
    const rows = this.#db.prepare<{ id: number; name: string }>("SELECT id, name FROM publisher");
    for (const { id, name } of rows.all()) this.#publishers.set(name, id);
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
