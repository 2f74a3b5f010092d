/** A batch as a record of the outbox: where it goes is the record's key, what else is known of it stands before it. */
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
  /** Position of what is followed (the bus; of telemetry the feed of spans) up to which it is with this batch; undefined: says nothing of it. */
  readonly through: number | undefined;
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

/** Writes where batches go: the same for all of a pipeline, so that a block of the journal has it once. */
export const writeKey = ({ priority, pipeline, destinations }: Shipment): string =>
  `${priority} ${pipeline} ${destinations.join(",")}`;

const [HAS_THROUGH, HAS_EMITTED, HAS_EXPIRES] = [1, 2, 4];
/** flags(1) events(4) readings(4) queuedNs(8) through(6) emitted(6) expiresNs(8): what there is not has no meaning. */
export const NOTE_BYTES = 37;

/** Writes what is known of one batch besides, and behind it the batch. */
export function writeRecord(note: Omit<BatchNote, keyof Shipment>, blocks: Uint8Array): Buffer {
  const { through, emitted, expiresNs } = note;
  const record = Buffer.allocUnsafe(NOTE_BYTES + blocks.byteLength);
  record[0] =
    (through === undefined ? 0 : HAS_THROUGH) |
    (emitted === undefined ? 0 : HAS_EMITTED) |
    (expiresNs === undefined ? 0 : HAS_EXPIRES);
  record.writeUInt32LE(note.events, 1);
  record.writeUInt32LE(note.readings, 5);
  record.writeBigInt64LE(note.queuedNs, 9);
  record.writeUIntLE(through ?? 0, 17, 6);
  record.writeUIntLE(emitted ?? 0, 23, 6);
  record.writeBigInt64LE(expiresNs ?? 0n, 29);
  record.set(blocks, NOTE_BYTES);
  return record;
}

/** Reads what is known of a batch; the batch itself is not looked at. */
export function readNote(key: string, record: Uint8Array): BatchNote {
  const note = Buffer.from(record.buffer, record.byteOffset, NOTE_BYTES);
  const has = note[0];
  const [priority, pipeline, destinations] = key.split(" ");
  return {
    pipeline,
    destinations: destinations.split(","),
    priority: Number(priority),
    through: has & HAS_THROUGH ? note.readUIntLE(17, 6) : undefined,
    emitted: has & HAS_EMITTED ? note.readUIntLE(23, 6) : undefined,
    queuedNs: note.readBigInt64LE(9),
    expiresNs: has & HAS_EXPIRES ? note.readBigInt64LE(29) : undefined,
    events: note.readUInt32LE(1),
    readings: note.readUInt32LE(5),
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
  blocks: payload.subarray(NOTE_BYTES),
  ...readNote(key, payload),
});
