/** Keeps what is kept within its limits: chunks go whole where they can, the oldest first, and what goes leaves the disk. */
import type { Block, Value } from "../../kernel/events/model.ts";
import type { ChunkIndex } from "./chunk-index.ts";
import type { Retention, SeriesKeep } from "./retention.ts";
import { keepRows } from "../../kernel/events/rows.ts";
import { OPEN_SECONDS_MAX, type SeriesEntry } from "./series.ts";
import { giveBack, inSlices, SLICE_CHUNKS } from "./slices.ts";
import type { EventStore } from "./store.ts";

/** A chunk spans no more than this part of the time that it is kept: its last event is kept for that much too long. */
const SPAN_PART = 4;
const OPEN_SECONDS_MIN = 60;

export interface RetainerParts {
  readonly store: EventStore;
  readonly chunks: ChunkIndex;
  readonly retention: Retention;
  readonly sizeBytesMax: number;
  /** Writes what is only in memory: what is to be removed must be written first. */
  settle(this: void): void;
}

interface OldChunk {
  readonly id: number;
  readonly rows: number;
}

export class Retainer {
  readonly #p: RetainerParts;

  constructor(parts: RetainerParts) {
    this.#p = parts;
  }

  /**
   * Takes away what is too old, too much of its source, or more than the store may hold. Age counts from when an event was
   * kept, by the retention clock, whatever its origin says: a series of last year that is sent today stays as long as any
   * other. `isInformed`: it is known what the devices want; until then nothing goes for its age.
   */
  async retain(retentionMs: number, isInformed = true): Promise<void> {
    const { store, retention, settle } = this.#p;
    settle();
    const nowS = Math.floor(retentionMs / 1000);
    for (const entry of isInformed ? store.series.like({}) : []) {
      if (entry.id === undefined || entry.rows === 0) continue;
      const keep = retention.of(entry.series);
      const span = Math.floor(keep.secondsMin / SPAN_PART);
      entry.openSecondsMax = Math.min(OPEN_SECONDS_MAX, Math.max(OPEN_SECONDS_MIN, span));
      await this.#dropOld(entry, entry.id, keep, nowS);
      await this.#thin(entry.id, keep, nowS);
      if (keep.eventsMax > 0 && entry.rows > keep.eventsMax) await this.#limit(entry, entry.id, keep.eventsLeft);
    }
    await this.#fit();
    if (store.tail.rows === 0) store.series.forgetEmpty();
  }

  /** Chunks of which nothing is young enough; but so many of the newest events stay. */
  async #dropOld(entry: SeriesEntry, series: number, keep: SeriesKeep, nowS: number): Promise<void> {
    const { store } = this.#p;
    const old = store.prepared<OldChunk>(
      `SELECT id, rows FROM chunk WHERE series = ? AND kept < ? ORDER BY kept, id LIMIT ${SLICE_CHUNKS}`,
    );
    await inSlices(store, () => {
      let left = entry.rows;
      return old.all(series, nowS - keep.secondsMax).flatMap(({ id, rows }) => {
        left -= rows;
        return left < keep.eventsMin ? [] : [id];
      });
    });
  }

  /** Empties the columns that are kept for a shorter time than others of their source. */
  async #thin(series: number, keep: SeriesKeep, nowS: number): Promise<void> {
    if (keep.secondsMin === keep.secondsMax) return;
    const { store } = this.#p;
    const old = store.prepared<{ id: number }>(
      `SELECT id FROM chunk WHERE series = ? AND kept < ? AND kept >= ? AND thinned <> ? ORDER BY kept, id LIMIT ${SLICE_CHUNKS}`,
    );
    const ages = [...new Set(keep.resources.map(({ seconds }) => seconds))].sort((a, b) => a - b);
    for (let i = 0; i + 1 < ages.length; i++) {
      const gone = keep.resources.flatMap(({ seconds }, column) => (seconds <= ages[i] ? [column] : []));
      const mark = gone.join(",");
      for (;;) {
        const ids = old.all(series, nowS - ages[i], nowS - ages[i + 1], mark);
        for (const { id } of ids) {
          const blocks = store.blocksOf(id);
          this.#rewrite(id, blocks, (block) => withoutColumns(block, gone), mark);
          await giveBack(store);
        }
        if (ids.length < SLICE_CHUNKS) break;
      }
    }
  }

  /** Leaves so many of the newest events of a series. */
  async #limit(entry: SeriesEntry, series: number, eventsMax: number): Promise<void> {
    const { store } = this.#p;
    const oldest = store.prepared<OldChunk>(
      `SELECT id, rows FROM chunk WHERE series = ? ORDER BY kept, id LIMIT ${SLICE_CHUNKS}`,
    );
    await inSlices(store, () => {
      let over = entry.rows - eventsMax;
      return oldest.all(series).flatMap(({ id, rows }) => {
        over -= rows;
        return over >= 0 ? [id] : [];
      });
    });
    const over = entry.rows - eventsMax;
    const first = over > 0 ? oldest.all(series)[0] : undefined;
    if (!first) return;
    let passed = 0;
    this.#rewrite(first.id, store.blocksOf(first.id), (block) => keepRows(block, () => passed++ >= over));
  }

  /** Of the whole store those go that were kept first. */
  async #fit(): Promise<void> {
    const { store, sizeBytesMax } = this.#p;
    const oldest = store.prepared<{ id: number; bytes: number }>(
      `SELECT id, length(blocks) AS bytes FROM chunk ORDER BY id LIMIT ${SLICE_CHUNKS}`,
    );
    await inSlices(store, () => {
      let over = store.sizeBytes - sizeBytesMax;
      const ids: number[] = [];
      // Of two chunks the later one was kept later, or at the same time.
      for (const { id, bytes } of over > 0 ? oldest.all() : []) {
        if (over <= 0) break;
        over -= bytes;
        ids.push(id);
      }
      return ids;
    });
  }

  #rewrite(id: number, blocks: readonly Block[], change: (block: Block) => Block, thinned?: string): void {
    const { store, chunks } = this.#p;
    store.rewrite(id, blocks, blocks.map(change), thinned);
    chunks.forget();
  }
}

/** A block whose readings of some columns are gone, and the events that had no others. */
function withoutColumns(block: Block, gone: readonly number[]): Block {
  const absent = new Array<Value>(block.sequences.length).fill(undefined);
  const columns = block.columns.map((column, k) => (gone.includes(k) ? absent : column));
  return keepRows({ ...block, columns }, (row) => columns.some((column) => column[row] !== undefined));
}
