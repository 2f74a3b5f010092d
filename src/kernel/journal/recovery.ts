/**
 * Opens what is in the directory, whatever has happened to it. Reads all segment headers and walks the last segment; damage
 * elsewhere is found when it is read. Nothing readable is given up, and a position that may have been handed out never is again.
 */
import { readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "../error.ts";
import { BLOCK_END, BLOCK_HEADER_BYTES, parseBlockHeader } from "./block.ts";
import { close, isDiskFull, open, readAt, statBytes, writeAt } from "./disk.ts";
import { JOURNAL_DISK_FULL, JOURNAL_KEY_WRONG, JOURNAL_VERSION_NEWER } from "./errors.ts";
import type { JournalKeys } from "./keys.ts";
import { LEDGER_NAME, type Ledger } from "./ledger.ts";
import {
  createSegment,
  readHeader,
  SEGMENT_HEADER_BYTES,
  segmentName,
  segmentNumberOf,
  type HeaderVerdict,
  type SegmentEnd,
} from "./segment.ts";
import { Segments, segmentOf, type Segment } from "./segments.ts";
import { RESERVE_NAME } from "./reserve.ts";
import { openTail, recordsMaxIn } from "./tail.ts";
import { findBlock, placeAfter, Window, type Place } from "./walk.ts";
import type { Limits, Tail } from "./writer.ts";

const OWN_NAMES = new Set(["lock", "lock-journal", LEDGER_NAME, `${LEDGER_NAME}.new`, RESERVE_NAME]);

/** An unreadable file this far behind the last good segment was never one of ours. */
const FOREIGN_DISTANCE = 64;

/** Instead of an offset: the loss is of what came before that segment. */
const BEFORE = -1;

type Verdict = HeaderVerdict & { heal?: Uint8Array; healAt?: number };
type Good = Extract<HeaderVerdict, { state: "good" }>;

interface File {
  readonly number: number;
  readonly bytes: number;
  readonly verdict: Verdict;
}

/** Opens or makes the log in `directory`; throws JOURNAL_KEY_WRONG or JOURNAL_VERSION_NEWER before it has changed anything. */
export async function recover(
  directory: string,
  keys: JournalKeys,
  ledger: Ledger,
  limits: Limits,
): Promise<{ segments: Segments; tail: Tail }> {
  const files = await readFiles(directory, keys, ledger);
  const list = new Segments(directory, keys, []);
  let before: { good: Good; segment: Segment } | undefined;
  let dead: Segment[] = [];
  for (const file of files) {
    const good = file.verdict.state === "good" ? file.verdict : undefined;
    const segment = segmentOf(file.number, good?.header.first ?? 0, file.bytes, !good);
    list.push(segment);
    if (!good) {
      dead.push(segment);
      continue;
    }
    await heal(directory, file, ledger);
    await tellHole(directory, before?.segment, { file, good }, dead, ledger);
    if (before?.segment.number === file.number - 1) {
      before.segment.end = good.header.previous;
      await tellTruncated(directory, before.segment, ledger);
    }
    before = { good, segment };
    dead = [];
  }
  const tail = await openEnd(list, before, dead, ledger, limits);
  const lowest = list.list[0];
  if (lowest) ledger.setLowest(lowest.number, lowest.first);
  try {
    await ledger.save();
  } catch (caught) {
    // A full disk is no reason not to start; the followers may be about to make room.
    ledger.warn({ err: caught }, "the journal's ledger could not be written; its losses will be reported again");
  }
  return { segments: list, tail };
}

/** Finds and judges the files, in order; removes those that were trimmed or never finished. */
async function readFiles(directory: string, keys: JournalKeys, ledger: Ledger): Promise<File[]> {
  const files: File[] = [];
  const found = await readdir(directory, { withFileTypes: true });
  for (const { name, isRegular } of found
    .map((one) => ({ name: one.name, isRegular: one.isFile() }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const number = segmentNumberOf(name);
    if (number !== undefined && isRegular) files.push(await judge(directory, name, number, keys));
    else if (!OWN_NAMES.has(name)) tellForeign(name, ledger);
  }
  const good = files.filter((file) => file.verdict.state === "good");
  const strangers = files.filter((file) => file.verdict.state === "stranger");
  if (good.length === 0 && strangers.length > 0)
    throw fail(JOURNAL_KEY_WRONG, `the journal in ${directory} was made with another key`);
  const highest = good.at(-1)?.number ?? Infinity;
  const kept: File[] = [];
  for (const file of files) {
    const isGood = file.verdict.state === "good";
    // A crash while a segment was made leaves a file in which no record can have been; while trimming, one that nobody wants.
    const isUnfinished = !isGood && file.bytes <= SEGMENT_HEADER_BYTES && (file.number > highest || good.length === 0);
    if (!isGood && file.number > highest + FOREIGN_DISTANCE) tellForeign(segmentName(file.number), ledger);
    else if (file.number < ledger.lowest || isUnfinished) await unlink(join(directory, segmentName(file.number)));
    else kept.push(file);
  }
  return kept;
}

function tellForeign(name: string, ledger: Ledger): void {
  if (ledger.isNews(`file:${name}`))
    ledger.warn({ file: name }, "a file that is not the journal's lies in its directory; it is left alone");
}

async function judge(directory: string, name: string, number: number, keys: JournalKeys): Promise<File> {
  const fd = await open(join(directory, name), "r");
  try {
    const verdict = await readHeader(fd, number, keys);
    if (verdict.state === "newer") {
      throw fail(
        JOURNAL_VERSION_NEWER,
        `the journal in ${directory} has version ${verdict.version} in ${name}; this Holdfast reads version 1`,
      );
    }
    return { number, bytes: await statBytes(fd), verdict };
  } finally {
    await close(fd);
  }
}

/** Writes the good copy of a header over the damaged one. */
async function heal(directory: string, { number, verdict }: File, ledger: Ledger): Promise<void> {
  if (!verdict.heal || verdict.healAt === undefined) return;
  const fd = await open(join(directory, segmentName(number)), "r+");
  try {
    await writeAt(fd, [verdict.heal], verdict.healAt);
  } catch (caught) {
    ledger.warn(
      { err: caught, segment: segmentName(number) },
      "a damaged copy of a segment's header could not be mended",
    );
    return;
  } finally {
    await close(fd);
  }
  ledger.warn(
    { segment: segmentName(number) },
    "a damaged copy of a segment's header was mended from the other one; nothing is lost",
  );
}

/** Reports segments that are missing or unreadable before a good one, as one loss. */
async function tellHole(
  directory: string,
  before: Segment | undefined,
  now: { file: File; good: Good },
  dead: readonly Segment[],
  ledger: Ledger,
): Promise<void> {
  const { number } = now.file;
  const { header } = now.good;
  const firstNumber = before ? before.number + 1 : Math.min(dead[0]?.number ?? number, ledger.lowest || number);
  if (firstNumber === number) return;
  let from = number - firstNumber === 1 ? header.previous?.first : undefined;
  const bytes = dead.reduce((sum, segment) => sum + segment.bytes, 0);
  if (before) from ??= (await endOf(directory, before.number, before.first, before.bytes)).first;
  else if (ledger.lowest > 0) from ??= ledger.position;
  // The ledger is lost as well: nobody knows where the unreadable files began, only how much they can have held.
  const firstPosition = from ?? Math.max(1, header.first - recordsMaxIn(bytes));
  for (const segment of dead) segment.first = firstPosition;
  if (firstPosition >= header.first) return;
  const missing = number - firstNumber - dead.length;
  const reason = [
    missing > 0 ? `${missing} segment file(s) are missing` : "",
    dead.length > 0 ? `${dead.length} segment file(s) have an unreadable header` : "",
  ]
    .filter(Boolean)
    .join(", ");
  ledger.lose(
    { reason, segment: segmentName(firstNumber), firstPosition, lastPosition: header.first - 1, bytes },
    number,
    BEFORE,
  );
}

/** Finds the place behind a segment's last recognisable block: from its mark of the end, or by walking all of it where that is damaged. */
async function endOf(directory: string, number: number, first: number, bytes: number): Promise<Place> {
  const fd = await open(join(directory, segmentName(number)), "r");
  try {
    const tail = Buffer.alloc(BLOCK_HEADER_BYTES);
    const offset = Math.max(0, bytes - BLOCK_HEADER_BYTES);
    await readAt(fd, tail, offset);
    const header = parseBlockHeader(tail, 0);
    if (header?.type === BLOCK_END) return placeAfter({ ...header, offset });
    const window = new Window(fd, bytes);
    let place: Place = { number: 0, first, offset: SEGMENT_HEADER_BYTES };
    for (let found = await findBlock(window, place); found; found = await findBlock(window, place))
      place = placeAfter(found);
    return place;
  } finally {
    await close(fd);
  }
}

/** Reports a finished segment that is shorter than the header after it says. */
async function tellTruncated(directory: string, segment: Segment, ledger: Ledger): Promise<void> {
  const { end, name, number } = segment;
  if (!end || segment.bytes >= end.bytes) return;
  const place = await endOf(directory, number, segment.first, segment.bytes);
  if (place.first > end.last) return;
  const reason = "the end of a segment is damaged or cut off";
  const loss = { reason, segment: name, firstPosition: place.first, lastPosition: end.last };
  ledger.lose({ ...loss, bytes: end.bytes - segment.bytes }, number, place.offset);
}

/** Makes the end of the log ready to be written on; in a new segment where the last one cannot be continued. */
async function openEnd(
  list: Segments,
  last: { good: Good; segment: Segment } | undefined,
  dead: readonly Segment[],
  ledger: Ledger,
  limits: Limits,
): Promise<Tail> {
  const deadBytes = dead.reduce((sum, segment) => sum + segment.bytes, 0);
  const number = (list.list.at(-1)?.number ?? 0) + 1;
  if (!last) {
    const isNew = dead.length === 0 && ledger.lowest === 0;
    if (isNew) return startSegment(list, 1, 1);
    // Nothing readable at all: go on where no position can have been given out, since a journal holds at most sizeBytesMax.
    const firstPosition = Math.max(1, ledger.position);
    for (const segment of dead) segment.first = firstPosition;
    ledger.lose({
      reason: "all segment files are missing or unreadable",
      segment: segmentName(Math.max(1, ledger.lowest)),
      firstPosition,
      bytes: deadBytes,
    });
    return startSegment(
      list,
      Math.max(number, ledger.lowest),
      firstPosition + recordsMaxIn(Math.max(limits.sizeBytesMax, deadBytes)),
    );
  }
  const { tail, end, isEnded } = await openTail(list, last.segment, last.good.keys, ledger);
  if (!isEnded && dead.length === 0) return tail;
  await close(tail.fd);
  for (const segment of dead) segment.first = tail.next;
  const lost = last.segment.number + 1;
  const missing = Math.max(number - lost, isEnded ? 1 : 0) - dead.length;
  const reason =
    dead.length === 0 ? "the last segment file is missing" : "the last segment file has an unreadable header";
  const loss = { reason, segment: segmentName(lost), firstPosition: tail.next, bytes: deadBytes };
  const next = tail.next + recordsMaxIn(deadBytes + missing * (limits.segmentBytesMax + limits.queueBytesMax));
  if (dead.length === 0) {
    // The missing file gets a successor of the same name, which says how the one before it ended.
    ledger.lose(loss);
    last.segment.end = end;
    return startSegment(list, number, next, end);
  }
  // The unreadable file stays, in the middle from now on, until it is trimmed.
  ledger.lose(loss, number, BEFORE);
  return startSegment(list, number, next);
}

async function startSegment(list: Segments, number: number, next: number, previous?: SegmentEnd): Promise<Tail> {
  try {
    const { fd, keys } = await createSegment(list.directory, list.keys, { number, first: next, previous });
    list.push(segmentOf(number, next, SEGMENT_HEADER_BYTES));
    return { fd, keys, blocks: 0, tag: Buffer.alloc(16), next };
  } catch (caught) {
    if (!isDiskFull(caught)) throw caught;
    throw fail(JOURNAL_DISK_FULL, `the disk under ${list.directory} is full: the journal cannot be started`, {
      cause: caught,
    });
  }
}
