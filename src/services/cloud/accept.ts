/** Keeps batches of a node in order, each once; what can never be read is refused for good, and the queue goes on. */
import { asFailure, fail, type Failure } from "../../kernel/error.ts";
import { decodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { ACCEPT_WORK_MAX, type Batch, CLOUD_OLDER, CLOUD_SEQUENCE_GAP, type Refusal } from "./api.ts";
import type { CloudStore, Place } from "./store.ts";

const REASON_LENGTH_MAX = 1_000;
/** First bytes of the forms of events that this version reads, and those that are left for later versions. */
const FORM_LAST = 0xe3;
const FORM_END = 0xf0;

export interface Accepted {
  readonly durable: number;
  readonly refused: Refusal[];
  /** Of those refused, the ones that were not refused before. */
  readonly news: Refusal[];
  /** Batches that are kept by this call. */
  readonly kept: number;
}

/**
 * Keeps the batches above the mark and moves the mark, in one transaction; what is at or below it was kept before. Stops
 * where ACCEPT_WORK_MAX is reached. CLOUD_SEQUENCE_GAP where something between was never sent; CLOUD_OLDER.
 */
export function acceptBatches(
  store: CloudStore,
  place: Place,
  batches: readonly Batch[],
  receivedNs: bigint,
): Accepted {
  return store.transaction(() => {
    const before = store.mark(place);
    const news: Refusal[] = [];
    let [durable, through, work, kept]: [number, number | undefined, number, number] = [before, undefined, 0, 0];
    for (const batch of batches) {
      if (batch.sequence <= durable) continue;
      if (batch.previous > durable) {
        const { stream } = place;
        throw fail(
          CLOUD_SEQUENCE_GAP,
          `stream '${stream}' is durable up to ${durable}; batch ${batch.sequence} follows ${batch.previous}`,
        );
      }
      if (work >= ACCEPT_WORK_MAX) break;
      // What comes before such a batch is kept nevertheless.
      if (isNewer(batch.blocks) && durable !== before) break;
      const read = readBatch(batch.blocks);
      if ("blocks" in read) {
        store.keep(place, batch, read.blocks, receivedNs);
        kept++;
      } else {
        const refusal = { sequence: batch.sequence, reason: read.failure.message.slice(0, REASON_LENGTH_MAX) };
        store.refuse(place, refusal, receivedNs);
        news.push(refusal);
      }
      work += "blocks" in read ? workOf(read.blocks) : batch.blocks.length;
      ({ sequence: durable, through } = batch);
    }
    if (durable !== before) store.setMark(place, durable, through);
    // Those refused at an earlier try, too: its answer may never have arrived.
    const refused = store
      .refusals(place, batches[0].sequence)
      .filter(({ sequence }) => sequence <= batches.at(-1)!.sequence);
    return { durable, refused, news, kept };
  });
}

const isNewer = (bytes: Uint8Array): boolean => bytes[0] > FORM_LAST && bytes[0] < FORM_END;

/** Reads all of a batch, so that what is acknowledged can be read later. What fails now fails always. */
function readBatch(bytes: Uint8Array): { blocks: Block[] } | { failure: Failure } {
  if (isNewer(bytes))
    throw fail(CLOUD_OLDER, `the node writes events in form ${bytes[0]}; this cloud reads forms up to ${FORM_LAST}`);
  try {
    return { blocks: decodeBlocks(bytes) };
  } catch (error) {
    return { failure: asFailure(error) };
  }
}

const workOf = (blocks: readonly Block[]): number =>
  blocks.reduce((sum, { sequences, columns }) => sum + sequences.length * (1 + columns.length), 0);
