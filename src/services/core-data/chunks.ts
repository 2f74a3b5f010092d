/** Writes chunks: small open ones, joined into larger ones, sealed when they hold enough; all in its caller's transaction. */
import type { Database, Statement } from "../../kernel/database.ts";
import { Failure } from "../../kernel/error.ts";
import { mergeBlocks, sliceBlock } from "../../kernel/events/blocks.ts";
import { decodeBlocks, encodeBlocks, EVENTS_TOO_LARGE } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { readingsOf, spanOf } from "../../kernel/events/rows.ts";
import type { DeviceKeys } from "./device-keys.ts";
import type { SeriesBook, SeriesEntry } from "./series.ts";

/** Values of a sealed chunk, about: beyond it the columns get no smaller, and a query opens more than it needs. */
const CHUNK_VALUES = 8_192;
/** A source of many resources has at least so many rows in a chunk, one of a single resource at most so many. */
const CHUNK_ROWS_MIN = 1_024;
const CHUNK_ROWS_MAX = 4_096;
/** Bytes of open chunks of a series that are sealed before there are rows enough (events with large values). */
const OPEN_BYTES_MAX = 256 * 1024;
/** So many open chunks of a series are joined into one. */
const OPEN_CHUNKS_MAX = 8;

/** When a chunk's first and last event were kept, in seconds of the retention clock. */
interface Age {
  readonly since: number;
  readonly kept: number;
  /** The columns that retention has emptied. */
  readonly thinned?: string;
}

interface Meta extends Age {
  readonly series: number;
  readonly rows: number;
  readonly readings: number;
  readonly sealed: number;
}

/** Rows of a sealed chunk of a series. */
export const chunkRows = ({ series }: SeriesEntry): number =>
  Math.min(CHUNK_ROWS_MAX, Math.max(CHUNK_ROWS_MIN, Math.floor(CHUNK_VALUES / Math.max(1, series.resources.length))));

export class ChunkWriter {
  readonly #series: SeriesBook;
  readonly #insert: Statement<never, (number | bigint | string | Uint8Array)[]>;
  readonly #open: Statement<{ id: number; device_key: number; blocks: Uint8Array }, [number, number, number]>;
  readonly #keys: DeviceKeys;
  readonly #drop: Statement<never, [number]>;
  readonly #meta: Statement<Meta, [number]>;
  readonly #totals: Statement<{ series: number; rows: number; readings: number }, []>;
  readonly #openTotals: Statement<
    { series: number; publisher: number; epoch: number; rows: number; bytes: number; chunks: number; since: number },
    []
  >;
  #nextId: number;

