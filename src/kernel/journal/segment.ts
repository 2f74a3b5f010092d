/**
 * A segment is one file of the log: a header, twice and in different sectors, and blocks behind it. Everything in it is sealed
 * with keys of its own, derived from the journal's key and the header's salt. The header also says how the segment before
 * it ended, so that no end can be cut off and no file taken away unseen.
 *
 *   0 magic(8) version(2) keyId(1) 0(1) prev.blocks(4) number(8) first(8) salt(32)
 *   64 prev.bytes(8) prev.first(8) prev.last(8) prev.tag(16) mac(16) 0(4) crc32(4)   = 128
 */
import { createHmac, createSecretKey, hkdfSync, randomBytes, timingSafeEqual, type KeyObject } from "node:crypto";
import { unlink } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { JournalKeys } from "./keys.ts";
import { close, open, readAt, sync, syncDirectory, writeAt } from "./disk.ts";

const MAGIC = Buffer.from("HFJOURNL");
const VERSION = 1;
const COPY_BYTES = 128;
const SECOND_COPY_AT = 4096;
const CRC_AT = 124;
const MAC_AT = 104;
const MAC_BYTES = 16;
/** Where the blocks begin. */
export const SEGMENT_HEADER_BYTES = SECOND_COPY_AT + COPY_BYTES;
const BLOCKS_UNKNOWN = 0xffff_ffff;

/** How a segment ended, in the words of the header after it. */
export interface SegmentEnd {
  readonly first: number;
  /** Its last position; `first - 1` if it stayed empty. */
  readonly last: number;
  readonly blocks: number;
  readonly bytes: number;
  readonly tag: Buffer;
}

export interface SegmentHeader {
  readonly number: number;
  /** Position of its first record. */
  readonly first: number;
  readonly salt: Buffer;
  /** Undefined: there is none before, or nobody knows how it ended. */
  readonly previous?: SegmentEnd | undefined;
}

export interface SegmentKeys {
  readonly block: KeyObject;
  readonly mac: Buffer;
}

export const segmentName = (number: number): string => `${String(number).padStart(12, "0")}.seg`;

/** Reads the number out of a segment's file name; undefined if it is none. */
export function segmentNumberOf(name: string): number | undefined {
  const digits = /^(\d{12})\.seg$/.exec(name)?.[1];
  return digits !== undefined && Number(digits) > 0 ? Number(digits) : undefined;
}

function deriveKeys(key: KeyObject, number: number, salt: Buffer): SegmentKeys {
  const bytes = Buffer.from(hkdfSync("sha256", key, salt, `holdfast/journal/segment/1/${number}`, 64));
  return { block: createSecretKey(bytes.subarray(0, 32)), mac: bytes.subarray(32) };
}

const macOf = (copy: Buffer, keys: SegmentKeys): Buffer =>
  createHmac("sha256", keys.mac).update(copy.subarray(0, MAC_AT)).digest().subarray(0, MAC_BYTES);

function encode(header: SegmentHeader, keyId: number, keys: SegmentKeys): Buffer {
  const copy = Buffer.alloc(COPY_BYTES);
  MAGIC.copy(copy);
  copy.writeUInt16LE(VERSION, 8);
  copy.writeUInt8(keyId, 10);
  copy.writeUInt32LE(header.previous?.blocks ?? BLOCKS_UNKNOWN, 12);
  copy.writeUIntLE(header.number, 16, 6);
  copy.writeUIntLE(header.first, 24, 6);
  header.salt.copy(copy, 32);
  if (header.previous) {
    copy.writeUIntLE(header.previous.bytes, 64, 6);
    copy.writeUIntLE(header.previous.first, 72, 6);
    copy.writeUIntLE(header.previous.last, 80, 6);
    header.previous.tag.copy(copy, 88);
  }
  macOf(copy, keys).copy(copy, MAC_AT);
  copy.writeUInt32LE(crc32(copy.subarray(0, CRC_AT)), CRC_AT);
  return copy;
}

export type HeaderVerdict =
  | { readonly state: "good"; readonly header: SegmentHeader; readonly keys: SegmentKeys }
  | { readonly state: "newer"; readonly version: number }
  /** Whole, but not made with this key. */
  | { readonly state: "stranger" }
  | { readonly state: "damaged" };

function judge(copy: Buffer, number: number, journalKeys: JournalKeys): HeaderVerdict {
  if (!copy.subarray(0, 8).equals(MAGIC) || crc32(copy.subarray(0, CRC_AT)) !== copy.readUInt32LE(CRC_AT))
    return { state: "damaged" };
  const version = copy.readUInt16LE(8);
  if (version > VERSION) return { state: "newer", version };
  const key = journalKeys.of(copy.readUInt8(10));
  if (!key) return { state: "stranger" };
  const salt = Buffer.from(copy.subarray(32, 64));
  const keys = deriveKeys(key, copy.readUIntLE(16, 6), salt);
  const whole = timingSafeEqual(macOf(copy, keys), copy.subarray(MAC_AT, MAC_AT + MAC_BYTES));
  if (!whole) return { state: "stranger" };
  // Somebody has renamed the file: its records belong elsewhere.
  if (copy.readUIntLE(16, 6) !== number) return { state: "damaged" };
  const blocks = copy.readUInt32LE(12);
  const previous = {
    first: copy.readUIntLE(72, 6),
    last: copy.readUIntLE(80, 6),
    blocks,
    bytes: copy.readUIntLE(64, 6),
    tag: Buffer.from(copy.subarray(88, 104)),
  };
  return {
    state: "good",
    keys,
    header: { number, first: copy.readUIntLE(24, 6), salt, previous: blocks === BLOCKS_UNKNOWN ? undefined : previous },
  };
}

/** Reads the header of segment `number`; where one of its copies is damaged, the other one is taken and `healed` writes it back. */
export async function readHeader(
  fd: number,
  number: number,
  keys: JournalKeys,
): Promise<HeaderVerdict & { heal?: Uint8Array; healAt?: number }> {
  const copy = Buffer.alloc(COPY_BYTES);
  const second = Buffer.alloc(COPY_BYTES);
  await readAt(fd, copy, 0);
  await readAt(fd, second, SECOND_COPY_AT);
  const verdict = judge(copy, number, keys);
  if (verdict.state === "good")
    return second.equals(copy) ? verdict : { ...verdict, heal: copy, healAt: SECOND_COPY_AT };
  const other = judge(second, number, keys);
  if (other.state === "good") return { ...other, heal: second, healAt: 0 };
  return verdict.state === "damaged" ? other : verdict;
}

/** Makes the file of a new segment durable, name included, and answers its descriptor. A file that cannot be finished is removed. */
export async function createSegment(
  directory: string,
  journalKeys: JournalKeys,
  wanted: Omit<SegmentHeader, "salt">,
): Promise<{ fd: number; keys: SegmentKeys }> {
  const path = join(directory, segmentName(wanted.number));
  const header = { ...wanted, salt: randomBytes(32) };
  const { id, key } = journalKeys.newest;
  const keys = deriveKeys(key, header.number, header.salt);
  // "w+": what may lie there under this name is an unfinished file that never held a record (recovery has judged it).
  const fd = await open(path, "w+");
  try {
    const copy = encode(header, id, keys);
    await writeAt(fd, [copy], 0);
    await writeAt(fd, [copy], SECOND_COPY_AT);
    await sync(fd);
    await syncDirectory(directory);
    return { fd, keys };
  } catch (caught) {
    await close(fd);
    await unlink(path);
    throw caught;
  }
}
