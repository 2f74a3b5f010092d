/** Takes kept events away: one, a device's, old ones; in slices, so that neither readers nor the bus wait for long. */
import { setImmediate } from "node:timers/promises";
import { sliceBlock } from "../../kernel/events/blocks.ts";
import type { Block } from "../../kernel/events/model.ts";
import type { EventQuery } from "./query.ts";
import type { EventStore } from "./store.ts";

/** Chunks that one transaction takes away. */
const SLICE_CHUNKS = 128;
/** Free pages given back to the disk after a slice. */
const SHRINK_PAGES = 2_048;

export interface Retention {
  readonly maxAgeNs: bigint;
  readonly sizeBytesMax: number;
}

export class Remover {
  readonly #store: EventStore;
  readonly #query: EventQuery;

  constructor(store: EventStore, query: EventQuery) {
    this.#store = store;
    this.#query = query;
  }

  /** Removes one event; false where there is none of that id. */
  one(id: string): boolean {
    const place = this.#query.find(id);
    if (!place) return false;
    const { block, row, chunk } = place;
    this.#store.rewrite(chunk, without(block, row));
    this.#dropIds(block, row, row + 1);
    this.#query.forget();
    return true;
  }

  /** Removes all events of a device that were there when it began. */
  async device(name: string): Promise<void> {
    const series = this.#store.seriesLike({ device: name });
    if (series.length === 0) return;
    const last = this.#store.db.prepare<{ id: number }>("SELECT coalesce(max(id), 0) AS id FROM chunk").get()!.id;
    const page = this.#store.db.prepare<{ id: number }>(
      `SELECT id FROM chunk WHERE series IN (${series.join(",")}) AND id <= ? LIMIT ${SLICE_CHUNKS}`,
    );
    await this.#slices(() => page.all(last).map((r) => r.id));
  }

  /** Removes events whose origin is before a time. */
  async before(origin: bigint): Promise<void> {
    const whole = this.#store.db.prepare<{ id: number }>(
      `SELECT id FROM chunk WHERE max_origin < ? LIMIT ${SLICE_CHUNKS}`,
    );
    await this.#slices(() => whole.all(origin).map((r) => r.id));
    const cut = this.#store.db
      .prepare<{ id: number }>("SELECT id FROM chunk WHERE min_origin < ? AND max_origin >= ?")
      .all(origin, origin);
    for (const { id } of cut) {
      for (const block of this.#store.blocksOf(id)) this.#store.rewrite(id, newerPart(block, origin));
      await setImmediate();
    }
    this.#query.forget();
  }

  /** Keeps within age and size, oldest first; whole chunks only, so that keeping house costs next to nothing. */
  async retain({ maxAgeNs, sizeBytesMax }: Retention, nowNs: bigint): Promise<void> {
    const old = this.#store.db.prepare<{ id: number }>(
      `SELECT id FROM chunk WHERE max_origin < ? LIMIT ${SLICE_CHUNKS}`,
    );
    await this.#slices(() => old.all(nowNs - maxAgeNs).map((r) => r.id));
    const size = this.#store.db.prepare<{ bytes: number }>("SELECT coalesce(sum(bytes), 0) AS bytes FROM chunk");
    let over = size.get()!.bytes - sizeBytesMax;
    const oldest = this.#store.db.prepare<{ id: number; bytes: number }>(
      `SELECT id, bytes FROM chunk ORDER BY max_origin LIMIT ${SLICE_CHUNKS}`,
    );
    await this.#slices(() => {
      const ids: number[] = [];
      for (const { id, bytes } of over > 0 ? oldest.all() : []) {
        if (over <= 0) break;
        over -= bytes;
        ids.push(id);
      }
      return ids;
    });
  }

  async #slices(next: () => number[]): Promise<void> {
    for (let ids = next(); ids.length > 0; ids = next()) {
      for (const id of ids)
        for (const block of this.#store.blocksOf(id))
          if (block.extras.size > 0) this.#dropIds(block, 0, block.sequences.length);
      this.#store.drop(ids);
      this.#store.db.shrink(SHRINK_PAGES);
      this.#query.forget();
      await setImmediate();
    }
  }

  #dropIds(block: Block, from: number, to: number): void {
    const drop = this.#store.db.prepare<never, [number, number, number]>(
      "DELETE FROM foreign_id WHERE publisher = ? AND epoch = ? AND sequence = ?",
    );
    const publisher = this.#store.publisherWith(this.#store.tagOf(block.publisher))!;
    this.#store.db.transaction(() => {
      for (const [row, extra] of block.extras)
        if (row >= from && row < to && extra.ids?.[0]) drop.run(publisher, block.publisher.epoch, block.sequences[row]);
    });
  }
}

function without(block: Block, row: number): Block {
  const before = sliceBlock(block, 0, row);
  const after = sliceBlock(block, row + 1, block.sequences.length);
  const shifted = [...after.extras].map(([at, extra]) => [at + row, extra] as const);
  return {
    ...before,
    sequences: [...before.sequences, ...after.sequences],
    origins: [...before.origins, ...after.origins],
    columns: before.columns.map((column, k) => [...column, ...after.columns[k]]),
    extras: new Map([...before.extras, ...shifted]),
  };
}

function newerPart(block: Block, origin: bigint): Block {
  let kept = block;
  for (let row = block.sequences.length - 1; row >= 0; row--)
    if (block.origins[row] < origin) kept = without(kept, row);
  return kept;
}
