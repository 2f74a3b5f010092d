import { BLOCK_HEADER_BYTES, MARK, parseBlockHeader, type BlockHeader } from "./block.ts";
import { readAt } from "./disk.ts";

/** Bytes read from the disk at once. */
const WINDOW_BYTES = 256 * 1024;
/** Distance of the entries of an index: what is read in vain, at most, to find a position. */
const INDEX_STEP_BYTES = 64 * 1024;

/** Where a block is expected: its number and first position are known from the block before it. */
export interface Place {
  readonly number: number;
  readonly first: number;
  readonly offset: number;
}

/** A few known places in a segment, in order; finds the one from which a position is soonest reached. */
export class BlockIndex {
  readonly #places: Place[] = [];

  note(place: Place): void {
    const last = this.#places.at(-1);
    if (!last || place.offset >= last.offset + INDEX_STEP_BYTES) this.#places.push(place);
  }

  before(position: number): Place | undefined {
    let low = 0;
    let high = this.#places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#places[middle]?.first ?? Infinity) <= position) low = middle + 1;
      else high = middle;
    }
    return this.#places[low - 1];
  }
}

/** A sliding view of a file up to `limit`: reads ahead, so that walking from block to block costs one read per window. */
export class Window {
  readonly limit: number;
  readonly #fd: number;
  #memory = Buffer.alloc(0);
  #bytes = Buffer.alloc(0);
  #offset = 0;

  constructor(fd: number, limit: number) {
    this.#fd = fd;
    this.limit = limit;
  }

  /** The bytes from `offset` on, at least so many unless the limit is nearer; undefined: `load` them first. Valid until the next load. */
  get(offset: number, bytes: number): Buffer | undefined {
    const from = offset - this.#offset;
    const needed = Math.min(bytes, this.limit - offset);
    if (from < 0 || from + needed > this.#bytes.byteLength) return undefined;
    return this.#bytes.subarray(from);
  }

  async load(offset: number, bytes: number): Promise<Buffer> {
    const wanted = Math.max(0, Math.min(Math.max(bytes, WINDOW_BYTES), this.limit - offset));
    if (this.#memory.byteLength < wanted) this.#memory = Buffer.allocUnsafeSlow(wanted);
    const got = await readAt(this.#fd, this.#memory.subarray(0, wanted), offset);
    // A file that is shorter than it should be reads as zeros: then whoever walks finds no block there, and says so.
    this.#memory.fill(0, got, wanted);
    this.#bytes = this.#memory.subarray(0, wanted);
    this.#offset = offset;
    return this.#bytes;
  }
}

export interface Found extends BlockHeader {
  readonly offset: number;
}

/** Tells where the block behind a found one is expected. */
export const placeAfter = (found: Found): Place => ({
  number: found.number + 1,
  first: found.first + found.count,
  offset: found.offset + BLOCK_HEADER_BYTES + found.bodyBytes,
});

const fits = (header: BlockHeader | undefined, place: Place, offset: number, limit: number): header is BlockHeader =>
  header !== undefined &&
  header.number >= place.number &&
  header.first >= place.first &&
  offset + BLOCK_HEADER_BYTES + header.bodyBytes <= limit;

/**
 * Finds the next whole block at `place` or, where damage is, behind it; undefined when there is none up to the window's limit.
 * If number or offset differ from the place's, what lies between is lost.
 */
export async function findBlock(window: Window, place: Place): Promise<Found | undefined> {
  let offset = place.offset;
  if (offset + BLOCK_HEADER_BYTES > window.limit) return undefined;
  let bytes = window.get(offset, BLOCK_HEADER_BYTES) ?? (await window.load(offset, BLOCK_HEADER_BYTES));
  const header = parseBlockHeader(bytes, 0);
  if (fits(header, place, offset, window.limit)) return { ...header, offset };
  while (offset + BLOCK_HEADER_BYTES <= window.limit) {
    const at = bytes.indexOf(MARK, 1);
    // The mark may straddle the end of what is in memory: go on three bytes before it.
    offset += at > 0 ? at : Math.max(1, bytes.byteLength - MARK.byteLength + 1);
    if (offset + BLOCK_HEADER_BYTES > window.limit) return undefined;
    bytes = window.get(offset, BLOCK_HEADER_BYTES) ?? (await window.load(offset, BLOCK_HEADER_BYTES));
    const candidate = parseBlockHeader(bytes, 0);
    if (fits(candidate, place, offset, window.limit)) return { ...candidate, offset };
  }
  return undefined;
}
