/**
 * Keeps events as columnar chunks in encrypted SQLite. A batch from the bus becomes small open chunks in the transaction
 * that stores the position; a series' open chunks become one sealed chunk when they hold enough rows.
 */
import { type Database, openDatabase, type Statement } from "../../kernel/database.ts";
import { mergeBlocks } from "../../kernel/events/blocks.ts";
import { decodeBlocks, encodeBlocks, seriesKey } from "../../kernel/events/codec.ts";
import { publisherTag } from "../../kernel/events/ids.ts";
import type { Block, Publisher, Series } from "../../kernel/events/model.ts";
import type { Log } from "../../kernel/log.ts";
import { idKey } from "./idkey.ts";
import { SCHEMA } from "./schema.ts";

/** Rows of a sealed chunk: beyond about 1,000 the columns get no smaller, and a query opens more than it needs. */
export const CHUNK_ROWS = 1_024;
/** Bytes of open chunks of a series that are sealed before CHUNK_ROWS is reached (events with large values). */
const OPEN_BYTES_MAX = 256 * 1024;

/** What the index says of a chunk. */
export interface ChunkRow {
  readonly id: number;
  readonly series: number;
  readonly rows: number;
  readonly readings: number;
  readonly minOrigin: bigint;
  readonly maxOrigin: bigint;
}

interface SeriesState {
  readonly id: number;
  readonly series: Series;
  /** Per publisher and epoch: what is not sealed yet. */
  readonly open: Map<string, { rows: number; bytes: number }>;
}

export interface StoreOptions {
  readonly path: string;
  readonly key: Uint8Array;
  readonly node: string;
  readonly log: Log;
}

export class EventStore {
  readonly db: Database;
  readonly #node: string;
  readonly #series = new Map<string, SeriesState>();
  readonly #seriesById = new Map<number, SeriesState>();
  readonly #publishers = new Map<string, { id: number; tag: number }>();
  readonly #insert: Statement<never, (number | bigint | Uint8Array)[]>;
  readonly #open: Statement<{ id: number; blocks: Uint8Array }, [number, number, number]>;
  readonly #drop: Statement<never, [number]>;
  readonly #blocks: Statement<{ blocks: Uint8Array }, [number]>;
  readonly #setState: Statement<never, [string, number]>;
  readonly #foreign: Statement<never, [Uint8Array | string, number, number, number]>;

