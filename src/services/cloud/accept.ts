/** Keeps batches of a node, in the order of each lane, each once; what can never be read is refused for good, and the queue goes on. */
import { asFailure, fail, type Failure } from "../../kernel/error.ts";
import { decodeBlocks, encodeBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import { readingsOf } from "../../kernel/events/rows.ts";
import { type SequenceRange, SequenceSet } from "../../kernel/sequences.ts";
import { ACCEPT_WORK_MAX, type Batch, CLOUD_OLDER, CLOUD_SEQUENCE_GAP, LANES_MAX, type Refusal } from "./api.ts";
import { backfillOf, type Known, leaveUnknown } from "./known.ts";
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
}

export interface ToAccept {
  readonly batches: readonly Batch[];
  readonly absent?: readonly SequenceRange[];
  readonly opens?: boolean;
}

/** When batches came, and how far their node's clock was ahead then, where that is known. */
export interface Arrival {
  readonly receivedNs: bigint;
  readonly aheadNs: bigint | undefined;
}

/**
 * Keeps the batches that are not settled and settles them, in one transaction; what is settled was kept before. Stops
 * where ACCEPT_WORK_MAX is reached. CLOUD_SEQUENCE_GAP where something before was never sent; CLOUD_OLDER.
 */
export function acceptBatches(
  store: CloudStore,
  place: Place,
  sent: ToAccept,
  arrival: Arrival,
  known: Known,
): Accepted {
  return store.transaction(() => {
    const settled = new SequenceSet(store.settled(place));
    const { batches, absent = [] } = sent;
    for (const { from, to } of absent) settled.add(from, Math.max(from, to));
    const news: Refusal[] = [];
    let [durable, work] = [0, 0];
    for (const [i, batch] of batches.entries()) {
      const { sequence, previous } = batch;
      if (!settled.has(sequence)) {
        if (work >= ACCEPT_WORK_MAX) break;
        checkChain(settled, place, batch, i === 0 && sent.opens === true);
        // What comes before such a batch is kept nevertheless.
        if (isNewer(batch.blocks) && work > 0) break;
        const read = readBatch(batch.blocks);
        work += "blocks" in read ? workOf(read.blocks) : batch.blocks.length;
        if ("blocks" in read) keep(store, place, batch, read.blocks, arrival, known);
        else news.push(refuse(store, place, sequence, read.failure, arrival));
        settled.add(Math.min(previous + 1, sequence), sequence);
      }
      durable = Math.max(durable, sequence);
    }
    store.settle(place, settled.ranges());
    // Those refused at an earlier try, too: its answer may never have arrived.
    const refused = store
      .refusals(place, batches[0].sequence)
      .filter(({ sequence }) => sequence <= batches.at(-1)!.sequence);
    return { durable, refused, news };
  });
}

/** Keeps a batch; one of a backfill only as far as it is not here yet. */
function keep(
  store: CloudStore,
  place: Place,
  batch: Batch,
  blocks: readonly Block[],
  arrival: Arrival,
  known: Known,
): void {
  const backfill = backfillOf(batch);
  if (backfill === undefined) return store.keep(place, batch, blocks, arrival);
  const fresh = leaveUnknown(store, place.edge, blocks, known);
  const [came, kept] = [blocks, fresh].map((some) => some.reduce((sum, block) => sum + readingsOf(block), 0));
  store.backfills.count(place.edge, backfill, kept, came - kept);
  if (kept === 0) return store.pass(place, batch, arrival);
  store.keep(place, kept === came ? batch : { ...batch, blocks: encodeBlocks(fresh) }, fresh, arrival);
}

function checkChain(settled: SequenceSet, { stream }: Place, { sequence, previous }: Batch, opens: boolean): void {
  if (previous === 0 || settled.has(previous)) return;
  if (opens && settled.size < LANES_MAX) return;
  throw fail(
    CLOUD_SEQUENCE_GAP,
    `batch ${sequence} of stream '${stream}' follows ${previous}, which never came; the last before it is ${settled.last(previous)}`,
  );
}

function refuse(
  store: CloudStore,
  place: Place,
  sequence: number,
  { message }: Failure,
  { receivedNs }: Arrival,
): Refusal {
  const refusal = { sequence, reason: message.slice(0, REASON_LENGTH_MAX) };
  store.refuse(place, refusal, receivedNs);
  return refusal;
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
