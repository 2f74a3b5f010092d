/** Finds and counts written chunks by their index, opening as few as it can. */
import type { Block } from "../../kernel/events/model.ts";
import type { Piece } from "../../kernel/events/newest.ts";
import { rowOf } from "../../kernel/events/rows.ts";
import { countIn, endOf, isWanted, LATEST, type Selection, startOf, type Unit } from "./selection.ts";
import type { SeriesEntry } from "./series.ts";
import type { EventStore } from "./store.ts";

/** Chunks whose index is read at once. */
const PAGE_ROWS = 64;
/** Opened chunks that are kept for the next question (people follow the newest values). */
const OPENED_MAX = 32;
/** Up to so many series are walked each for itself and merged; of more, the index of all is walked and the others left out. */
const APART_MAX = 32;

interface ChunkRow {
  readonly id: bigint;
  readonly series: bigint;
  readonly rows: bigint;
  readonly readings: bigint;
  readonly minOrigin: bigint;
  readonly maxOrigin: bigint;
}

const COLUMNS = "id, series, rows, readings, min_origin AS minOrigin, max_origin AS maxOrigin";

export class ChunkIndex {
  readonly #store: EventStore;
  readonly #opened = new Map<string, Block[]>();
  #openings = 1;

  constructor(store: EventStore) {
    this.#store = store;
  }

