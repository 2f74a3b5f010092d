/** A batch as a record of the outbox: what is known of it without opening it is the record's key. */
import type { JournalRecord } from "../../../kernel/journal/journal.ts";
import type { EncodedBatch } from "../batch.ts";

/** Where batches of a pipeline go, and how. */
export interface Shipment {
  readonly pipeline: string;
  readonly destinations: readonly string[];
  /** 0-9. */
  readonly priority: number;
  /** What waits for longer goes, and is told in the gap ledger; undefined: it waits for ever. */
  readonly ttlMs?: number;
}

/** A batch as a pipeline hands it over. */
export interface NewBatch extends Omit<EncodedBatch, "parts"> {
  /** Position of the bus that is followed up to with this batch. */
  readonly through: number;
  /** Events that the pipeline has given with it since it is there. */
  readonly emitted?: number;
  readonly queuedNs: bigint;
}

/** What is known of a batch without opening it. */
export interface BatchNote {
  readonly pipeline: string;
  readonly destinations: readonly string[];
  readonly priority: number;
  /** Position of the bus that the pipeline is followed up to with this batch; undefined for one that was sent before. */
  readonly through: number | undefined;
  readonly emitted?: number | undefined;
  readonly queuedNs: bigint;
  readonly expiresNs: bigint | undefined;
  readonly events: number;
  readonly readings: number;
}

export interface QueuedBatch extends BatchNote {
  /** Its position in its class's journal: its sequence in the stream. */
  readonly sequence: number;
  readonly blocks: Uint8Array;
}

export const KIND_BATCH = 1;

/** Writes a note; "-" stands for what there is not. */
export function writeNote(note: BatchNote): string {
  const { through, emitted, queuedNs, expiresNs, events, readings, priority, pipeline, destinations } = note;
  return `${through ?? "-"} ${emitted ?? "-"} ${queuedNs} ${expiresNs ?? "-"} ${events} ${readings} ${priority} ${pipeline} ${destinations.join(",")}`;
}

export function readNote(key: string): BatchNote {
  const [through, emitted, queuedNs, expiresNs, events, readings, priority, pipeline, destinations] = key.split(" ");
  return {
    pipeline,
    destinations: destinations.split(","),
    priority: Number(priority),
    through: through === "-" ? undefined : Number(through),
    emitted: emitted === "-" ? undefined : Number(emitted),
    queuedNs: BigInt(queuedNs),
    expiresNs: expiresNs === "-" ? undefined : BigInt(expiresNs),
    events: Number(events),
    readings: Number(readings),
  };
}

/** Makes the test of keys for batches of a destination; no key is taken apart for it. */
export function isFor(destination: string): (kind: number, key: string) => boolean {
  return (kind, key) => {
    if (kind !== KIND_BATCH) return false;
    const at = key.lastIndexOf(" ") + 1;
    return key.length - at === destination.length
      ? key.endsWith(destination)
      : key.slice(at).split(",").includes(destination);
  };
}

export const batchOf = ({ position, key, payload }: JournalRecord): QueuedBatch => ({
  sequence: position,
  blocks: payload,
  ...readNote(key),
});
