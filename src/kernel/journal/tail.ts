import { randomBytes } from "node:crypto";
import { join } from "node:path";
import {
  BLOCK_END,
  BLOCK_HEADER_BYTES,
  BLOCK_RECORDS,
  BLOCK_SKIP,
  NONCE_PREFIX_BYTES,
  openBlock,
  parseBlockHeader,
  sealBlock,
  tagOf,
} from "./block.ts";
import { open, sync, truncate, writeAt } from "./disk.ts";
import type { Ledger, Loss } from "./ledger.ts";
import { RECORD_BYTES_MIN } from "./records.ts";
import { SEGMENT_HEADER_BYTES, type SegmentEnd, type SegmentKeys } from "./segment.ts";
import type { Segment, Segments } from "./segments.ts";
import { BlockIndex, findBlock, placeAfter, Window, type Found, type Place } from "./walk.ts";
import type { Tail } from "./writer.ts";

/** The end of the last segment whose blocks are opened and not only counted: as much as one write may have torn. */
const VERIFY_BYTES = 4 * 1024 * 1024;

/** Bounds how many records were in so many bytes that nobody can read any more. */
export const recordsMaxIn = (bytes: number): number => Math.ceil(bytes / RECORD_BYTES_MIN);

export interface OpenedTail {
  readonly tail: Tail;
  /** How the segment ends, for the header of the next one. */
  readonly end: SegmentEnd;
  /** It says that the log goes on in another segment. */
  readonly isEnded: boolean;
}

interface Walked {
  /** Behind the last block that is good. */
  good: Place;
  tag: Buffer;
  /** Behind the last block that can be recognised. */
  place: Place;
  isEnded: boolean;
}

/** Walks the last segment to its end, reports what is damaged in it, cuts off what a crash has torn, and makes it ready to be written on. */
export async function openTail(
  list: Segments,
  segment: Segment,
  keys: SegmentKeys,
  ledger: Ledger,
): Promise<OpenedTail> {
  const fd = await open(join(list.directory, segment.name), "r+");
  const fileBytes = segment.bytes;
  const window = new Window(fd, fileBytes);
  const walked = await walk(window, segment, keys, ledger);
  const { good, tag } = walked;
  let next = walked.place.first;
  if (!walked.isEnded && fileBytes > good.offset) next = tellTorn(segment, window, walked, ledger);
  const end: SegmentEnd = {
    first: segment.first,
    last: next - 1,
    blocks: good.number,
    bytes: Math.max(good.offset, SEGMENT_HEADER_BYTES),
    tag,
  };
  const tail: Tail = { fd, keys, blocks: good.number, tag, next };
  if (!walked.isEnded && fileBytes !== end.bytes) await cut(list, segment, tail, end.bytes, good, ledger);
  return {
    tail,
    end: { ...end, blocks: tail.blocks, bytes: walked.isEnded ? end.bytes : segment.bytes, tag: tail.tag },
    isEnded: walked.isEnded,
  };
}

async function walk(window: Window, segment: Segment, keys: SegmentKeys, ledger: Ledger): Promise<Walked> {
  const start: Place = { number: 0, first: segment.first, offset: SEGMENT_HEADER_BYTES };
  const walked: Walked = { good: start, tag: Buffer.alloc(16), place: start, isEnded: false };
  // Damage is a loss in the middle only once something good is found behind it; otherwise it is part of the torn end.
  let doubts: { loss: Loss; offset: number }[] = [];
  segment.index = new BlockIndex();
  for (;;) {
    const { place } = walked;
    const found = await findBlock(window, place);
    if (!found) return walked;
    if (found.first > place.first) {
      const loss = {
        reason: "blocks are damaged",
        segment: segment.name,
        firstPosition: place.first,
        lastPosition: found.first - 1,
        bytes: found.offset - place.offset,
      };
      // A block may begin further on than expected with nothing between: positions that were skipped, and told, before.
      if (found.number !== place.number || found.offset !== place.offset) doubts.push({ loss, offset: place.offset });
    }
    walked.place = placeAfter(found);
    if (!(await isGood(window, segment, keys, found))) {
      const loss = {
        reason: "a block is damaged",
        segment: segment.name,
        firstPosition: found.first,
        lastPosition: found.first + found.count - 1,
        bytes: BLOCK_HEADER_BYTES + found.bodyBytes,
      };
      doubts.push({ loss, offset: found.offset });
      continue;
    }
    for (const { loss, offset } of doubts) ledger.lose(loss, segment.number, offset);
    doubts = [];
    if (found.type === BLOCK_END) return { ...walked, good: found, isEnded: true };
    walked.good = walked.place;
    walked.tag = tagOf(
      window.get(found.offset, BLOCK_HEADER_BYTES) ?? (await window.load(found.offset, BLOCK_HEADER_BYTES)),
    );
    segment.index.note(found);
  }
}

async function isGood(window: Window, segment: Segment, keys: SegmentKeys, found: Found): Promise<boolean> {
  if (found.type === BLOCK_RECORDS && found.offset < window.limit - VERIFY_BYTES) return true;
  const bytes = BLOCK_HEADER_BYTES + found.bodyBytes;
  const sealed = window.get(found.offset, bytes) ?? (await window.load(found.offset, bytes));
  return openBlock(keys.block, segment.number, sealed, 0, found.bodyBytes) !== undefined;
}

/** Reports the torn end and answers the next position that was certainly never handed out. */
function tellTorn(segment: Segment, window: Window, { good, place }: Walked, ledger: Ledger): number {
  const rest = window.limit - place.offset;
  const header =
    rest > 0 ? parseBlockHeader(window.get(place.offset, BLOCK_HEADER_BYTES) ?? Buffer.alloc(0), 0) : undefined;
  let next = place.first;
  let isKnown = true;
  if (header && header.number === place.number && header.first >= place.first) next = header.first + header.count;
  else if (rest > 0) {
    next = place.first + recordsMaxIn(rest);
    isKnown = false;
  }
  if (next > good.first) {
    const loss: Loss = {
      reason:
        "the end of the last segment is torn or damaged and was cut off (a power cut or kill while writing: then it was never acknowledged)",
      segment: segment.name,
      firstPosition: good.first,
      bytes: window.limit - good.offset,
    };
    ledger.lose(isKnown ? { ...loss, lastPosition: next - 1 } : loss);
  }
  return next;
}

/** Cuts the file, and writes down where positions go on: those that were in the torn end may be known to somebody. */
async function cut(
  list: Segments,
  segment: Segment,
  tail: Tail,
  bytes: number,
  good: Place,
  ledger: Ledger,
): Promise<void> {
  await truncate(tail.fd, bytes);
  await sync(tail.fd);
  list.setBytes(segment, bytes);
  if (tail.next <= good.first) return;
  const { header } = sealBlock(
    tail.keys.block,
    segment.number,
    randomBytes(NONCE_PREFIX_BYTES),
    { number: tail.blocks, first: tail.next, type: BLOCK_SKIP, count: 0 },
    new Uint8Array(0),
  );
  try {
    await writeAt(tail.fd, [header], bytes);
    await sync(tail.fd);
  } catch (caught) {
    // On a full disk the next append carries the same information.
    await truncate(tail.fd, bytes);
    ledger.warn(
      { err: caught, segment: segment.name },
      "the positions that a torn end skips could not be written down yet",
    );
    return;
  }
  list.setBytes(segment, bytes + header.byteLength);
  tail.blocks++;
  tail.tag = tagOf(header);
}
