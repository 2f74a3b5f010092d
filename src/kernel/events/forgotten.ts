/**
 * Devices whose events were forgotten, in a log that is not written anew for it: what stands there up to a position is given to
 * nobody any more, and goes with the log's old end.
 */
import { decodeBlocks, encodeBlocks, headOfBlocks } from "./codec.ts";
import type { Block } from "./model.ts";

/** The last position that held events of a device when it was forgotten. */
export type Tombstone = readonly [device: string, through: number];

/** More than a node has devices; the oldest goes first, when its events have long gone. */
const TOMBSTONES_MAX = 10_000;

export class Forgotten {
  readonly #through = new Map<string, number>();
  #last = 0;

  constructor(saved: readonly Tombstone[] = []) {
    for (const [device, through] of saved) this.add(device, through);
  }

  /** Forgets a device's events up to a position. */
  add(device: string, through: number): void {
    this.#through.delete(device);
    this.#through.set(device, through);
    this.#last = Math.max(this.#last, through);
    const oldest = this.#through.keys().next();
    if (this.#through.size > TOMBSTONES_MAX && !oldest.done) this.#through.delete(oldest.value);
  }

  /** Lets go of what tells nothing any more: the log begins at `first`. */
  trimmed(first: number): void {
    for (const [device, through] of this.#through) if (through < first) this.#through.delete(device);
  }

  list(): Tombstone[] {
    return [...this.#through];
  }

  /** Answers the blocks without those of forgotten devices: the same bytes where there are none, undefined where nothing is left. */
  strip(position: number, bytes: Uint8Array): Uint8Array | undefined {
    if (position > this.#last || this.#through.size === 0) return bytes;
    const isGone = (device: string): boolean => (this.#through.get(device) ?? -1) >= position;
    const heads = headOfBlocks(bytes);
    if (!heads.some(({ series }) => isGone(series.deviceName))) return bytes;
    return blocksWithout(bytes, isGone);
  }
}

/** Encodes anew what is left of blocks without those of some devices; undefined where nothing is. */
export function blocksWithout(bytes: Uint8Array, isGone: (device: string) => boolean): Uint8Array | undefined {
  const left: Block[] = decodeBlocks(bytes).filter(({ series }) => !isGone(series.deviceName));
  return left.length === 0 ? undefined : encodeBlocks(left);
}
