/** A device's readings at the cloud, newest first, without holding up what comes in meanwhile. */
import { setImmediate } from "node:timers/promises";
import type { Reading } from "../../kernel/edgex.ts";
import { readingOf } from "../../kernel/events/edgex.ts";
import { publisherTag } from "../../kernel/events/ids.ts";
import type { Block } from "../../kernel/events/model.ts";
import { newest, type Piece } from "../../kernel/events/newest.ts";
import { DEADLINE, fail } from "../../kernel/error.ts";
import type { CloudPiece } from "./kept.ts";
import type { CloudStore } from "./store.ts";

/** Work goes on so long before others have their turn. */
const TURN_MS = 10;

export interface ReadingsInput {
  readonly edge: string;
  readonly device: string;
  readonly resource?: string;
  /** Origins as this cloud's clock would have told them; pages are cut by those that the node told. */
  readonly corrected?: boolean;
  readonly offset: number;
  readonly limit: number;
}

/** Makes what long work calls between its parts: it lets others run now and then, and ends with the call. */
export function turns(signal: AbortSignal): () => Promise<void> | undefined {
  let sinceMs = performance.now();
  const letOthers = async (): Promise<void> => {
    await setImmediate();
    sinceMs = performance.now();
    if (signal.aborted) throw fail(DEADLINE, "the caller no longer waits for the answer");
  };
  return () => (performance.now() - sinceMs < TURN_MS ? undefined : letOthers());
}

export async function readingsOfDevice(
  store: CloudStore,
  { edge, device, resource, corrected = false, offset, limit }: ReadingsInput,
  signal: AbortSignal,
): Promise<{ totalCount: number; readings: Reading[] }> {
  const turn = turns(signal);
  const totalCount =
    resource === undefined ? store.kept.readingsOf(edge, device) : await countOf(store, edge, device, resource, turn);
  const readings: Reading[] = [];
  if (offset >= totalCount) return { totalCount, readings };
  const itemsOf = (block: Block, row: number) => itemsIn(block, row, resource);
  const ahead = new WeakMap<Block, bigint>();
  const pieces = withOffsets(store.kept.pieces(edge, device, resource), ahead);
  for (const { block, row, passed } of newest(pieces, { skip: offset, itemsOf })) {
    let skip = passed;
    const tag = publisherTag(edge, block.publisher.name);
    for (let column = 0; column < block.columns.length && readings.length < limit; column++) {
      if (!holds(block, row, column, resource) || skip-- > 0) continue;
      const reading = readingOf(block, row, column, tag);
      // What came in is never rewritten: only the answer is.
      readings.push(corrected ? { ...reading, origin: reading.origin - (ahead.get(block) ?? 0n) } : reading);
    }
    if (readings.length >= limit) break;
    await turn();
  }
  if (corrected) readings.sort((a, b) => (a.origin > b.origin ? -1 : a.origin < b.origin ? 1 : 0));
  return { totalCount, readings };
}

/** Notes of each block that is opened how far its node's clock was ahead. */
function* withOffsets(pieces: Iterable<CloudPiece>, ahead: WeakMap<Block, bigint>): Generator<Piece> {
  for (const piece of pieces)
    yield {
      ...piece,
      open: () => {
        const blocks = piece.open();
        for (const block of blocks) ahead.set(block, piece.aheadNs);
        return blocks;
      },
    };
}

async function countOf(
  store: CloudStore,
  edge: string,
  device: string,
  resource: string,
  turn: ReturnType<typeof turns>,
): Promise<number> {
  let count = 0;
  for (const piece of store.kept.pieces(edge, device, resource)) {
    for (const block of piece.open())
      for (let row = 0; row < block.sequences.length; row++) count += itemsIn(block, row, resource);
    await turn();
  }
  return count;
}

const holds = (block: Block, row: number, column: number, resource: string | undefined): boolean =>
  block.columns[column][row] !== undefined &&
  (resource === undefined || block.series.resources[column].name === resource);

function itemsIn(block: Block, row: number, resource: string | undefined): number {
  let items = 0;
  for (let column = 0; column < block.columns.length; column++) if (holds(block, row, column, resource)) items++;
  return items;
}
