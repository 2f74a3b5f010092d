/** Blocks in memory: built of events as they come, cut, joined, and walked in the order in which they were made. */
import { COLUMNS_MAX, seriesKey } from "./heads.ts";
import type { Block, Extra, Publisher, Series, Value } from "./model.ts";

/** Rows after which a builder is full, unless it is told otherwise. */
export const BUILDER_ROWS_MAX = 8192;
/** Estimated bytes after which a builder is full, unless it is told otherwise: well below what one message may hold. */
export const BUILDER_BYTES_MAX = 1024 * 1024;
/** What a series, a row and a number take at most, about: names come on top. */
const SERIES_BYTES = 24;
const ROW_BYTES = 9;
const NUMBER_BYTES = 8;
const UUID_BYTES = 17;
const DEPTH_MAX = 64;

/** Collects events of one publisher into blocks, one per series. */
export class BlockBuilder {
  readonly publisher: Publisher;
  readonly #rowsMax: number;
  readonly #bytesMax: number;
  readonly #bySeries = new Map<Series, Block>();
  readonly #byContent = new Map<string, Block>();
  #rows = 0;
  #bytes = 0;

  constructor(options: { publisher: Publisher; rowsMax?: number; bytesMax?: number }) {
    this.publisher = options.publisher;
    this.#rowsMax = options.rowsMax ?? BUILDER_ROWS_MAX;
    this.#bytesMax = options.bytesMax ?? BUILDER_BYTES_MAX;
  }

  get rows(): number {
    return this.#rows;
  }

  /** Bytes that the blocks take encoded, guessed from above for all but odd values. */
  get bytesEstimate(): number {
    return this.#bytes;
  }

  /** Tells whether it is time to encode and `clear`; adding goes on working. */
  get full(): boolean {
    return this.#rows >= this.#rowsMax || this.#bytes >= this.#bytesMax;
  }

  /** Adds an event: `values[k]` is that of `series.resources[k]`. Its sequence is beyond those before it in its series. Tells whether there is room for more. */
  add(series: Series, sequence: number, origin: bigint, values: readonly Value[], extra?: Extra): boolean {
    const block = this.#bySeries.get(series) ?? this.#blockOf(series);
    const { sequences, columns } = block;
    if (values.length !== columns.length)
      throw new RangeError(
        `an event of '${series.sourceName}' has ${values.length} values for ${columns.length} resources`,
      );
    if (sequences.length > 0 && sequence <= sequences[sequences.length - 1]) {
      throw new RangeError(
        `sequence ${sequence} of '${series.deviceName}' is not after ${sequences[sequences.length - 1]}`,
      );
    }
    if (extra) {
      block.extras.set(sequences.length, extra);
      this.#bytes += extraSize(extra);
    }
    sequences.push(sequence);
    block.origins.push(origin);
    this.#bytes += ROW_BYTES;
    for (let k = 0; k < values.length; k++) {
      const value = values[k];
      columns[k].push(value);
      this.#bytes += typeof value === "number" ? NUMBER_BYTES : valueBytes(value);
    }
    this.#rows++;
    return !this.full;
  }

  #blockOf(series: Series): Block {
    if (series.resources.length > COLUMNS_MAX)
      throw new RangeError(`source '${series.sourceName}' has more than ${COLUMNS_MAX} resources`);
    const key = seriesKey(series);
    let block = this.#byContent.get(key);
    if (!block) {
      block = {
        publisher: this.publisher,
        series,
        sequences: [],
        origins: [],
        columns: series.resources.map(() => []),
        extras: new Map(),
      };
      this.#byContent.set(key, block);
      this.#bytes += SERIES_BYTES + key.length;
      // Only the first object of a content is remembered: a stranger's events bring a new one each.
      this.#bySeries.set(series, block);
    }
    return block;
  }

  /** The blocks so far, in order of their first event. They are the builder's own until `clear`. */
  blocks(): Block[] {
    return [...this.#byContent.values()];
  }

  /** Starts anew; blocks that were taken before stay as they are. */
  clear(): void {
    this.#bySeries.clear();
    this.#byContent.clear();
    this.#rows = 0;
    this.#bytes = 0;
  }
}

/** Guesses the bytes of a value, from above for text, which may be more than one byte a character. */
export function valueBytes(value: unknown, depth = 0): number {
  if (typeof value === "string") return value.length * 3 + 2;
  if (typeof value !== "object" || value === null) return NUMBER_BYTES + 1;
  if (value instanceof Uint8Array) return value.length + 4;
  let size = 2;
  if (depth > DEPTH_MAX) return size;
  if (Array.isArray(value)) for (const item of value) size += valueBytes(item, depth + 1) + 10;
  else
    for (const name of Object.keys(value))
      size += name.length * 3 + 4 + valueBytes((value as Record<string, unknown>)[name], depth + 1) + 10;
  return size;
}

