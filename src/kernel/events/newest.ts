/** Walks kept blocks from the newest event to the oldest, opening as few of them as the answer needs. */
import type { Block } from "./model.ts";

/** A kept piece that can be opened: what its index says of it. */
export interface Piece {
  readonly minOrigin: bigint;
  readonly maxOrigin: bigint;
  /** How many items (events, or readings asked for) it holds; undefined where only opening it tells. */
  readonly count: number | undefined;
  open(): readonly Block[];
}

export interface NewestRow {
  readonly block: Block;
  readonly row: number;
}

export interface NewestOptions {
  /** Items to pass over first. */
  readonly skip: number;
  /** Items of a row: 1 for events, the number of readings asked for; 0 leaves the row out. */
  itemsOf(block: Block, row: number): number;
}

interface Cursor {
  readonly block: Block;
  /** Rows by origin, oldest first; undefined where they are in that order as they are. */
  readonly order: Uint32Array | undefined;
  at: number;
  origin: bigint;
}

/**
 * Yields rows by origin, newest first, from pieces given by `maxOrigin`, newest first. `passed` of the first row tells how
 * many of its items are still to be passed over.
 */
export function* newest(pieces: Iterable<Piece>, options: NewestOptions): Generator<NewestRow & { passed: number }> {
  const rest = pieces[Symbol.iterator]();
  const open: Cursor[] = [];
  let skip = options.skip;
  let next = rest.next();
  for (;;) {
    let top = newestOf(open);
    while (!next.done && (!top || next.value.maxOrigin >= top.origin)) {
      const piece: Piece = next.value;
      next = rest.next();
      // A piece that ends before all others begin, and is to be passed over whole, need not be opened.
      const apart = open.length === 0 && (next.done || next.value.maxOrigin < piece.minOrigin);
      if (apart && piece.count !== undefined && piece.count <= skip) {
        skip -= piece.count;
        continue;
      }
      for (const block of piece.open()) if (block.sequences.length > 0) open.push(cursorOf(block));
      top = newestOf(open);
    }
    if (!top) return;
    const row = top.order ? top.order[top.at] : top.at;
    const { block } = top;
    if (--top.at < 0) open.splice(open.indexOf(top), 1);
    else top.origin = block.origins[top.order ? top.order[top.at] : top.at]!;
    const items = options.itemsOf(block, row);
    if (items <= skip) skip -= items;
    else {
      yield { block, row, passed: skip };
      skip = 0;
    }
  }
}

/** Few blocks are open at once (series that overlap in time), so that a plain search beats a heap. */
function newestOf(open: readonly Cursor[]): Cursor | undefined {
  let best: Cursor | undefined;
  for (const cursor of open) if (!best || cursor.origin > best.origin) best = cursor;
  return best;
}

function cursorOf(block: Block): Cursor {
  const { origins } = block;
  let sorted = true;
  for (let i = 1; i < origins.length; i++) {
    if (origins[i] < origins[i - 1]) {
      sorted = false;
      break;
    }
  }
  const order = sorted
    ? undefined
    : Uint32Array.from(origins.keys()).sort((a, b) =>
        origins[a] < origins[b] ? -1 : origins[a] > origins[b] ? 1 : a - b,
      );
  const at = origins.length - 1;
  return { block, order, at, origin: origins[order ? order[at] : at] };
}