  constructor(options: StoreOptions) {
    this.db = openDatabase({ ...options, schema: { version: 1, migrations: [SCHEMA] } });
    this.#node = options.node;
    const { db } = this;
    this.#insert = db.prepare(
      `INSERT INTO chunk (series, publisher, epoch, first_sequence, last_sequence, min_origin, max_origin, rows, readings, sealed, bytes, blocks)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#open = db.prepare(
      "SELECT id, blocks FROM chunk WHERE series = ? AND publisher = ? AND epoch = ? AND sealed = 0 ORDER BY id",
    );
    this.#drop = db.prepare("DELETE FROM chunk WHERE id = ?");
    this.#blocks = db.prepare("SELECT blocks FROM chunk WHERE id = ?");
    this.#setState = db.prepare(
      "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
    this.#foreign = db.prepare("INSERT OR IGNORE INTO foreign_id (id, publisher, epoch, sequence) VALUES (?, ?, ?, ?)");
    this.#load();
  }

  /** Where to go on following the bus: stored with the events it stands for. */
  get position(): number {
    return this.db.prepare<{ value: number }>("SELECT value FROM state WHERE name = 'position'").get()?.value ?? 0;
  }

  /** Adds blocks and the position after them in one transaction: all or nothing. Errors are the database's. */
  add(blocks: readonly Block[], position: number): void {
    this.db.transaction(() => {
      for (const block of blocks) if (block.sequences.length > 0) this.#addOne(block);
      this.#setState.run("position", position);
    });
  }

  /** Opens a chunk. Empty when it went meanwhile. */
  blocksOf(id: number): Block[] {
    const row = this.#blocks.get(id);
    return row ? decodeBlocks(row.blocks) : [];
  }

  seriesOf(id: number): Series {
    return this.#seriesById.get(id)!.series;
  }

  /** Numbers of the series of a device, of a resource, of both, or all. */
  seriesLike(filter: { device?: string; resource?: string }): number[] {
    const ids: number[] = [];
    for (const { id, series } of this.#seriesById.values()) {
      if (filter.device !== undefined && series.deviceName !== filter.device) continue;
      if (filter.resource !== undefined && !series.resources.some((r) => r.name === filter.resource)) continue;
      ids.push(id);
    }
    return ids;
  }

  /** The tag that makes ids of a publisher's events. */
  tagOf(publisher: Publisher): number {
    return this.#publisher(publisher.name).tag;
  }

  /** Number of the publisher that ids with this tag are of. */
  publisherWith(tag: number): number | undefined {
    for (const { id, tag: known } of this.#publishers.values()) if (known === tag) return id;
    return undefined;
  }

  /** Puts other blocks in a chunk's place (an event was removed from it); no rows drop it. */
  rewrite(id: number, block: Block): void {
    this.db.transaction(() => {
      const sealed = this.db.prepare<{ sealed: number }>("SELECT sealed FROM chunk WHERE id = ?").get(id)?.sealed ?? 1;
      this.#drop.run(id);
      if (block.sequences.length > 0) this.#insertChunk(this.#stateOf(block.series).id, block, sealed);
    });
    this.#countOpen();
  }

  drop(ids: readonly number[]): void {
    this.db.transaction(() => ids.forEach((id) => this.#drop.run(id)));
    this.#countOpen();
  }

  close(): void {
    this.db.close();
  }

  #addOne(block: Block): void {
    const state = this.#stateOf(block.series);
    const { epoch, name } = block.publisher;
    const publisher = this.#publisher(name).id;
    for (const [row, extra] of block.extras) {
      const id = extra.ids?.[0];
      if (id !== undefined) this.#foreign.run(idKey(id), publisher, epoch, block.sequences[row]);
    }
    const key = `${publisher} ${epoch}`;
    if (block.sequences.length >= CHUNK_ROWS && !state.open.has(key)) {
      this.#insertChunk(state.id, block, 1);
      return;
    }
    const bytes = this.#insertChunk(state.id, block, 0);
    const open = state.open.get(key) ?? { rows: 0, bytes: 0 };
    open.rows += block.sequences.length;
    open.bytes += bytes;
    // A new epoch means that the publisher started again: what it left open of the old one gets no more rows.
    if (!state.open.has(key))
      for (const old of [...state.open.keys()]) if (old.startsWith(`${publisher} `)) this.#seal(state, old);
    state.open.set(key, open);
    if (open.rows >= CHUNK_ROWS || open.bytes >= OPEN_BYTES_MAX) this.#seal(state, key);
  }

  #seal(state: SeriesState, key: string): void {
    const [publisher, epoch] = key.split(" ").map(Number) as [number, number];
    const rows = this.#open.all(state.id, publisher, epoch);
    const merged = mergeBlocks(rows.flatMap((row) => decodeBlocks(row.blocks)));
    for (const row of rows) this.#drop.run(row.id);
    for (const block of merged) this.#insertChunk(state.id, block, 1);
    state.open.delete(key);
  }

  #insertChunk(series: number, block: Block, sealed: number): number {
    const bytes = encodeBlocks([block]);
    let min = block.origins[0];
    let max = min;
    for (const origin of block.origins) {
      if (origin < min) min = origin;
      if (origin > max) max = origin;
    }
    let readings = 0;
    for (const column of block.columns) for (const value of column) if (value !== undefined) readings++;
    const { sequences, publisher } = block;
    this.#insert.run(
      series,
      this.#publisher(publisher.name).id,
      publisher.epoch,
      sequences[0],
      sequences.at(-1)!,
      min,
      max,
      sequences.length,
      readings,
      sealed,
      bytes.length,
      bytes,
    );
    return bytes.length;
  }

  #stateOf(series: Series): SeriesState {
    const key = seriesKey(series);
    const known = this.#series.get(key);
    if (known) return known;
    const insert = this.db.prepare<never, [string, string]>("INSERT INTO series (device, json) VALUES (?, ?)");
    const id = Number(insert.run(series.deviceName, JSON.stringify(series)).lastInsertRowid);
    const state = { id, series, open: new Map<string, { rows: number; bytes: number }>() };
    this.#series.set(key, state);
    this.#seriesById.set(id, state);
    return state;
  }

  #publisher(name: string): { id: number; tag: number } {
    const known = this.#publishers.get(name);
    if (known) return known;
    const id = Number(
      this.db.prepare<never, [string]>("INSERT INTO publisher (name) VALUES (?)").run(name).lastInsertRowid,
    );
    const made = { id, tag: publisherTag(this.#node, name) };
    this.#publishers.set(name, made);
    return made;
  }

  #load(): void {
    for (const { id, name } of this.db.prepare<{ id: number; name: string }>("SELECT id, name FROM publisher").all()) {
      this.#publishers.set(name, { id, tag: publisherTag(this.#node, name) });
    }
    for (const { id, json } of this.db.prepare<{ id: number; json: string }>("SELECT id, json FROM series").all()) {
      const series = JSON.parse(json) as Series;
      const state = { id, series, open: new Map<string, { rows: number; bytes: number }>() };
      this.#series.set(seriesKey(series), state);
      this.#seriesById.set(id, state);
    }
    this.#countOpen();
  }

  #countOpen(): void {
    for (const state of this.#seriesById.values()) state.open.clear();
    const rows = this.db.prepare<{ series: number; publisher: number; epoch: number; rows: number; bytes: number }>(
      "SELECT series, publisher, epoch, sum(rows) AS rows, sum(bytes) AS bytes FROM chunk WHERE sealed = 0 GROUP BY series, publisher, epoch",
    );
    for (const r of rows.all())
      this.#seriesById.get(r.series)?.open.set(`${r.publisher} ${r.epoch}`, { rows: r.rows, bytes: r.bytes });
  }
}