function extraSize(extra: Extra): number {
  let size = 8 + (extra.requestId === undefined ? 0 : Math.max(UUID_BYTES, extra.requestId.length * 3));
  for (const id of extra.ids ?? [])
    size += id === undefined ? 1 : Math.max(UUID_BYTES, id.length === 36 ? 0 : id.length * 3);
  size += (extra.origins?.length ?? 0) * (NUMBER_BYTES + 1);
  return size + valueBytes(extra.tags) + valueBytes(extra.readingTags);
}

/** Cuts the rows from `from` to before `to` out of a block, as a copy. */
export function sliceBlock(block: Block, from: number, to: number): Block {
  const extras = new Map<number, Extra>();
  for (const [row, extra] of block.extras) if (row >= from && row < to) extras.set(row - from, extra);
  return {
    publisher: block.publisher,
    series: block.series,
    sequences: block.sequences.slice(from, to),
    origins: block.origins.slice(from, to),
    columns: block.columns.map((column) => column.slice(from, to)),
    extras,
  };
}

/**
 * Joins blocks of the same publisher, epoch and series, each to the one before it if its sequences are beyond; the others
 * stay as they are. Order is kept: of the blocks, by their first part, and of the rows.
 */
export function mergeBlocks(blocks: readonly Block[]): Block[] {
  const latest = new Map<string, Block>();
  const keys = new Map<Series, string>();
  const owned = new Set<Block>();
  const merged: Block[] = [];
  for (const block of blocks) {
    let seriesText = keys.get(block.series);
    if (seriesText === undefined) keys.set(block.series, (seriesText = seriesKey(block.series)));
    const key = `${block.publisher.epoch} ${block.publisher.name.length} ${block.publisher.name}${seriesText}`;
    const known = latest.get(key);
    if (!known || known.sequences[known.sequences.length - 1] >= block.sequences[0]) {
      latest.set(key, block);
      merged.push(block);
      continue;
    }
    // A block that nothing is joined to is handed on as it is; the first join makes the copy that the next ones fill.
    let target = known;
    if (!owned.has(known)) {
      target = sliceBlock(known, 0, known.sequences.length);
      owned.add(target);
      latest.set(key, target);
      merged[merged.indexOf(known)] = target;
    }
    append(target, block);
  }
  return merged;
}

function append(target: Block, block: Block): void {
  const offset = target.sequences.length;
  for (const [row, extra] of block.extras) target.extras.set(offset + row, extra);
  pushAll(target.sequences, block.sequences);
  pushAll(target.origins, block.origins);
  block.columns.forEach((column, k) => pushAll(target.columns[k], column));
}

function pushAll<T>(to: T[], from: readonly T[]): void {
  for (const item of from) to.push(item);
}

/** One event of a block. */
export interface Row {
  readonly block: Block;
  readonly row: number;
}

/** Walks all rows in the order of publisher (by name, then epoch) and sequence, whatever the order of the blocks. */
export function* rowsInOrder(blocks: readonly Block[]): Generator<Row> {
  const groups = new Map<string, Block[]>();
  for (const block of blocks) {
    const key = `${block.publisher.epoch} ${block.publisher.name}`;
    const group = groups.get(key);
    if (group) group.push(block);
    else groups.set(key, [block]);
  }
  const ordered = [...groups.values()].sort(([a], [b]) => comparePublishers(a.publisher, b.publisher));
  for (const group of ordered) yield* mergeRows(group);
}

function comparePublishers(a: Publisher, b: Publisher): number {
  return a.name === b.name ? a.epoch - b.epoch : a.name < b.name ? -1 : 1;
}

interface Cursor {
  readonly block: Block;
  row: number;
  sequence: number;
}

/** Merges blocks, each in order: a heap of cursors, that of the least sequence on top. */
function* mergeRows(blocks: readonly Block[]): Generator<Row> {
  const heap: Cursor[] = blocks.map((block) => ({ block, row: 0, sequence: block.sequences[0] }));
  for (let i = (heap.length >> 1) - 1; i >= 0; i--) sink(heap, i);
  while (heap.length > 0) {
    const top = heap[0];
    const { block, row } = top;
    yield { block, row };
    top.row = row + 1;
    if (top.row < block.sequences.length) top.sequence = block.sequences[top.row];
    else {
      const last = heap.pop() as Cursor;
      if (heap.length === 0) return;
      heap[0] = last;
    }
    sink(heap, 0);
  }
}

function sink(heap: Cursor[], from: number): void {
  const cursor = heap[from];
  let at = from;
  for (;;) {
    let child = at * 2 + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1].sequence < heap[child].sequence) child++;
    if (heap[child].sequence >= cursor.sequence) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = cursor;
}
