/**
 * The binary form of events: what a device service appends, the bus keeps, core-data stores, the uplink sends and the
 * cloud keeps. One byte for the form, the heads of all blocks, then their bodies: sequences (nothing, when they follow
 * each other), origins, a column per resource, extras where there are any. Lossless, to the character.
 */
import { EVENTS_BYTES_MAX, EVENTS_TOO_LARGE, malformed } from "../columns/bytes.ts";
import { Reader } from "../columns/reader.ts";
import { Writer } from "../columns/writer.ts";
import { readColumn, writeColumn } from "../columns/column.ts";
import { readInt64s, writeInt64s } from "../columns/int64.ts";
import { readIntegers, writeIntegers } from "../columns/integers.ts";
import { readBody, writeBody } from "../columns/texts.ts";
import { fail } from "../error.ts";
import { readExtras, writeExtras } from "./extras.ts";
import { type BlockHead, type FullHead, HeadReader, HeadWriter, ROWS_MAX, SEQUENCE_END, VALUES_MAX } from "./heads.ts";
import type { Block, Extra, Resource, Value } from "./model.ts";

export { EVENTS_BYTES_MAX, EVENTS_TOO_LARGE } from "../columns/bytes.ts";
export { type BlockHead, seriesKey } from "./heads.ts";

// The first byte: the version of the form, with its cases. No JSON, CBOR map or zeros begin so.
const FORM_ONE = 0xe1; // one block: its number is not written
const FORM_MANY = 0xe2;
const FORM_HEADS_COMPRESSED = 0xe3;
/** Heads of at least so many bytes, those of many series, are compressed: below, the call costs more than it saves. */
const COMPRESS_HEADS_FROM = 768;
/** From so many rows on a column is preceded by its length, so that a reader of few columns can skip the others. */
const SKIPPABLE_FROM = 16;

/** Is told of each column of each block how many bytes it takes. */
export type Measure = (block: Block, column: number, bytes: number) => void;

// Encoding is synchronous: one set of buffers serves all.
const heads = new Writer();
const body = new Writer();
const part = new Writer();

/**
 * Encodes blocks, each of at least one row, with sequences that grow and as many values as sequences in every column.
 * `measure` is told the bytes that each column takes. Fails EVENTS_TOO_LARGE (4 MiB, 65,536 rows, 4,194,304 values, 1,024
 * columns, names of 1,024 characters).
 */
export function encodeBlocks(blocks: readonly Block[], measure?: Measure): Uint8Array {
  if (blocks.length === 0) throw new RangeError("no blocks to encode");
  for (const writer of [heads, body, part]) writer.reset();
  checkSizes(blocks);
  heads.varint(blocks.length);
  const headWriter = new HeadWriter(heads);
  blocks.forEach((block, index) => {
    const from = body.at;
    writeBlock(block, measure);
    headWriter.write(block, index === blocks.length - 1 ? undefined : body.at - from);
  });
  let form = blocks.length === 1 ? FORM_ONE : FORM_MANY;
  let head = heads.bytes.subarray(form === FORM_ONE ? 1 : 0, heads.at);
  if (heads.at >= COMPRESS_HEADS_FROM) {
    form = FORM_HEADS_COMPRESSED;
    part.reset();
    part.inflatable = body.inflatable;
    writeBody(part, heads.bytes.subarray(0, heads.at), 0, COMPRESS_HEADS_FROM);
    head = part.bytes.subarray(0, part.at);
  }
  const size = 1 + head.length + body.at;
  if (size > EVENTS_BYTES_MAX)
    throw fail(EVENTS_TOO_LARGE, `the events take ${size} bytes; at most ${EVENTS_BYTES_MAX} are allowed`);
  const bytes = new Uint8Array(size);
  bytes[0] = form;
  bytes.set(head, 1);
  bytes.set(body.bytes.subarray(0, body.at), 1 + head.length);
  return bytes;
}

function checkSizes(blocks: readonly Block[]): void {
  let rows = 0;
  let values = 0;
  for (const { sequences, origins, columns, series } of blocks) {
    const count = sequences.length;
    rows += count;
    values += count * columns.length;
    if (
      count === 0 ||
      origins.length !== count ||
      columns.length !== series.resources.length ||
      columns.some((column) => column.length !== count)
    ) {
      throw new RangeError(`a block of '${series.deviceName}' has columns of different lengths, or no row`);
    }
    let last = 0;
    for (const sequence of sequences) {
      if (!(sequence > last && sequence < SEQUENCE_END && Number.isInteger(sequence))) {
        throw new RangeError(
          `sequence ${sequence} of '${series.deviceName}' after ${last}: sequences grow, from 1 to below 2^42`,
        );
      }
      last = sequence;
    }
  }
  if (rows > ROWS_MAX) throw fail(EVENTS_TOO_LARGE, `${rows} events at once; at most ${ROWS_MAX} are allowed`);
  if (values > VALUES_MAX) throw fail(EVENTS_TOO_LARGE, `${values} values at once; at most ${VALUES_MAX} are allowed`);
}

