/** What few events have (`Extra`), in a section of its own: a field after the other, over all rows that have it. */
import { malformed } from "../columns/bytes.ts";
import type { Reader } from "../columns/reader.ts";
import type { Writer } from "../columns/writer.ts";
import { readInt64s, writeInt64s } from "../columns/int64.ts";
import { readIntegers, writeIntegers } from "../columns/integers.ts";
import { readJsons, writeJsons } from "../columns/jsons.ts";
import { readTexts, writeTexts } from "../columns/texts.ts";
import type { Extra } from "./model.ts";

type Tags = { readonly [key: string]: unknown };
type Fields = { -readonly [K in keyof Extra]: Extra[K] };

// Which fields a row has.
const REQUEST_ID = 1;
const IDS = 2;
const TAGS = 4;
const ORIGINS = 8;
const READING_TAGS = 16;
const MASKS = 32;

// How an id is written.
const NONE = 0;
const UUID = 1;
const OTHER = 2;

const UUID_BYTES = 16;
const HEX = Array.from({ length: 256 }, (_, n) => n.toString(16).padStart(2, "0"));
const NIBBLE = new Int8Array(128).fill(-1);
for (let n = 0; n < 16; n++) NIBBLE[n.toString(16).charCodeAt(0)] = n;

const maskOf = (extra: Extra) =>
  (extra.requestId === undefined ? 0 : REQUEST_ID) |
  (extra.ids ? IDS : 0) |
  (extra.tags ? TAGS : 0) |
  (extra.origins ? ORIGINS : 0) |
  (extra.readingTags ? READING_TAGS : 0);

/** Writes the extras of a block (at least one); rows in order of their number. */
export function writeExtras(w: Writer, extras: ReadonlyMap<number, Extra>, origins: readonly bigint[]): void {
  const rows = [...extras.keys()].sort((a, b) => a - b);
  const all = rows.map((row) => extras.get(row) as Extra);
  const masks = all.map(maskOf);
  w.varint(rows.length);
  writeNumbers(w, rows);
  writeNumbers(w, masks);
  const having = (mask: number) => all.filter((_, i) => masks[i] & mask);
  const some = masks.reduce((known, mask) => known | mask, 0);
  if (some & REQUEST_ID)
    writeIds(
      w,
      having(REQUEST_ID).map((extra) => extra.requestId),
    );
  if (some & IDS)
    writeIds(
      w,
      flatten(
        w,
        having(IDS).map((extra) => extra.ids ?? []),
      ),
    );
  if (some & TAGS)
    writeJsons(
      w,
      having(TAGS).map((extra) => extra.tags),
    );
  if (some & ORIGINS) {
    const base = rows.filter((_, i) => masks[i] & ORIGINS).map((row) => origins[row]);
    // The distance to the event's own origin is small; should it wrap around 64 bits, so it does back.
    const lists = having(ORIGINS).map((extra, i) =>
      (extra.origins ?? []).map((at) => (at === undefined ? at : BigInt.asIntN(64, at - base[i]))),
    );
    const present = writePresence(w, flatten(w, lists));
    if (present.length > 0) writeInt64s(w, new BigInt64Array(present));
  }
  if (some & READING_TAGS) {
    const present = writePresence(
      w,
      flatten(
        w,
        having(READING_TAGS).map((extra) => extra.readingTags ?? []),
      ),
    );
    if (present.length > 0) writeJsons(w, present);
  }
}

function writeNumbers(w: Writer, numbers: readonly number[]): void {
  writeIntegers(w, new Float64Array(numbers), numbers.length);
}

function flatten<T>(w: Writer, lists: readonly (readonly T[])[]): T[] {
  writeNumbers(
    w,
    lists.map((list) => list.length),
  );
  const all: T[] = [];
  for (const list of lists) for (const item of list) all.push(item);
  return all;
}

function writePresence<T>(w: Writer, slots: readonly (T | undefined)[]): T[] {
  writeNumbers(
    w,
    slots.map((slot) => (slot === undefined ? 0 : 1)),
  );
  return slots.filter((slot): slot is T => slot !== undefined);
}

/** Writes ids: 16 bytes for a UUID in canonical lower case, which nothing makes smaller; all else as text. */
function writeIds(w: Writer, ids: readonly (string | undefined)[]): void {
  const kinds: number[] = [];
  const others: string[] = [];
  const bytes = new Uint8Array(ids.length * UUID_BYTES);
  let at = 0;
  for (const id of ids) {
    const kind = id === undefined ? NONE : packUuid(id, bytes, at) ? UUID : OTHER;
    kinds.push(kind);
    if (kind === UUID) at += UUID_BYTES;
    if (kind === OTHER) others.push(id as string);
  }
  writeNumbers(w, kinds);
  w.raw(bytes.subarray(0, at));
  if (others.length > 0) writeTexts(w, others);
}

