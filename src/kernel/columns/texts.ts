/** Runs of texts and of byte strings: a dictionary where they repeat, zstd where it pays. */
import { isUtf8 } from "node:buffer";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { malformed } from "./bytes.ts";
import type { Reader } from "./reader.ts";
import type { Writer } from "./writer.ts";
import { readIntegers, writeIntegers } from "./integers.ts";

/** Less than this zstd does not make smaller, or not enough to be worth its call. */
const ZSTD_MIN_BYTES = 96;
const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };
const DICTIONARY_MIN_TEXTS = 4;

const PLAIN = 0;
const DICTIONARY = 1;
// Flags beside a body's length.
const WIDE = 1;
const COMPRESSED = 2;

/** Writes bytes with their length, compressed where it pays; `wide` is a flag for the reader. */
export function writeBody(w: Writer, bytes: Uint8Array, wide = 0, compressFrom = ZSTD_MIN_BYTES): void {
  if (bytes.length >= compressFrom && bytes.length <= w.inflatable) {
    const small = zstdCompressSync(bytes, ZSTD);
    if (small.length + 4 < bytes.length) {
      w.inflatable -= bytes.length;
      w.varint(small.length * 4 + COMPRESSED + wide);
      w.varint(bytes.length);
      w.raw(small);
      return;
    }
  }
  w.varint(bytes.length * 4 + wide);
  w.raw(bytes);
}

/** Reads what writeBody wrote; the bytes may be a part of the message's own. */
export function readBody(r: Reader): { bytes: Buffer; wide: boolean } {
  const head = r.varint();
  const length = Math.floor(head / 4);
  const wide = head % 2 === WIDE;
  if (head % 4 < COMPRESSED) return { bytes: r.raw(length), wide };
  const size = r.varint();
  r.inflate(size);
  return { bytes: inflate(r.raw(length), size), wide };
}

function inflate(small: Uint8Array, size: number): Buffer {
  let bytes: Buffer;
  try {
    // maxOutputLength bounds a bomb; it must be at least 1.
    bytes = zstdDecompressSync(small, { maxOutputLength: Math.max(1, size) });
  } catch (cause) {
    throw malformed(`a part cannot be inflated (${(cause as Error).message})`);
  }
  if (bytes.length !== size) throw malformed(`a part inflates to ${bytes.length} bytes, not the ${size} it says`);
  return bytes;
}

function writeJoined(w: Writer, text: string): void {
  // Half a surrogate pair has no UTF-8: such texts, which nearly nobody sends, are kept as UTF-16.
  const wide = !text.isWellFormed();
  writeBody(w, Buffer.from(text, wide ? "utf16le" : "utf8"), wide ? WIDE : 0);
}

function readJoined(r: Reader): string {
  const { bytes, wide } = readBody(r);
  if (wide) return bytes.toString("utf16le");
  if (!isUtf8(bytes)) throw malformed("a text that is not UTF-8");
  return bytes.toString("utf8");
}

/** Writes texts, to the character whatever they hold. */
export function writeTexts(w: Writer, texts: readonly string[]): void {
  if (texts.length === 1) {
    writeJoined(w, texts[0]);
    return;
  }
  const dictionary = texts.length < DICTIONARY_MIN_TEXTS ? undefined : dictionaryOf(texts);
  w.byte(dictionary ? DICTIONARY : PLAIN);
  if (!dictionary) {
    writePlain(w, texts);
    return;
  }
  w.varint(dictionary.texts.length);
  writePlain(w, dictionary.texts);
  writeIntegers(w, dictionary.indexes, texts.length);
}

/** Numbers the different texts by first appearance; undefined when more than half of them differ. */
function dictionaryOf(texts: readonly string[]): { texts: string[]; indexes: Float64Array } | undefined {
  const known = new Map<string, number>();
  const indexes = new Float64Array(texts.length);
  const most = texts.length >> 1;
  for (let i = 0; i < texts.length; i++) {
    const text = texts[i];
    let index = known.get(text);
    if (index === undefined) {
      index = known.size;
      if (index >= most) return undefined;
      known.set(text, index);
    }
    indexes[i] = index;
  }
  return { texts: [...known.keys()], indexes };
}

function writePlain(w: Writer, texts: readonly string[]): void {
  const lengths = new Float64Array(texts.length);
  for (let i = 0; i < texts.length; i++) lengths[i] = texts[i].length;
  writeIntegers(w, lengths, texts.length);
  // Cut by UTF-16 units again: a pair that only the joining makes does no harm.
  writeJoined(w, texts.join(""));
}

/** Reads `count` texts. Fails EVENTS_MALFORMED. */
export function readTexts(r: Reader, count: number): string[] {
  if (count === 1) return [readJoined(r)];
  const form = r.byte();
  if (form === PLAIN) return readPlain(r, count);
  if (form !== DICTIONARY) throw malformed(`an unknown form of texts ${form}`);
  const size = r.count(count, "texts in a dictionary");
  const words = readPlain(r, size);
  const indexes = new Float64Array(count);
  readIntegers(r, indexes, count);
  const texts = new Array<string>(count);
  for (let i = 0; i < count; i++) {
    const text = words[indexes[i]];
    if (text === undefined) throw malformed("a text that its dictionary has not");
    texts[i] = text;
  }
  return texts;
}

function readPlain(r: Reader, count: number): string[] {
  const lengths = readLengths(r, count);
  const joined = readJoined(r);
  const texts = new Array<string>(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const end = at + lengths[i];
    texts[i] = joined.slice(at, end);
    at = end;
  }
  if (at !== joined.length) throw malformed("texts of other lengths than said");
  return texts;
}

function readLengths(r: Reader, count: number): Float64Array {
  const lengths = new Float64Array(count);
  readIntegers(r, lengths, count);
  for (let i = 0; i < count; i++) if (!(lengths[i] >= 0)) throw malformed("a length below 0");
  return lengths;
}

/** Writes byte strings. */
export function writeBlobs(w: Writer, blobs: readonly Uint8Array[]): void {
  if (blobs.length > 1) writeIntegers(w, new Float64Array(blobs.map((blob) => blob.length)), blobs.length);
  writeBody(w, blobs.length === 1 ? blobs[0] : Buffer.concat(blobs));
}

/** Reads `count` byte strings, each its own copy. Fails EVENTS_MALFORMED. */
export function readBlobs(r: Reader, count: number): Uint8Array[] {
  const lengths = count > 1 ? readLengths(r, count) : undefined;
  const { bytes } = readBody(r);
  if (!lengths) return [new Uint8Array(bytes)];
  const blobs: Uint8Array[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    const end = at + lengths[i];
    if (end > bytes.length) throw malformed("byte strings of other lengths than said");
    blobs.push(new Uint8Array(bytes.subarray(at, end)));
    at = end;
  }
  if (at !== bytes.length) throw malformed("byte strings of other lengths than said");
  return blobs;
}