function writeBlock(block: Block, measure: Measure | undefined): void {
  const { sequences, columns } = block;
  const rows = sequences.length;
  if (sequences[rows - 1] - sequences[0] !== rows - 1) {
    const gaps = new Float64Array(rows - 1);
    for (let i = 1; i < rows; i++) gaps[i - 1] = sequences[i] - sequences[i - 1] - 1;
    writeIntegers(body, gaps, rows - 1);
  }
  writeInt64s(body, toInt64s(block.origins, block.series.deviceName));
  columns.forEach((column, k) => {
    const from = body.at;
    if (rows < SKIPPABLE_FROM) writeColumn(body, column);
    else writeSkippable(column);
    measure?.(block, k, body.at - from);
  });
  if (block.extras.size > 0) writeExtras(body, block.extras, block.origins);
}

function writeSkippable(column: readonly Value[]): void {
  part.reset();
  part.inflatable = body.inflatable;
  writeColumn(part, column);
  body.inflatable = part.inflatable;
  body.varint(part.at);
  body.raw(part.bytes.subarray(0, part.at));
}

function toInt64s(origins: readonly bigint[], device: string): BigInt64Array {
  const numbers = new BigInt64Array(origins.length);
  for (let i = 0; i < origins.length; i++) {
    numbers[i] = origins[i];
    if (numbers[i] !== origins[i]) throw new RangeError(`origin ${origins[i]} of '${device}' is beyond 64 bits`);
  }
  return numbers;
}

/** Reads the heads; leaves the reader at the bodies. */
function readHeads(r: Reader): FullHead[] {
  if (r.end > EVENTS_BYTES_MAX) throw malformed(`they have ${r.end} bytes; at most ${EVENTS_BYTES_MAX} are allowed`);
  const form = r.byte();
  if (form < FORM_ONE || form > FORM_HEADS_COMPRESSED)
    throw malformed(`form ${form} is unknown; this version reads ${FORM_ONE} to ${FORM_HEADS_COMPRESSED}`);
  const inner = form === FORM_HEADS_COMPRESSED ? new Reader(readBody(r).bytes) : r;
  const count = form === FORM_ONE ? 1 : inner.count(ROWS_MAX, "blocks");
  if (count === 0) throw malformed("no blocks");
  const reader = new HeadReader(inner);
  const found: FullHead[] = [];
  for (let i = 1; i <= count; i++) found.push(reader.read(i === count));
  if (inner !== r && inner.at !== inner.end) throw malformed("bytes left over after the heads");
  return found;
}

/** Reads only the heads of encoded blocks, without decoding a value. Fails EVENTS_MALFORMED. */
export function headOfBlocks(bytes: Uint8Array): BlockHead[] {
  return readHeads(new Reader(bytes)).map(({ publisher, series, rows, firstSequence, lastSequence }) => ({
    publisher,
    series,
    rows,
    firstSequence,
    lastSequence,
  }));
}

/**
 * Decodes blocks. Columns of resources that `wanted` does not want come with `undefined` for all values, at next to no
 * cost. Fails EVENTS_MALFORMED, whatever the bytes are, within the limits of `encodeBlocks`.
 */
export function decodeBlocks(bytes: Uint8Array, wanted?: (resource: Resource) => boolean): Block[] {
  const r = new Reader(bytes);
  const blocks = readHeads(r).map((head) => {
    const end = head.bodyBytes === undefined ? r.end : r.at + head.bodyBytes;
    if (end > r.end) throw malformed("they end too early");
    const block = readBlock(r, head, wanted);
    if (r.at !== end)
      throw malformed(`a block of '${head.series.deviceName}' is ${r.at - end} bytes longer than it says`);
    return block;
  });
  return blocks;
}

function readBlock(r: Reader, head: FullHead, wanted?: (resource: Resource) => boolean): Block {
  const { publisher, series, rows } = head;
  const sequences = readSequences(r, head);
  const origins = originsOf(readInt64s(r, rows));
  const columns: Value[][] = [];
  for (const resource of series.resources) {
    if (rows < SKIPPABLE_FROM) {
      columns.push(readColumn(r, rows));
      continue;
    }
    const size = r.varint();
    const end = r.at + size;
    if (wanted && !wanted(resource)) {
      r.raw(size);
      columns.push(new Array<Value>(rows).fill(undefined));
      continue;
    }
    columns.push(readColumn(r, rows));
    if (r.at !== end) throw malformed(`column '${resource.name}' is not as long as it says`);
  }
  const extras = head.hasExtras ? readExtras(r, origins, columns.length) : new Map<number, Extra>();
  return { publisher, series, sequences, origins, columns, extras };
}

/** Array.from goes through an iterator, and takes five times as long. */
function originsOf(numbers: BigInt64Array): bigint[] {
  const origins = new Array<bigint>(numbers.length);
  for (let i = 0; i < numbers.length; i++) origins[i] = numbers[i];
  return origins;
}

function readSequences(r: Reader, head: FullHead): number[] {
  const { rows, firstSequence, lastSequence } = head;
  const sequences = new Array<number>(rows);
  sequences[0] = firstSequence;
  if (lastSequence - firstSequence === rows - 1) {
    for (let i = 1; i < rows; i++) sequences[i] = firstSequence + i;
    return sequences;
  }
  const gaps = new Float64Array(rows - 1);
  readIntegers(r, gaps, rows - 1);
  let last = firstSequence;
  for (let i = 1; i < rows; i++) {
    const gap = gaps[i - 1];
    if (!(gap >= 0)) throw malformed("sequences that do not grow");
    sequences[i] = last += gap + 1;
  }
  if (last !== lastSequence) throw malformed("sequences that end elsewhere than said");
  return sequences;
}
