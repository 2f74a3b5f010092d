/**
 * A block is the unit of sealing: a group of records, encrypted and authenticated as one.
 *
 *   0 mark(4) bodyBytes(4) number(4) first(6) type(1) 0(1) count(4) noncePrefix(8) | 32 tag(16) | 48 crc32(4) | 52 body
 *
 * The checksum makes a header believable without the key and without the body: damage is stepped over by length, or by
 * looking for the next mark. What the header says is trusted for nothing but that; the tag covers header and body.
 */
import { createCipheriv, createDecipheriv, type KeyObject } from "node:crypto";
import { crc32 } from "node:zlib";

export const BLOCK_HEADER_BYTES = 52;
const AUTHENTICATED_BYTES = 32;
const TAG_BYTES = 16;
const CRC_AT = 48;
export const NONCE_PREFIX_BYTES = 8;

/** Starts every block; has no zero byte and no text, so that neither padding nor a plain file looks like one. */
export const MARK = Buffer.from([0xd7, 0x9c, 0xe1, 0xb5]);
const MARK_NUMBER = MARK.readUInt32LE(0);

export const BLOCK_RECORDS = 0;
/** No records; `first` is the next position: positions before it were lost, or may have been handed out, and are not used again. */
export const BLOCK_SKIP = 1;
/** No records: the log goes on in the next segment, so that this segment's being the last one means a lost file. */
export const BLOCK_END = 2;

export interface BlockHeader {
  readonly bodyBytes: number;
  /** 0, 1, 2, ... in its segment. */
  readonly number: number;
  /** Position of its first record. */
  readonly first: number;
  readonly type: number;
  readonly count: number;
}

/** Reads a header at `at`; undefined unless mark and checksum fit. */
export function parseBlockHeader(bytes: Buffer, at: number): BlockHeader | undefined {
  if (bytes.byteLength - at < BLOCK_HEADER_BYTES || bytes.readUInt32LE(at) !== MARK_NUMBER) return undefined;
  if (crc32(bytes.subarray(at, at + CRC_AT)) !== bytes.readUInt32LE(at + CRC_AT)) return undefined;
  return {
    bodyBytes: bytes.readUInt32LE(at + 4),
    number: bytes.readUInt32LE(at + 8),
    first: bytes.readUIntLE(at + 12, 6),
    type: bytes.readUInt8(at + 18),
    count: bytes.readUInt32LE(at + 20),
  };
}

/** Cuts the tag out of a header. */
export const tagOf = (header: Buffer): Buffer =>
  Buffer.from(header.subarray(AUTHENTICATED_BYTES, AUTHENTICATED_BYTES + TAG_BYTES));

const nonce = Buffer.alloc(12);
const associated = Buffer.alloc(AUTHENTICATED_BYTES + 8);

// One nonce per (segment key, opening of the journal, block number). The random prefix is there because a block that was
// cut off after a crash may still lie in the disk's free sectors when its number is given to other plaintext.
function prepare(header: Buffer, at: number, segment: number): void {
  header.copy(nonce, 0, at + 24, at + 32);
  header.copy(nonce, 8, at + 8, at + 12);
  header.copy(associated, 0, at, at + AUTHENTICATED_BYTES);
  associated.writeUIntLE(segment, AUTHENTICATED_BYTES, 6);
}

/** Seals records: answers header and body, which belong behind each other on the disk. */
export function sealBlock(
  key: KeyObject,
  segment: number,
  prefix: Buffer,
  block: Omit<BlockHeader, "bodyBytes">,
  plain: Uint8Array,
): { header: Buffer; body: Buffer } {
  const header = Buffer.alloc(BLOCK_HEADER_BYTES);
  header.writeUInt32LE(MARK_NUMBER, 0);
  header.writeUInt32LE(plain.byteLength, 4);
  header.writeUInt32LE(block.number, 8);
  header.writeUIntLE(block.first, 12, 6);
  header.writeUInt8(block.type, 18);
  header.writeUInt32LE(block.count, 20);
  prefix.copy(header, 24, 0, NONCE_PREFIX_BYTES);
  prepare(header, 0, segment);
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associated);
  const body = cipher.update(plain);
  cipher.final();
  cipher.getAuthTag().copy(header, AUTHENTICATED_BYTES);
  header.writeUInt32LE(crc32(header.subarray(0, CRC_AT)), CRC_AT);
  return { header, body };
}

/** Opens the block at `at`; undefined if a single bit of it, or its place, is not what was sealed. */
export function openBlock(
  key: KeyObject,
  segment: number,
  bytes: Buffer,
  at: number,
  bodyBytes: number,
): Buffer | undefined {
  prepare(bytes, at, segment);
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associated);
  decipher.setAuthTag(bytes.subarray(at + AUTHENTICATED_BYTES, at + AUTHENTICATED_BYTES + TAG_BYTES));
  const from = at + BLOCK_HEADER_BYTES;
  const plain = decipher.update(bytes.subarray(from, from + bodyBytes));
  try {
    decipher.final();
    return plain;
  } catch {
    return undefined; // the one error that `final` knows: the tag does not fit
  }
}