function packUuid(id: string, into: Uint8Array, at: number): boolean {
  if (id.length !== 36) return false;
  let from = 0;
  for (let i = 0; i < UUID_BYTES; i++) {
    if ((i === 4 || i === 6 || i === 8 || i === 10) && id.charCodeAt(from++) !== 0x2d) return false;
    const high = NIBBLE[id.charCodeAt(from++)] ?? -1;
    const low = NIBBLE[id.charCodeAt(from++)] ?? -1;
    if (high < 0 || low < 0) return false;
    into[at + i] = high * 16 + low;
  }
  return true;
}

function unpackUuid(bytes: Uint8Array, at: number): string {
  let text = "";
  for (let i = 0; i < UUID_BYTES; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) text += "-";
    text += HEX[bytes[at + i]];
  }
  return text;
}

/** Reads the extras of a block of these origins and so many columns. Fails EVENTS_MALFORMED. */
export function readExtras(r: Reader, origins: readonly bigint[], columns: number): Map<number, Extra> {
  const count = r.count(origins.length, "extras");
  const rows = readNumbers(r, count, origins.length - 1, "row");
  const masks = readNumbers(r, count, MASKS - 1, "field of an extra");
  const found = new Map<number, Extra>();
  for (const row of rows) {
    if (found.has(row)) throw malformed(`row ${row} has two extras`);
    found.set(row, {});
  }
  const having = (mask: number) => rows.filter((_, i) => masks[i] & mask);
  const set = <K extends keyof Extra>(mask: number, field: K, read: (of: number[]) => Extra[K][]) => {
    const of = having(mask);
    if (of.length === 0) return;
    const values = read(of);
    of.forEach((row, i) => {
      (found.get(row) as Fields)[field] = values[i];
    });
  };
  const listed = <T>(of: number[], read: (count: number) => T[]): T[][] => {
    const lengths = readNumbers(r, of.length, columns + 1, "slots of an extra");
    const slots = read(lengths.reduce((sum, length) => sum + length, 0));
    let at = 0;
    return lengths.map((length) => slots.slice(at, (at += length)));
  };
  set(REQUEST_ID, "requestId", (of) => readIds(r, of.length) as string[]);
  set(IDS, "ids", (of) => listed(of, (slots) => readIds(r, slots)));
  set(TAGS, "tags", (of) => tagsOf(readJsons(r, of.length)));
  set(ORIGINS, "origins", (of) =>
    listed(of, (slots) => readPresent(r, slots, (present) => [...readInt64s(r, present)])).map((list, i) => {
      const base = origins[of[i]];
      return list.map((distance) => (distance === undefined ? distance : BigInt.asIntN(64, base + distance)));
    }),
  );
  set(READING_TAGS, "readingTags", (of) =>
    listed(of, (slots) => readPresent(r, slots, (present) => tagsOf(readJsons(r, present)))),
  );
  return found;
}

function tagsOf(values: unknown[]): Tags[] {
  for (const value of values)
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed("tags that are no object");
  return values as Tags[];
}

function readNumbers(r: Reader, count: number, max: number, what: string): number[] {
  const numbers = new Float64Array(count);
  readIntegers(r, numbers, count);
  for (const number of numbers)
    if (!(number >= 0 && number <= max)) throw malformed(`${what} ${number}; at most ${max} is possible here`);
  return [...numbers];
}

function readPresent<T>(r: Reader, count: number, read: (present: number) => T[]): (T | undefined)[] {
  const presence = readNumbers(r, count, 1, "presence");
  const present = presence.reduce((sum, n) => sum + n, 0);
  const values = present > 0 ? read(present) : [];
  let at = 0;
  return presence.map((n) => (n === 1 ? values[at++] : undefined));
}

function readIds(r: Reader, count: number): (string | undefined)[] {
  const kinds = readNumbers(r, count, OTHER, "kind of id");
  const bytes = r.raw(kinds.filter((kind) => kind === UUID).length * UUID_BYTES);
  const otherCount = kinds.filter((kind) => kind === OTHER).length;
  const others = otherCount > 0 ? readTexts(r, otherCount) : [];
  let uuids = 0;
  let at = 0;
  return kinds.map((kind) =>
    kind === NONE ? undefined : kind === UUID ? unpackUuid(bytes, UUID_BYTES * uuids++) : others[at++],
  );
}
