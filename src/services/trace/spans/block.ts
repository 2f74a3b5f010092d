/**
 * Spans as columns: a request's steps stand together, so that its id is written once, a step names the one that asked for it
 * by how far away it stands, and times are small differences.
 */
import { EVENTS_TOO_LARGE, malformed } from "../../../kernel/columns/bytes.ts";
import { readColumn, writeColumn } from "../../../kernel/columns/column.ts";
import { readInt64s, writeInt64s } from "../../../kernel/columns/int64.ts";
import { readIntegers, writeIntegers } from "../../../kernel/columns/integers.ts";
import { Reader } from "../../../kernel/columns/reader.ts";
import { readBody, writeBody } from "../../../kernel/columns/texts.ts";
import { Writer } from "../../../kernel/columns/writer.ts";
import { asUuid } from "../../../kernel/call.ts";
import { Failure } from "../../../kernel/error.ts";
import type { Range } from "../../../kernel/trace.ts";
import type { StoredSpan } from "../api.ts";

/** Spans that one block may hold: the limit of one `record` and of what waited before it. */
const SPANS_MAX = 32_768;
const RANGES_MAX = 1_048_576;
const SPAN_ID_BYTES = 8;
const REQUEST_ID_BYTES = 16;

/** Columns that are written as they are, in this order; a new one comes last. */
const PLAIN = [
  "service",
  "operation",
  "durationUs",
  "status",
  "note",
  "device",
  "link",
  "bytes",
  "queuedUs",
  "retries",
  "cache",
] as const satisfies readonly (keyof StoredSpan)[];

type Mutable = { -readonly [K in keyof StoredSpan]: StoredSpan[K] };

export interface Part {
  readonly spans: readonly StoredSpan[];
  readonly bytes: Uint8Array;
}

/** Encodes spans, in halves where they are too much for one block. */
export function encodedParts(spans: readonly StoredSpan[]): Part[] {
  try {
    return [{ spans, bytes: encodeSpans(spans) }];
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== EVENTS_TOO_LARGE.code || spans.length === 1) throw error;
    const half = spans.length >> 1;
    return [...encodedParts(spans.slice(0, half)), ...encodedParts(spans.slice(half))];
  }
}

/** Encodes spans (at least one). Fails EVENTS_TOO_LARGE where their notes are too long together: halves fit. */
export function encodeSpans(spans: readonly StoredSpan[]): Uint8Array {
  const rows = inOrder(spans);
  const w = new Writer();
  w.varint(rows.length);
  writeRequests(w, rows);
  writeBody(w, Buffer.from(rows.map(({ spanId }) => spanId).join(""), "hex"));
  writeParents(w, rows);
  writeInt64s(
    w,
    BigInt64Array.from(rows, ({ startNs }) => startNs),
  );
  for (const name of PLAIN)
    writeColumn(
      w,
      rows.map((row) => row[name]),
    );
  writeRanges(w, rows);
  return w.taken();
}

/** Decodes what encodeSpans wrote, a request's spans in a row. Fails EVENTS_MALFORMED. */
export function decodeSpans(bytes: Uint8Array): StoredSpan[] {
  const r = new Reader(bytes);
  const count = r.count(SPANS_MAX, "spans in a block");
  if (count === 0) return [];
  const requests = readRequests(r, count);
  const ids = readIds(r, count, SPAN_ID_BYTES);
  const parents = readParents(r, ids);
  const starts = readInt64s(r, count);
  const rows = ids.map((spanId, i) => {
    const row = { spanId, startNs: starts[i] } as Mutable;
    if (requests[i] !== undefined) row.requestId = requests[i];
    if (parents[i] !== undefined) row.parentId = parents[i];
    return row;
  });
  for (const name of PLAIN) {
    const values = readColumn(r, count);
    for (let i = 0; i < count; i++) if (values[i] !== undefined) Reflect.set(rows[i], name, values[i]);
  }
  readRanges(r, rows);
  return rows;
}

/** Puts the spans of a request together, requests and spans in order of time; those of no request come first. */
function inOrder(spans: readonly StoredSpan[]): StoredSpan[] {
  const byStart = spans.toSorted((a, b) => (a.startNs < b.startNs ? -1 : a.startNs > b.startNs ? 1 : 0));
  const groups = new Map<string | undefined, StoredSpan[]>([[undefined, []]]);
  for (const span of byStart) {
    const group = groups.get(span.requestId);
    if (group) group.push(span);
    else groups.set(span.requestId, [span]);
  }
  return [...groups.values()].flat();
}

