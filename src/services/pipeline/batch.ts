/** Makes batches of events: cut to what one batch may hold, encoded, with what is told of each. */
import { Failure } from "../../kernel/error.ts";
import { sliceBlock } from "../../kernel/events/blocks.ts";
import { encodeBlocks, EVENTS_TOO_LARGE } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";

/** Values (rows times columns) of one batch: the codec, the cloud and memory all stay far from their limits. */
export const BATCH_VALUES_MAX = 262_144;
/** Bytes of one batch, about; a batch over twice as many is cut. */
export const BATCH_BYTES_MAX = 512 * 1024;

/** The readings of one resource in a batch. */
export interface Part {
  readonly profileName: string;
  readonly resourceName: string;
  readonly readings: number;
  /** Those of its own columns, and by readings its share of what the batch holds besides (names, times, ids, tags). */
  readonly bytes: number;
}

export interface EncodedBatch {
  readonly blocks: Uint8Array;
  readonly events: number;
  readonly readings: number;
  readonly parts: readonly Part[];
}

/** Values that blocks have room for. */
export const valuesOf = ({ sequences, columns }: Block): number => sequences.length * columns.length;

/** Bytes of the batches that are made at once: they go to the outbox as one. */
const GROUP_BYTES_MAX = 8 * 1024 * 1024;

/**
 * Cuts blocks into batches of at most so many events, BATCH_VALUES_MAX and about BATCH_BYTES_MAX, and encodes each. Order
 * is kept. `lost` is told of an event that fits no batch.
 */
export function makeBatches(blocks: readonly Block[], eventsMax: number, lost: (block: Block) => void): EncodedBatch[] {
  const batches: EncodedBatch[] = [];
  let bytes = 0;
  for (const part of splitBatches(blocks, eventsMax)) {
    for (const batch of encode(part, 2 * BATCH_BYTES_MAX, lost)) {
      bytes += batch.blocks.length;
      batches.push(batch);
    }
    // Long texts that many events share are written again in each batch: then one of many events is the lesser evil.
    if (bytes > GROUP_BYTES_MAX) return encode(blocks, Number.POSITIVE_INFINITY, lost);
  }
  return batches;
}

function splitBatches(blocks: readonly Block[], eventsMax: number): Block[][] {
  const batches: Block[][] = [];
  let [events, values] = [eventsMax, BATCH_VALUES_MAX];
  for (const block of blocks) {
    const columns = Math.max(1, block.columns.length);
    for (let from = 0; from < block.sequences.length;) {
      if (events >= eventsMax || values + columns > BATCH_VALUES_MAX) {
        batches.push([]);
        [events, values] = [0, 0];
      }
      const rows = Math.max(1, Math.min(eventsMax - events, Math.floor((BATCH_VALUES_MAX - values) / columns)));
      const to = Math.min(block.sequences.length, from + rows);
      batches.at(-1)!.push(from === 0 && to === block.sequences.length ? block : sliceBlock(block, from, to));
      events += to - from;
      values += (to - from) * columns;
      from = to;
    }
  }
  return batches;
}

function encode(blocks: readonly Block[], bytesMax: number, lost: (block: Block) => void): EncodedBatch[] {
  const measured = new Measured();
  const bytes = tryToEncode(blocks, measured);
  const events = blocks.reduce((sum, { sequences }) => sum + sequences.length, 0);
  if (bytes && (bytes.length <= bytesMax || events === 1)) {
    const { readings } = measured;
    return [{ blocks: bytes, events, readings, parts: measured.parts(bytes.length) }];
  }
  if (events > 1) return halve(blocks).flatMap((half) => encode(half, bytesMax, lost));
  lost(blocks[0]);
  return [];
}

function tryToEncode(blocks: readonly Block[], measured: Measured): Uint8Array | undefined {
  try {
    return encodeBlocks(blocks, (block, column, bytes) => measured.add(block, column, bytes));
  } catch (error) {
    // Merged they take more than apart: so many bytes of text are not compressed any more.
    if (error instanceof Failure && error.code === EVENTS_TOO_LARGE.code) return undefined;
    throw error;
  }
}

interface Tally {
  readings: number;
  bytes: number;
}

/** Adds up what the resources of a batch take. */
class Measured {
  readings = 0;
  #bytes = 0;
  readonly #profiles = new Map<string, Map<string, Tally>>();

  add({ series, columns }: Block, column: number, bytes: number): void {
    const { profileName, resources } = series;
    let readings = 0;
    // An absent value is no reading.
    for (const value of columns[column]) if (value !== undefined) readings++;
    if (readings === 0) return;
    let byResource = this.#profiles.get(profileName);
    if (!byResource) this.#profiles.set(profileName, (byResource = new Map<string, Tally>()));
    const { name } = resources[column];
    const known = byResource.get(name);
    if (!known) byResource.set(name, { readings, bytes });
    else {
      known.readings += readings;
      known.bytes += bytes;
    }
    this.readings += readings;
    this.#bytes += bytes;
  }

  /** What each takes of so many bytes; all of them together, but for rounding. */
  parts(bytesTotal: number): Part[] {
    const share = (bytesTotal - this.#bytes) / Math.max(1, this.readings);
    return [...this.#profiles].flatMap(([profileName, byResource]) =>
      [...byResource].map(([resourceName, { readings, bytes }]) => ({
        profileName,
        resourceName,
        readings,
        bytes: Math.round(bytes + readings * share),
      })),
    );
  }
}

function halve(blocks: readonly Block[]): [Block[], Block[]] {
  if (blocks.length > 1) {
    const middle = blocks.length >> 1;
    return [blocks.slice(0, middle), blocks.slice(middle)];
  }
  const [block] = blocks;
  const middle = block.sequences.length >> 1;
  return [[sliceBlock(block, 0, middle)], [sliceBlock(block, middle, block.sequences.length)]];
}
