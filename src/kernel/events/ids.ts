/**
 * Ids that need no bytes: a UUID (RFC 9562, version 8) made of who published an event, in which epoch, under which
 * sequence, and which of its readings it is. Whoever has those has the id, and the other way round.
 *
 *     tttttttt-teee-8eee-vsss-sssssssssiii     36 bits of tag, 32 of epoch, 42 of sequence, 12 of index
 *
 * where v is the variant's two bits and the next two of the epoch; its last six bits stand before the sequence.
 */
import { createHash } from "node:crypto";

/** What an id says. Index 0 is the event, k + 1 the reading in column k. */
export interface DerivedId {
  readonly tag: number;
  readonly epoch: number;
  readonly sequence: number;
  readonly index: number;
}

const TWELVE = 4096;
const SEQUENCE_LOW = 2 ** 36;
const DASH = 0x2d;

const HEX3 = Array.from({ length: TWELVE }, (_, n) => n.toString(16).padStart(3, "0"));
const NIBBLE = new Int8Array(128).fill(-1);
for (let n = 0; n < 16; n++) NIBBLE[n.toString(16).charCodeAt(0)] = n;

/** Finds the tag of a publisher: 36 bits of the hash of its node and name, a whole number. Costs a hash: keep it. */
export function publisherTag(node: string, publisher: string): number {
  // The length keeps ("a", "bc") apart from ("ab", "c"), whatever the names hold.
  const hash = createHash("sha256").update(`${node.length}:${node}${publisher}`).digest();
  return hash.readUIntBE(0, 5) % SEQUENCE_LOW;
}

/** Makes the id of an event. Tag below 2^36, epoch below 2^32, sequence below 2^42. */
export const eventId = (tag: number, epoch: number, sequence: number): string => makeId(tag, epoch, sequence, 0);

/** Makes the id of the reading in column `column` (below 4095) of an event. */
export const readingId = (tag: number, epoch: number, sequence: number, column: number): string =>
  makeId(tag, epoch, sequence, column + 1);

const hex3 = (bits: number) => HEX3[bits & (TWELVE - 1)];

function makeId(tag: number, epoch: number, sequence: number, index: number): string {
  const tagHigh = Math.floor(tag / TWELVE);
  const sequenceHigh = Math.floor(sequence / SEQUENCE_LOW);
  const sequenceLow = sequence - sequenceHigh * SEQUENCE_LOW;
  const middle = Math.floor(sequenceLow / TWELVE);
  // 16 bits: the variant 10, the last eight of the epoch, the first six of the sequence.
  const variant = 0x8000 | ((epoch & 0xff) << 6) | sequenceHigh;
  const tagText = hex3(tagHigh >>> 12) + hex3(tagHigh);
  const last = hex3(tag % TWELVE);
  return `${tagText}${last.slice(0, 2)}-${last[2]}${hex3(epoch >>> 20)}-8${hex3(epoch >>> 8)}-${variant.toString(16)}-${hex3(middle >>> 12)}${hex3(middle)}${hex3(sequenceLow % TWELVE)}${hex3(index)}`;
}

/** Reads an id that eventId or readingId made; undefined for any other text, be it a UUID or not. */
export function parseId(uuid: string): DerivedId | undefined {
  if (
    uuid.length !== 36 ||
    uuid.charCodeAt(8) !== DASH ||
    uuid.charCodeAt(13) !== DASH ||
    uuid.charCodeAt(18) !== DASH ||
    uuid.charCodeAt(23) !== DASH
  ) {
    return undefined;
  }
  if (uuid.charCodeAt(14) !== 0x38) return undefined;
  const tagHigh = hexOf(uuid, 0, 6);
  const tagLow = hexOf(uuid, 6, 8) * 16 + hexOf(uuid, 9, 10);
  const epochHigh = hexOf(uuid, 10, 13) * TWELVE + hexOf(uuid, 15, 18);
  const variant = hexOf(uuid, 19, 23);
  const middle = hexOf(uuid, 24, 30);
  const last = hexOf(uuid, 30, 36);
  // A wrong digit makes its part, and so the sum, not a number.
  const sum = tagHigh + tagLow + epochHigh + variant + middle + last;
  if (sum !== sum || variant >> 14 !== 2) return undefined;
  return {
    tag: tagHigh * TWELVE + tagLow,
    epoch: epochHigh * 256 + ((variant >> 6) & 0xff),
    sequence: (variant & 63) * SEQUENCE_LOW + middle * TWELVE + (last >> 12),
    index: last & (TWELVE - 1),
  };
}

function hexOf(text: string, from: number, to: number): number {
  let value = 0;
  for (let i = from; i < to; i++) {
    const nibble = NIBBLE[text.charCodeAt(i)] ?? -1;
    if (nibble < 0) return NaN;
    value = value * 16 + nibble;
  }
  return value;
}