function writeRequests(w: Writer, rows: readonly StoredSpan[]): void {
  const numbers = new Map<string | undefined, number>([[undefined, 0]]);
  const column = Float64Array.from(rows, ({ requestId }) => {
    const known = numbers.get(requestId) ?? numbers.size;
    if (known === numbers.size) numbers.set(requestId, known);
    return known;
  });
  writeIntegers(w, column, rows.length);
  writeBody(w, Buffer.from([...numbers.keys()].slice(1).join("").replaceAll("-", ""), "hex"));
}

function readRequests(r: Reader, count: number): (string | undefined)[] {
  const column = new Float64Array(count);
  readIntegers(r, column, count);
  const { bytes } = readBody(r);
  const ids: (string | undefined)[] = [undefined];
  for (let at = 0; at < bytes.length; at += REQUEST_ID_BYTES)
    ids.push(asUuid(bytes.toString("hex", at, at + REQUEST_ID_BYTES)));
  return Array.from(column, (number) => {
    if (!(number < ids.length)) throw malformed("a span of a request that its block has not");
    return ids[number];
  });
}

function readIds(r: Reader, count: number, size: number): string[] {
  const { bytes } = readBody(r);
  if (bytes.length !== count * size) throw malformed("ids of another length than said");
  return Array.from({ length: count }, (_, i) => bytes.toString("hex", i * size, (i + 1) * size));
}

/** 0 is none, `count` one that stands elsewhere, all else how many rows before (or, below 0, behind) it stands. */
function writeParents(w: Writer, rows: readonly StoredSpan[]): void {
  const places = new Map(rows.map(({ spanId }, i) => [spanId, i]));
  const elsewhere: string[] = [];
  const column = Float64Array.from(rows, ({ parentId }, i) => {
    if (parentId === undefined) return 0;
    const place = places.get(parentId);
    if (place !== undefined && place !== i) return i - place;
    elsewhere.push(parentId);
    return rows.length;
  });
  writeIntegers(w, column, rows.length);
  writeBody(w, Buffer.from(elsewhere.join(""), "hex"));
}

function readParents(r: Reader, ids: readonly string[]): (string | undefined)[] {
  const column = new Float64Array(ids.length);
  readIntegers(r, column, ids.length);
  const outside = column.reduce((sum, far) => sum + (far === ids.length ? 1 : 0), 0);
  const elsewhere = readIds(r, outside, SPAN_ID_BYTES);
  let next = 0;
  return Array.from(column, (far, i) =>
    far === 0 ? undefined : far === ids.length ? elsewhere[next++] : ids[i - far],
  );
}

function writeRanges(w: Writer, rows: readonly StoredSpan[]): void {
  writeColumn(
    w,
    rows.map(({ ranges }) => ranges?.length),
  );
  const all = rows.flatMap(({ ranges }) => ranges ?? []);
  if (all.length === 0) return;
  writeColumn(
    w,
    all.map(({ publisher }) => publisher),
  );
  writeColumn(
    w,
    all.map(({ epoch }) => epoch),
  );
  writeColumn(
    w,
    all.map(({ from }) => from),
  );
  writeColumn(
    w,
    all.map(({ from, to }) => to - from),
  );
}

function readRanges(r: Reader, rows: readonly Mutable[]): void {
  const lengths = readColumn(r, rows.length);
  const total = lengths.reduce((sum: number, length) => sum + lengthOf(length), 0);
  if (total > RANGES_MAX) throw malformed(`${total} ranges; at most ${RANGES_MAX}`);
  const columns = total === 0 ? [] : Array.from({ length: 4 }, () => readColumn(r, total));
  const [publishers, epochs, froms, more] = columns as [string[], number[], number[], number[]];
  let at = 0;
  rows.forEach((row, i) => {
    if (lengths[i] === undefined) return;
    const length = lengthOf(lengths[i]);
    row.ranges = Array.from({ length }, (): Range => {
      const range = { publisher: publishers[at], epoch: epochs[at], from: froms[at], to: froms[at] + more[at] };
      at++;
      return range;
    });
  });
}

/** The number of a span's ranges; 0 where it has none. */
function lengthOf(value: unknown): number {
  if (value === undefined) return 0;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0) throw malformed("a length that is none");
  return value;
}
