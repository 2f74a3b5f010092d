/** Many chunks are taken away a few at a time, and the room that they leave goes back to the disk. */
import { setImmediate } from "node:timers/promises";
import type { EventStore } from "./store.ts";

/** Chunks that one transaction takes away. */
export const SLICE_CHUNKS = 128;
/** Free pages that stay in the file (4 MiB), to be written to again, and what is given back to the disk after a slice. */
const FREE_PAGES = 1_024;
const SHRINK_PAGES = 2_048;

/** Drops the chunks that `next` names until it names none; others have their turn between. */
export async function inSlices(store: EventStore, next: () => number[]): Promise<void> {
  for (let ids = next(); ids.length > 0; ids = next()) {
    store.drop(ids);
    await giveBack(store);
  }
}

/** Gives free room back to the disk, and lets others have their turn. */
export async function giveBack(store: EventStore): Promise<void> {
  store.shrink(FREE_PAGES, SHRINK_PAGES);
  await setImmediate();
}