  /** The written chunks of some series (undefined: of all) that a selection touches, by their newest origin, newest first. */
  *pieces(entries: readonly SeriesEntry[] | undefined, selection: Selection, unit: Unit): Generator<Piece> {
    const ids = entries?.flatMap((entry) => (entry.id === undefined || entry.rows === 0 ? [] : [entry.id]));
    if (!ids || ids.length > APART_MAX) {
      const wanted = ids && new Set(ids);
      for (const row of this.#walk(undefined, selection))
        if (!wanted || wanted.has(Number(row.series))) yield this.#piece(row, selection, unit);
      return;
    }
    const walks = ids.map((id) => this.#walk(id, selection));
    const heads = walks.map((walk) => walk.next());
    for (;;) {
      let best = -1;
      heads.forEach((head, i) => {
        if (!head.done && (best < 0 || head.value.maxOrigin > (heads[best].value as ChunkRow).maxOrigin)) best = i;
      });
      if (best < 0) return;
      yield this.#piece(heads[best].value as ChunkRow, selection, unit);
      heads[best] = walks[best].next();
    }
  }

  /** Counts in written chunks, exactly: those whole within the times from the index, the others opened. */
  count(entries: readonly SeriesEntry[] | undefined, selection: Selection, unit: Unit): number {
    let total = 0;
    if (!entries && selection.start === undefined && selection.end === undefined) {
      for (const { rows, readings } of this.#store.series.like({})) total += unit === "events" ? rows : readings;
      return total;
    }
    for (const entry of entries ?? this.#store.series.like({})) total += this.#countOf(entry, selection, unit);
    return total;
  }

  /**
   * Tells an origin for which at most `items` items of the selection are in chunks that reach it or beyond, and nearly so many;
   * undefined where all together are no more.
   */
  originBeyond(
    entries: readonly SeriesEntry[] | undefined,
    selection: Selection,
    unit: Unit,
    items: number,
  ): bigint | undefined {
    const ids = entries?.flatMap((entry) => (entry.id === undefined ? [] : [entry.id]));
    const most = entries ? Math.max(1, ...entries.map((entry) => wantedOf(entry, selection))) : 1;
    const of = unit === "events" ? "rows" : selection.resources ? "rows * ?" : "readings";
    const sql = `SELECT max_origin AS origin FROM (
        SELECT max_origin, sum(${of}) OVER (ORDER BY max_origin DESC, id DESC ROWS UNBOUNDED PRECEDING) AS upto FROM chunk
        WHERE max_origin >= ? AND min_origin <= ? ${ids ? "AND series IN (SELECT value FROM json_each(?))" : ""})
      WHERE upto > ? LIMIT 1`;
    const parameters = [startOf(selection), endOf(selection), ...(ids ? [JSON.stringify(ids)] : []), items];
    if (of === "rows * ?") parameters.unshift(most);
    const found = this.#store.prepared<{ origin: bigint }>(sql, true).get(...parameters);
    return found && found.origin < LATEST ? found.origin + 1n : undefined;
  }

  /** Finds an event in the written chunks. */
  find(publisher: number, epoch: number, sequence: number): { chunk: number; block: Block; row: number } | undefined {
    const rows = this.#store
      .prepared<{ id: number }>(
        "SELECT id FROM chunk WHERE publisher = ? AND epoch = ? AND last_sequence >= ? AND first_sequence <= ? ORDER BY last_sequence",
      )
      .all(publisher, epoch, sequence, sequence);
    for (const { id } of rows) {
      // Many series may span the sequence, and one has it: the numbers alone are read first.
      if (
        !this.#opened.has(String(id)) &&
        !this.#store.blocksOf(id, () => false).some((block) => rowOf(block, sequence) >= 0)
      )
        continue;
      for (const block of this.open(id, {})) {
        const row = rowOf(block, sequence);
        if (row >= 0) return { chunk: id, block, row };
      }
    }
    return undefined;
  }

  /** Opens a chunk, or what the selection wants of it; kept for a while. */
  open(id: number, { resources }: Selection): Block[] {
    if (this.#openings !== this.#store.openings) this.forget();
    const whole = this.#opened.get(String(id));
    if (whole) return whole;
    const key = resources ? `${id} ${resources.join("\u0000")}` : String(id);
    const known = this.#opened.get(key);
    if (known) return known;
    const blocks = this.#store.blocksOf(id, resources && (({ name }) => resources.includes(name)));
    this.#opened.set(key, blocks);
    if (this.#opened.size > OPENED_MAX) this.#opened.delete(this.#opened.keys().next().value!);
    return blocks;
  }

  /** Forgets opened chunks: one was rewritten. */
  forget(): void {
    this.#opened.clear();
    this.#openings = this.#store.openings;
  }

  #piece(row: ChunkRow, selection: Selection, unit: Unit): Piece {
    const whole = row.minOrigin >= startOf(selection) && row.maxOrigin <= endOf(selection);
    const count = whole ? countFrom(this.#store.series.byId(Number(row.series)), row, selection, unit) : undefined;
    return {
      minOrigin: row.minOrigin,
      maxOrigin: row.maxOrigin,
      count,
      open: () => this.open(Number(row.id), selection),
    };
  }

  *#walk(series: number | undefined, selection: Selection): Generator<ChunkRow> {
    const page = this.#store.prepared<ChunkRow>(
      `SELECT ${COLUMNS} FROM chunk WHERE ${series === undefined ? "" : "series = ? AND"} max_origin >= ? AND min_origin <= ?
        AND (max_origin, id) < (?, ?) ORDER BY max_origin DESC, id DESC LIMIT ${PAGE_ROWS}`,
      true,
    );
    const fixed = [...(series === undefined ? [] : [series]), startOf(selection), endOf(selection)];
    let after: [bigint, bigint] = [LATEST, LATEST];
    for (;;) {
      const rows = page.all(...fixed, ...after);
      yield* rows;
      const last = rows.at(-1);
      if (rows.length < PAGE_ROWS || !last) return;
      after = [last.maxOrigin, last.id];
    }
  }

  #countOf(entry: SeriesEntry, selection: Selection, unit: Unit): number {
    if (entry.id === undefined || entry.rows === 0) return 0;
    if (selection.start === undefined && selection.end === undefined) {
      const count = countFrom(entry, entry, selection, unit);
      if (count !== undefined) return count;
    }
    const columns = entry.series.resources.length;
    const [start, end] = [startOf(selection), endOf(selection)];
    // Of one resource among several the index tells only where no reading is absent.
    const isPartly = unit === "readings" && wantedOf(entry, selection) < columns;
    const plain = isPartly ? `AND readings = rows * ${columns}` : "";
    const whole = this.#store
      .prepared<{ rows: number; readings: number }>(
        `SELECT coalesce(sum(rows), 0) AS rows, coalesce(sum(readings), 0) AS readings FROM chunk
          WHERE series = ? AND min_origin >= ? AND max_origin <= ? ${plain}`,
      )
      .get(entry.id, start, end)!;
    let total = countFrom(entry, whole, selection, unit) ?? 0;
    const others = this.#store.prepared<{ id: number; full: number }>(
      `SELECT id, readings = rows * ${columns} AS full FROM chunk WHERE series = ? AND max_origin >= ? AND min_origin <= ?
        AND (min_origin < ? OR max_origin > ? ${isPartly ? `OR readings <> rows * ${columns}` : ""})`,
    );
    for (const { id, full } of others.all(entry.id, start, end, start, end)) {
      if (!full) for (const block of this.open(id, selection)) total += countIn(selection, unit, block);
      else {
        // No reading is absent: the times alone are read.
        const each = unit === "events" ? 1 : wantedOf(entry, selection);
        const blocks = this.#store.blocksOf(id, () => false);
        for (const block of blocks) total += countIn(selection, "events", block) * each;
      }
    }
    return total;
  }
}

const wantedOf = ({ series }: SeriesEntry, selection: Selection): number =>
  series.resources.filter(({ name }) => isWanted(selection, name)).length;

/** What sums alone tell; undefined where readings are absent and only some are wanted. */
function countFrom(
  entry: SeriesEntry,
  sums: { readonly rows: number | bigint; readonly readings: number | bigint },
  selection: Selection,
  unit: Unit,
): number | undefined {
  const [rows, readings] = [Number(sums.rows), Number(sums.readings)];
  if (unit === "events") return rows;
  const columns = entry.series.resources.length;
  const wanted = wantedOf(entry, selection);
  if (wanted === columns) return readings;
  return readings === rows * columns ? rows * wanted : undefined;
}
