/** Pages of the events as they came: chunk by chunk, so that a page is bounded and none is skipped while chunks are joined. */
import { fail } from "../../kernel/error.ts";
import { encodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { keepRows } from "../../kernel/events/rows.ts";
import { DATA_TIME_INVALID } from "./codes.ts";
import type { EventStore } from "./store.ts";

/** Bytes of chunks that one page opens, about; a chunk holds some 8,192 values. */
const PAGE_BYTES = 256 * 1024;
const PAGE_VALUES = 65_536;
/** Chunks whose times are looked at for one page: questions have their turn between pages. */
const PAGE_CHUNKS = 2_048;

export interface OriginalsAsked {
  readonly after: number;
  readonly start: bigint;
  readonly end: bigint;
  readonly devices: readonly string[];
}

export interface OriginalsPage {
  readonly blocks?: Uint8Array;
  readonly next: number;
  readonly share: number;
}

interface ChunkRow {
  readonly id: number;
  readonly bytes: number;
  readonly cells: number;
}

export class Originals {
  readonly #store: EventStore;
  readonly #settle: () => void;

  /** `settle` writes what is only in memory. */
  constructor(store: EventStore, settle: () => void) {
    this.#store = store;
    this.#settle = settle;
  }

  /**
   * Gives the page after `after`. A chunk that is joined with others gets a higher number, so that going by numbers skips
   * nothing; its events may come a second time. DATA_TIME_INVALID.
   */
  page(asked: OriginalsAsked): OriginalsPage {
    const { start, end } = asked;
    if (start > end) throw fail(DATA_TIME_INVALID, `start ${start} is after end ${end}`);
    return this.#store.noticing(() => this.#page(asked));
  }

  #page(asked: OriginalsAsked): OriginalsPage {
    const until = Math.min(this.#last, asked.after + PAGE_CHUNKS);
    const blocks: Block[] = [];
    let [next, bytes, cells] = [Math.max(asked.after, until), 0, 0];
    for (const chunk of this.#chunks(asked, until)) {
      bytes += chunk.bytes;
      cells += chunk.cells;
      if (blocks.length > 0 && (bytes > PAGE_BYTES || cells > PAGE_VALUES)) {
        next = chunk.id - 1;
        break;
      }
      blocks.push(...this.#within(chunk.id, asked));
    }
    // What is only in memory comes behind all else.
    if (next >= this.#last && this.#isUnwritten(asked)) this.#settle();
    const share = next >= this.#last ? 1 : next / this.#last;
    return { ...(blocks.length > 0 ? { blocks: encodeBlocks(blocks) } : {}), next, share };
  }

  #isUnwritten({ start, end }: OriginalsAsked): boolean {
    return [...this.#store.tail.blocks()].some((one) => one.maxOrigin >= start && one.minOrigin <= end);
  }

  get #last(): number {
    return this.#store.prepared<{ id: number }>("SELECT coalesce(max(id), 0) AS id FROM chunk").get()!.id;
  }

  #chunks({ after, start, end, devices }: OriginalsAsked, until: number): ChunkRow[] {
    const { series } = this.#store;
    const wanted = devices
      .flatMap((device) => series.like({ device }))
      .flatMap(({ id }) => (id === undefined ? [] : [id]));
    const sql = `SELECT id, length(blocks) AS bytes, rows * max(1, readings / rows) AS cells FROM chunk
      WHERE id > ? AND id <= ? AND max_origin >= ? AND min_origin <= ?
      ${devices.length > 0 ? "AND series IN (SELECT value FROM json_each(?))" : ""} ORDER BY id`;
    const parameters = [after, until, start, end, ...(devices.length > 0 ? [JSON.stringify(wanted)] : [])];
    return this.#store.prepared<ChunkRow>(sql).all(...parameters);
  }

  #within(id: number, { start, end }: OriginalsAsked): Block[] {
    return this.#store
      .blocksOf(id)
      .map((block) => keepRows(block, (row) => block.origins[row] >= start && block.origins[row] <= end))
      .filter(({ sequences }) => sequences.length > 0);
  }
}
