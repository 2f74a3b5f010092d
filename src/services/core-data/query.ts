/** Questions to the kept events: newest first, counted exactly. */
import type { Event, Reading } from "../../kernel/edgex.ts";
import { fail } from "../../kernel/error.ts";
import { readingOf, rowToEvent } from "../../kernel/events/edgex.ts";
import { parseId } from "../../kernel/events/ids.ts";
import type { Block } from "../../kernel/events/model.ts";
import { newest, type Piece } from "../../kernel/events/newest.ts";
import type { ChunkIndex } from "./chunk-index.ts";
import { DATA_RANGE, DATA_TIME_INVALID } from "./codes.ts";
import { columnsOf, countIn, endOf, itemsIn, type Selection, startOf, type Unit } from "./selection.ts";
import type { SeriesEntry } from "./series.ts";
import type { EventStore } from "./store.ts";

/** An offset beyond this is not walked to: the index tells where it is about. */
const WALKED_MAX = 8_192;

/** Where an event is; `chunk` where it is written. */
export interface Place {
  readonly chunk: number | undefined;
  readonly block: Block;
  readonly row: number;
}

interface Page {
  readonly offset: number;
  readonly limit: number;
}

export class EventQuery {
  readonly #store: EventStore;
  readonly #chunks: ChunkIndex;

  constructor(store: EventStore, chunks: ChunkIndex) {
    this.#store = store;
    this.#chunks = chunks;
  }

  /** Events, newest first, and how many there are. DATA_RANGE past the end, DATA_TIME_INVALID. */
  events(selection: Selection, page: Page): { totalCount: number; events: Event[] } {
    return this.#store.noticing(() => this.#events(selection, page));
  }

  /** Readings, newest first by their event's origin, and how many there are. DATA_RANGE past the end, DATA_TIME_INVALID. */
  readings(selection: Selection, page: Page): { totalCount: number; readings: Reading[] } {
    return this.#store.noticing(() => this.#readings(selection, page));
  }

  /** Counts exactly. */
  count(selection: Selection, unit: Unit): number {
    return this.#store.noticing(() => this.#count(selection, unit));
  }

  /** Finds an event by its id, or (`orReading`) by that of one of its readings where our own services made it. */
  find(id: string, orReading: boolean): Place | undefined {
    return this.#store.noticing(() => this.#find(id, orReading));
  }

  eventAt({ block, row }: Place): Event {
    return rowToEvent(block, row, this.#store.series.tagOf(block.publisher));
  }

  #events(selection: Selection, { offset, limit }: Page): { totalCount: number; events: Event[] } {
    const totalCount = this.#countWithin(selection, "events", offset);
    const events: Event[] = [];
    if (limit > 0 && offset < totalCount) {
      for (const { block, row } of this.#from(selection, "events", offset)) {
        events.push(rowToEvent(block, row, this.#store.series.tagOf(block.publisher)));
        if (events.length === limit) break;
      }
    }
    return { totalCount, events };
  }

  #readings(selection: Selection, { offset, limit }: Page): { totalCount: number; readings: Reading[] } {
    const totalCount = this.#countWithin(selection, "readings", offset);
    const readings: Reading[] = [];
    if (limit <= 0 || offset >= totalCount) return { totalCount, readings };
    for (const { block, row, passed } of this.#from(selection, "readings", offset)) {
      let skip = passed;
      const tag = this.#store.series.tagOf(block.publisher);
      for (const column of columnsOf(selection, block)) {
        if (block.columns[column][row] === undefined || skip-- > 0) continue;
        readings.push(readingOf(block, row, column, tag));
        if (readings.length === limit) return { totalCount, readings };
      }
    }
    return { totalCount, readings };
  }

  #count(selection: Selection, unit: Unit): number {
    const entries = this.#entries(selection);
    let total = this.#chunks.count(entries, selection, unit);
    for (const { block } of this.#store.tail.blocks(entries)) total += countIn(selection, unit, block);
    return total;
  }

  #find(id: string, orReading: boolean): Place | undefined {
    const known = this.#store.foreignIds.find(id);
    if (known) return this.#at(known.publisher, known.epoch, known.sequence);
    const derived = parseId(id);
    const publisher = derived && this.#store.series.publisherWith(derived.tag);
    if (!publisher || (derived.index > 0 && !orReading)) return undefined;
    const place = this.#at(publisher.name, derived.epoch, derived.sequence);
    if (!place) return undefined;
    const ids = place.block.extras.get(place.row)?.ids;
    // An id that a stranger chose is the event's only one.
    if (ids?.[derived.index] !== undefined) return undefined;
    return derived.index === 0 || place.block.columns[derived.index - 1]?.[place.row] !== undefined ? place : undefined;
  }

