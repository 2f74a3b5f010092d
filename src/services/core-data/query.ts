/** Questions to the kept events: newest first, counted exactly, opening only the chunks that the answer needs. */
import type { Event, Reading } from "../../kernel/edgex.ts";
import { fail } from "../../kernel/error.ts";
import { readingOf, rowToEvent } from "../../kernel/events/edgex.ts";
import { parseId } from "../../kernel/events/ids.ts";
import type { Block } from "../../kernel/events/model.ts";
import { newest, type Piece } from "../../kernel/events/newest.ts";
import { DATA_RANGE, DATA_TIME_INVALID } from "./codes.ts";
import { idKey } from "./idkey.ts";
import type { ChunkRow, EventStore } from "./store.ts";

export interface Selection {
  readonly device?: string;
  readonly resource?: string;
  /** Both included, nanoseconds. */
  readonly start?: bigint;
  readonly end?: bigint;
}

/** Chunks whose index is read at once. */
const PAGE_ROWS = 256;
/** Opened chunks that are kept for the next question (people follow the newest values). */
const OPENED_MAX = 16;

interface Place {
  readonly chunk: number;
  readonly block: Block;
  readonly row: number;
}

export class EventQuery {
  readonly #store: EventStore;
  readonly #opened = new Map<number, Block[]>();

  constructor(store: EventStore) {
    this.#store = store;
  }