  constructor(db: Database, series: SeriesBook, keys: DeviceKeys) {
    this.#series = series;
    this.#keys = keys;
    this.#insert = db.prepare(
      `INSERT INTO chunk (id, series, publisher, epoch, first_sequence, last_sequence, min_origin, max_origin,
        rows, readings, sealed, since, kept, thinned, device_key, blocks) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#open = db.prepare(
      "SELECT id, device_key, blocks FROM chunk WHERE series = ? AND publisher = ? AND epoch = ? AND sealed = 0 ORDER BY id",
    );
    this.#drop = db.prepare("DELETE FROM chunk WHERE id = ?");
    this.#meta = db.prepare("SELECT series, rows, readings, sealed, since, kept, thinned FROM chunk WHERE id = ?");
    this.#totals = db.prepare("SELECT series, sum(rows) AS rows, sum(readings) AS readings FROM chunk GROUP BY series");
    this.#openTotals = db.prepare(
      `SELECT series, publisher, epoch, sum(rows) AS rows, sum(length(blocks)) AS bytes, count(*) AS chunks,
        min(since) AS since FROM chunk WHERE sealed = 0 GROUP BY series, publisher, epoch`,
    );
    // Never given twice while this runs: what is remembered of an opened chunk goes by its number.
    this.#nextId = db.prepare<{ id: number }>("SELECT coalesce(max(id), 0) + 1 AS id FROM chunk").get()!.id;
    this.count();
  }

  /** Counts anew what is written. */
  count(): void {
    for (const entry of this.#series.like({})) entry.rows = entry.readings = 0;
    for (const { series, rows, readings } of this.#totals.all())
      Object.assign(this.#series.byId(series), { rows, readings });
    this.#countOpen();
  }

  /** Adds a block of a series: as a small open chunk, or joined with the open ones, or sealed with them. */
  add(entry: SeriesEntry, block: Block, seconds: number): void {
    const publisher = this.#series.publisherNumber(block.publisher.name);
    const key = `${publisher} ${block.publisher.epoch}`;
    // A new epoch means that the publisher started again: what it left open of the old one gets no more rows.
    for (const old of entry.open.keys())
      if (old !== key && old.startsWith(`${publisher} `)) this.#join(entry, old, [], true, seconds);
    const open = entry.open.get(key) ?? { rows: 0, bytes: 0, chunks: 0, since: seconds };
    const isEnough =
      open.rows + block.sequences.length >= chunkRows(entry) ||
      open.bytes >= OPEN_BYTES_MAX ||
      seconds - open.since >= entry.openSecondsMax;
    if (isEnough || open.chunks + 1 >= OPEN_CHUNKS_MAX) this.#join(entry, key, [block], isEnough, seconds);
    else this.#put(entry, block, false, { since: seconds, kept: seconds });
  }

  /** Puts what stays of a chunk in its place; `thinned` where other columns are empty in it now. */
  rewrite(id: number, after: readonly Block[], thinned?: string): void {
    const known = this.#meta.get(id);
    if (!known) return;
    const meta = thinned === undefined ? known : { ...known, thinned };
    this.drop(id);
    let next: number | undefined = id;
    for (const block of after) {
      if (block.sequences.length === 0) continue;
      this.#put(this.#series.byId(meta.series), block, meta.sealed === 1, meta, next);
      next = undefined;
    }
    if (meta.sealed === 0) this.#countOpen();
  }

  drop(id: number): void {
    const meta = this.#meta.get(id);
    if (!meta) return;
    this.#drop.run(id);
    const entry = this.#series.byId(meta.series);
    entry.rows -= meta.rows;
    entry.readings -= meta.readings;
    if (meta.sealed === 0) this.#countOpen();
  }

  /** Makes one chunk (or few) of a series' open ones and what came after them. */
  #join(entry: SeriesEntry, key: string, blocks: readonly Block[], sealed: boolean, seconds: number): void {
    const [publisher, epoch] = key.split(" ").map(Number);
    const age = { since: entry.open.get(key)?.since ?? seconds, kept: seconds };
    const rows = this.#open.all(this.#series.numberOf(entry), publisher, epoch);
    const old = rows.flatMap((row) => {
      const opened = this.#keys.open(row.device_key, row.blocks);
      return opened ? decodeBlocks(opened) : [];
    });
    for (const row of rows) this.#drop.run(row.id);
    for (const block of old) {
      entry.rows -= block.sequences.length;
      entry.readings -= readingsOf(block);
    }
    entry.open.delete(key);
    const inOrder = [...old, ...blocks].sort((a, b) => a.sequences[0] - b.sequences[0]);
    for (const block of mergeBlocks(inOrder)) {
      const count = block.sequences.length;
      const pieces = sealed ? Math.max(1, Math.floor(count / chunkRows(entry))) : 1;
      const each = Math.ceil(count / pieces);
      for (let from = 0; from < count; from += each)
        this.#put(entry, pieces === 1 ? block : sliceBlock(block, from, from + each), sealed, age);
    }
  }

  #put(entry: SeriesEntry, block: Block, sealed: boolean, age: Age, id?: number): void {
    const bytes = encodeIfItFits(block);
    if (!bytes) {
      const middle = block.sequences.length >> 1;
      this.#put(entry, sliceBlock(block, 0, middle), sealed, age, id);
      this.#put(entry, sliceBlock(block, middle, block.sequences.length), sealed, age);
      return;
    }
    const { sequences, publisher, origins } = block;
    const { min, max } = spanOf(origins);
    const readings = readingsOf(block);
    const number = this.#series.publisherNumber(publisher.name);
    const [first, last] = [sequences[0], sequences.at(-1)!];
    const where = [this.#series.numberOf(entry), number, publisher.epoch, first, last];
    const counts = [sequences.length, readings, sealed ? 1 : 0, age.since, age.kept, age.thinned ?? ""];
    const { id: deviceKey, sealed: hidden } = this.#keys.seal(entry.series.deviceName, bytes);
    this.#insert.run(id ?? this.#nextId++, ...where, min, max, ...counts, deviceKey, hidden);
    entry.rows += sequences.length;
    entry.readings += readings;
    if (sealed) return;
    const key = `${number} ${publisher.epoch}`;
    const open = entry.open.get(key) ?? { rows: 0, bytes: 0, chunks: 0, since: age.since };
    open.rows += sequences.length;
    open.bytes += bytes.length;
    open.chunks++;
    entry.open.set(key, open);
  }

  #countOpen(): void {
    for (const entry of this.#series.like({})) entry.open.clear();
    for (const { series, publisher, epoch, ...open } of this.#openTotals.all())
      this.#series.byId(series).open.set(`${publisher} ${epoch}`, open);
  }
}

/** A block's bytes; undefined where it must be cut in two first. */
function encodeIfItFits(block: Block): Uint8Array | undefined {
  try {
    return encodeBlocks([block]);
  } catch (error) {
    if (error instanceof Failure && error.code === EVENTS_TOO_LARGE.code && block.sequences.length > 1)
      return undefined;
    throw error;
  }
}