  #at(publisher: string, epoch: number, sequence: number): Place | undefined {
    const unwritten = this.#store.tail.find(publisher, epoch, sequence);
    if (unwritten) return { chunk: undefined, ...unwritten };
    const number = this.#store.series.writtenPublisher(publisher);
    return number === undefined ? undefined : this.#chunks.find(number, epoch, sequence);
  }

  /** The series a selection touches; undefined for all. */
  #entries({ device, resources }: Selection): SeriesEntry[] | undefined {
    if (device === undefined && !resources) return undefined;
    return this.#store.series.like({
      ...(device === undefined ? {} : { device }),
      ...(resources ? { resources } : {}),
    });
  }

  #countWithin(selection: Selection, unit: Unit, offset: number): number {
    const { start, end } = selection;
    if (start !== undefined && end !== undefined && start > end)
      throw fail(DATA_TIME_INVALID, `start ${start} is after end ${end}`);
    const total = this.#count(selection, unit);
    // EdgeX, count.go: where there is nothing, every offset is answered with an empty list.
    if (offset > total && total > 0) throw fail(DATA_RANGE, `offset ${offset} is past the ${total} there are`);
    return total;
  }

  /** Walks rows from an offset on. */
  *#from(selection: Selection, unit: Unit, offset: number): Generator<{ block: Block; row: number; passed: number }> {
    const entries = this.#entries(selection);
    const { rest, skip } = this.#skipAhead(entries, selection, unit, offset);
    const columns = new Map<Block, number[]>();
    const columnsFor = (block: Block) => {
      const known = columns.get(block) ?? columnsOf(selection, block);
      columns.set(block, known);
      return known;
    };
    const itemsOf = (block: Block, row: number) => itemsIn(rest, unit, block, row, columnsFor(block));
    yield* newest(this.#pieces(entries, rest, unit), { skip, itemsOf });
  }

  /** Leaves out, by the index, nearly all that is to be passed over: opening it all would take seconds. */
  #skipAhead(entries: readonly SeriesEntry[] | undefined, selection: Selection, unit: Unit, offset: number) {
    const unwritten = [...this.#store.tail.blocks(entries)].reduce(
      (sum, { block, readings }) => sum + block.sequences.length + readings,
      0,
    );
    if (offset - unwritten < WALKED_MAX) return { rest: selection, skip: offset };
    const origin = this.#chunks.originBeyond(entries, selection, unit, offset - unwritten);
    if (origin === undefined || origin <= startOf(selection) || origin > endOf(selection))
      return { rest: selection, skip: offset };
    const newer = this.#count({ ...selection, start: origin }, unit);
    return { rest: { ...selection, end: origin - 1n }, skip: offset - newer };
  }

  /** Written and unwritten pieces, by their newest origin, newest first. */
  *#pieces(entries: readonly SeriesEntry[] | undefined, selection: Selection, unit: Unit): Generator<Piece> {
    const [start, end] = [startOf(selection), endOf(selection)];
    const unwritten = [...this.#store.tail.blocks(entries)]
      .filter(({ minOrigin, maxOrigin }) => maxOrigin >= start && minOrigin <= end)
      .map(({ block, minOrigin, maxOrigin }): Piece => ({
        minOrigin,
        maxOrigin,
        count: undefined,
        open: () => [block],
      }))
      .sort((a, b) => (a.maxOrigin > b.maxOrigin ? -1 : a.maxOrigin < b.maxOrigin ? 1 : 0));
    let at = 0;
    for (const piece of this.#chunks.pieces(entries, selection, unit)) {
      while (at < unwritten.length && unwritten[at].maxOrigin >= piece.maxOrigin) yield unwritten[at++];
      yield piece;
    }
    yield* unwritten.slice(at);
  }
}