  /** Events, newest first, and how many there are. DATA_RANGE past the end. */
  events(selection: Selection, offset: number, limit: number): { totalCount: number; events: Event[] } {
    const total = this.count(selection, "rows");
    this.#inRange(offset, total);
    const events: Event[] = [];
    if (limit > 0 && offset < total) {
      for (const { block, row } of newest(this.#pieces(selection, "rows"), {
        skip: offset,
        itemsOf: (b, r) => (within(selection, b, r) ? 1 : 0),
      })) {
        events.push(rowToEvent(block, row, this.#store.tagOf(block.publisher)));
        if (events.length === limit) break;
      }
    }
    return { totalCount: total, events };
  }

  /** Readings, newest first by their event's origin, and how many there are. DATA_RANGE past the end. */
  readings(selection: Selection, offset: number, limit: number): { totalCount: number; readings: Reading[] } {
    const total = this.count(selection, "readings");
    this.#inRange(offset, total);
    const readings: Reading[] = [];
    if (limit <= 0 || offset >= total) return { totalCount: total, readings };
    const itemsOf = (block: Block, row: number) =>
      within(selection, block, row) ? readingsIn(block, row, selection.resource) : 0;
    for (const { block, row, passed } of newest(this.#pieces(selection, "readings"), { skip: offset, itemsOf })) {
      let skip = passed;
      const tag = this.#store.tagOf(block.publisher);
      for (const column of columnsOf(block, selection.resource)) {
        if (block.columns[column][row] === undefined || skip-- > 0) continue;
        readings.push(readingOf(block, row, column, tag));
        if (readings.length === limit) return { totalCount: total, readings };
      }
    }
    return { totalCount: total, readings };
  }

  /** Counts exactly: whole chunks from the index, those cut by the times (or with one resource of several) by opening them. */
  count(selection: Selection, unit: "rows" | "readings"): number {
    let total = 0;
    for (const piece of this.#pieces(selection, unit)) {
      if (piece.count !== undefined) total += piece.count;
      else {
        for (const block of piece.open()) {
          for (let row = 0; row < block.sequences.length; row++) {
            if (within(selection, block, row))
              total += unit === "rows" ? 1 : readingsIn(block, row, selection.resource);
          }
        }
      }
    }
    return total;
  }

  /** Finds an event by its id, or by that of one of its readings where our own services made it. */
  find(id: string): Place | undefined {
    const derived = parseId(id);
    const publisher = derived && this.#store.publisherWith(derived.tag);
    if (derived && publisher !== undefined) {
      const place = this.#at(publisher, derived.epoch, derived.sequence);
      if (place) return place;
    }
    const known = this.#store.db
      .prepare<{ publisher: number; epoch: number; sequence: number }>(
        "SELECT publisher, epoch, sequence FROM foreign_id WHERE id = ?",
      )
      .get(idKey(id));
    return known && this.#at(known.publisher, known.epoch, known.sequence);
  }

  eventAt(place: Place): Event {
    return rowToEvent(place.block, place.row, this.#store.tagOf(place.block.publisher));
  }

  /** Forgets opened chunks that were rewritten or dropped. */
  forget(): void {
    this.#opened.clear();
  }

  #at(publisher: number, epoch: number, sequence: number): Place | undefined {
    const rows = this.#store.db
      .prepare<{ id: number }>(
        "SELECT id FROM chunk WHERE publisher = ? AND epoch = ? AND last_sequence >= ? AND first_sequence <= ?",
      )
      .all(publisher, epoch, sequence, sequence);
    for (const { id } of rows) {
      for (const block of this.#open(id)) {
        const row = block.sequences.indexOf(sequence);
        if (row >= 0) return { chunk: id, block, row };
      }
    }
    return undefined;
  }

  #inRange(offset: number, total: number): void {
    if (offset > total) throw fail(DATA_RANGE, `offset ${offset} is past the ${total} there are`);
  }

  #open(id: number): Block[] {
    const known = this.#opened.get(id);
    if (known) return known;
    const blocks = this.#store.blocksOf(id);
    this.#opened.set(id, blocks);
    if (this.#opened.size > OPENED_MAX) this.#opened.delete(this.#opened.keys().next().value!);
    return blocks;
  }

  /** The chunks a selection touches, newest first, read from the index page by page. */
  *#pieces(selection: Selection, unit: "rows" | "readings"): Generator<Piece> {
    const { start, end, device, resource } = selection;
    if (start !== undefined && end !== undefined && start > end)
      throw fail(DATA_TIME_INVALID, `start ${start} is after end ${end}`);
    const narrowed = device !== undefined || resource !== undefined;
    const series = narrowed ? this.#store.seriesLike(selection) : [];
    if (narrowed && series.length === 0) return;
    const where = [
      ...(narrowed ? [`series IN (${series.join(",")})`] : []),
      ...(start === undefined ? [] : ["max_origin >= ?"]),
      ...(end === undefined ? [] : ["min_origin <= ?"]),
      "(max_origin, id) < (?, ?)",
    ];
    const sql = `SELECT id, series, rows, readings, min_origin AS minOrigin, max_origin AS maxOrigin FROM chunk
      WHERE ${where.join(" AND ")} ORDER BY max_origin DESC, id DESC LIMIT ${PAGE_ROWS}`;
    const page = this.#store.db.prepare<{ [K in keyof ChunkRow]: bigint }>(sql, { bigint: true });
    let after: [bigint, bigint] = [2n ** 63n - 1n, 2n ** 63n - 1n];
    for (;;) {
      const rows = page.all(...(start === undefined ? [] : [start]), ...(end === undefined ? [] : [end]), ...after);
      for (const row of rows) {
        const whole = (start === undefined || row.minOrigin >= start) && (end === undefined || row.maxOrigin <= end);
        yield {
          minOrigin: row.minOrigin,
          maxOrigin: row.maxOrigin,
          count: whole ? this.#countOf(row, unit, resource) : undefined,
          open: () => this.#open(Number(row.id)),
        };
      }
      if (rows.length < PAGE_ROWS) return;
      after = [rows.at(-1)!.maxOrigin, rows.at(-1)!.id];
    }
  }

  /** What the index alone tells: of one resource among several only when no reading is absent. */
  #countOf(
    row: { [K in keyof ChunkRow]: bigint },
    unit: "rows" | "readings",
    resource: string | undefined,
  ): number | undefined {
    if (unit === "rows") return Number(row.rows);
    const { resources } = this.#store.seriesOf(Number(row.series));
    if (resource === undefined) return Number(row.readings);
    return row.readings === row.rows * BigInt(resources.length)
      ? Number(row.rows) * resources.filter((r) => r.name === resource).length
      : undefined;
  }
}

const within = ({ start, end }: Selection, block: Block, row: number): boolean => {
  const origin = block.origins[row];
  return (start === undefined || origin >= start) && (end === undefined || origin <= end);
};

const all = new WeakMap<Block, number[]>();

function columnsOf(block: Block, resource: string | undefined): readonly number[] {
  if (resource !== undefined)
    return block.series.resources.flatMap((r, column) => (r.name === resource ? [column] : []));
  let columns = all.get(block);
  if (!columns) all.set(block, (columns = block.columns.map((_, column) => column)));
  return columns;
}

function readingsIn(block: Block, row: number, resource: string | undefined): number {
  let count = 0;
  for (const column of columnsOf(block, resource)) if (block.columns[column][row] !== undefined) count++;
  return count;
}
