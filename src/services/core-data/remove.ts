/** Takes kept events away: one, a device's, those before a time; in slices, so that neither readers nor the bus wait for long. */
import { setImmediate } from "node:timers/promises";
import type { ChunkIndex } from "./chunk-index.ts";
import type { EventQuery } from "./query.ts";
import { keepRows } from "../../kernel/events/rows.ts";
import { inSlices, SLICE_CHUNKS } from "./slices.ts";
import type { EventStore } from "./store.ts";

export interface RemoverParts {
  readonly store: EventStore;
  readonly chunks: ChunkIndex;
  readonly query: EventQuery;
  /** Writes what is only in memory: what is to be removed must be written first. */
  settle(this: void): void;
}

export class Remover {
  readonly #parts: RemoverParts;

  constructor(parts: RemoverParts) {
    this.#parts = parts;
  }

  /** Removes one event; false where there is none of that id. */
  one(id: string): boolean {
    const { store, chunks, query, settle } = this.#parts;
    if (!query.find(id, false)) return false;
    settle();
    const place = query.find(id, false);
    if (place?.chunk === undefined) return false;
    const { block, row } = place;
    const blocks = store.blocksOf(place.chunk);
    const sequence = block.sequences[row];
    const gone = blocks.map((b) => keepRows(b, (r) => b.sequences[r] === sequence));
    store.rewrite(
      place.chunk,
      gone,
      blocks.map((b) => keepRows(b, (r) => b.sequences[r] !== sequence)),
    );
    chunks.forget();
    return true;
  }

  /** Removes all events of a device that were there when it began. */
  async device(name: string): Promise<void> {
    const { store, settle } = this.#parts;
    settle();
    const series = store.series.like({ device: name }).flatMap((entry) => (entry.id === undefined ? [] : [entry.id]));
    const last = store.prepared<{ id: number }>("SELECT coalesce(max(id), 0) AS id FROM chunk").get()!.id;
    const open = store.prepared<{ id: number }>("SELECT id FROM chunk WHERE series = ? AND sealed = 0");
    const sealed = store.prepared<{ id: number }>(
      `SELECT id FROM chunk WHERE series = ? AND id <= ? AND sealed = 1 LIMIT ${SLICE_CHUNKS}`,
    );
    // The open ones at once: in the next turn they may be joined with what comes later.
    store.drop(series.flatMap((id) => open.all(id).map((row) => row.id)));
    for (const id of series) await inSlices(store, () => sealed.all(id, last).map((row) => row.id));
  }

  /** Makes a device's events unreadable at once, however many there are; their room comes back afterwards. Resolves then. */
  forget(name: string): Promise<void> {
    const { store, chunks, settle } = this.#parts;
    settle();
    store.destroyKey(name);
    chunks.forget();
    return this.device(name);
  }

  /** Removes events whose origin is before a time. */
  async before(origin: bigint): Promise<void> {
    const { store, settle } = this.#parts;
    settle();
    const open = store.prepared<{ id: number }>("SELECT id FROM chunk WHERE sealed = 0 AND min_origin < ?");
    for (const { id } of open.all(origin)) this.#cut(id, origin);
    const whole = store.prepared<{ id: number }>(
      `SELECT id FROM chunk WHERE max_origin < ? AND sealed = 1 LIMIT ${SLICE_CHUNKS}`,
    );
    await inSlices(store, () => whole.all(origin).map((row) => row.id));
    const cut = store.prepared<{ id: number }>(
      "SELECT id FROM chunk WHERE max_origin >= ? AND min_origin < ? AND sealed = 1",
    );
    for (const { id } of cut.all(origin, origin)) {
      this.#cut(id, origin);
      await setImmediate();
    }
  }

  #cut(id: number, origin: bigint): void {
    const { store, chunks } = this.#parts;
    const blocks = store.blocksOf(id);
    const gone = blocks.map((block) => keepRows(block, (row) => block.origins[row] < origin));
    const stays = blocks.map((block) => keepRows(block, (row) => block.origins[row] >= origin));
    store.rewrite(id, gone, stays);
    chunks.forget();
  }
}
