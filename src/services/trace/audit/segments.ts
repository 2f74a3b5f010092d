/**
 * The files of the audit trail: segments of sealed frames, only ever added to. A frame is a length and a batch of lines,
 * compressed and sealed for its place, so that a frame elsewhere, or in a file with another name, does not open.
 */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
} from "node:fs";
import { readFileSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { fail } from "../../../kernel/error.ts";
import { openBytes, SEAL_OVERHEAD_BYTES, sealBytes } from "../../../kernel/seal/bytes.ts";
import { TRACE_AUDIT_FULL } from "../audit.api.ts";

const LENGTH_BYTES = 4;
/** A batch of the largest notes, compressed, is far below it. */
const FRAME_BYTES_MAX = 4 * 1024 * 1024;
const NAME = /^(\d{16})-(\d{12})\.audit$/;

export interface Segment {
  readonly name: string;
  /** Number of its first line. */
  readonly first: number;
  /** What the retention clock said when it was begun. */
  readonly keptSeconds: number;
  sizeBytes: number;
}

/** What is in a segment: batches of lines, and what was wrong; `torn` is where a last frame that is not whole begins. */
export interface Read {
  readonly lines: string[];
  readonly damage: string[];
  readonly frames: number;
  readonly torn: number | undefined;
}

/** Lists the segments of a directory, oldest first. */
export function segmentsIn(directory: string): Segment[] {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return readdirSync(directory)
    .sort()
    .flatMap((name) => {
      const [, first, kept] = NAME.exec(name) ?? [];
      return first === undefined
        ? []
        : [{ name, first: Number(first), keptSeconds: Number(kept), sizeBytes: sizeOf(join(directory, name)) }];
    });
}

const sizeOf = (path: string): number => {
  const fd = openSync(path, "r");
  try {
    return fstatSync(fd).size;
  } finally {
    closeSync(fd);
  }
};

const purposeOf = (name: string, frame: number): string => `holdfast audit ${name} ${frame}`;

/** Reads a segment to its end, or to where it is damaged. */
export function readSegment(directory: string, name: string, key: Uint8Array): Read {
  const bytes = readFileSync(join(directory, name));
  const lines: string[] = [];
  let frames = 0;
  for (let at = 0; at < bytes.length; frames++) {
    const length = at + LENGTH_BYTES <= bytes.length ? bytes.readUInt32BE(at) : Number.NaN;
    if (length < SEAL_OVERHEAD_BYTES || length > FRAME_BYTES_MAX)
      return { lines, frames, torn: undefined, damage: [`${name} is damaged at byte ${at}`] };
    const end = at + LENGTH_BYTES + length;
    if (Number.isNaN(length) || end > bytes.length)
      return { lines, frames, torn: at, damage: [`${name} ends within a frame, at byte ${at}`] };
    try {
      const sealed = bytes.subarray(at + LENGTH_BYTES, end);
      const plain = zstdDecompressSync(openBytes(key, sealed, purposeOf(name, frames)));
      lines.push(...(JSON.parse(plain.toString()) as string[]));
    } catch {
      // Whatever was altered: without the key nothing can be made to open here.
      return { lines, frames, torn: undefined, damage: [`${name} is damaged at byte ${at}`] };
    }
    at = end;
  }
  return { lines, frames, torn: undefined, damage: [] };
}

/** The segment that is written to. */
export class SegmentWriter {
  readonly segment: Segment;
  readonly #fd: number;
  readonly #key: Uint8Array;
  #frames: number;

  /** Opens a segment to go on after its whole frames, or begins it. */
  constructor(directory: string, segment: Segment, key: Uint8Array, frames = 0) {
    this.segment = segment;
    this.#key = key;
    this.#frames = frames;
    this.#fd = openSync(join(directory, segment.name), frames === 0 ? "ax" : "a", 0o600);
    if (frames === 0) syncDirectory(directory);
  }

  /** Adds a frame; it is on the disk when this returns. TRACE_AUDIT_FULL, and then nothing of it is there. */
  add(lines: readonly string[]): void {
    const { segment } = this;
    const sealed = sealBytes(
      this.#key,
      zstdCompressSync(Buffer.from(JSON.stringify(lines))),
      purposeOf(segment.name, this.#frames),
    );
    const frame = Buffer.alloc(LENGTH_BYTES + sealed.length);
    frame.writeUInt32BE(sealed.length);
    sealed.copy(frame, LENGTH_BYTES);
    try {
      for (let at = 0; at < frame.length;) at += writeSync(this.#fd, frame, at);
      fdatasyncSync(this.#fd);
    } catch (cause) {
      ftruncateSync(this.#fd, segment.sizeBytes);
      throw fail(TRACE_AUDIT_FULL, "the audit trail cannot be written", { cause, retryAfterS: 1 });
    }
    segment.sizeBytes += frame.length;
    this.#frames++;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Names a new segment. */
export const newSegment = (first: number, keptSeconds: number): Segment => ({
  name: `${String(first).padStart(16, "0")}-${String(keptSeconds).padStart(12, "0")}.audit`,
  first,
  keptSeconds,
  sizeBytes: 0,
});

/** Cuts off a frame that a power cut left unfinished: nobody was told that it is kept. */
export function cutAt(directory: string, name: string, sizeBytes: number): void {
  const fd = openSync(join(directory, name), "r+");
  ftruncateSync(fd, sizeBytes);
  fsyncSync(fd);
  closeSync(fd);
}

export function removeSegment(directory: string, name: string): void {
  unlinkSync(join(directory, name));
  syncDirectory(directory);
}

function syncDirectory(directory: string): void {
  const fd = openSync(directory, "r");
  fsyncSync(fd);
  closeSync(fd);
}
