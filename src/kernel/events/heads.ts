/** The head of a message of events: whose, which series, how many, without the values. Names are written once. */
import { EVENTS_TOO_LARGE, malformed } from "../columns/bytes.ts";
import type { Reader } from "../columns/reader.ts";
import type { Writer } from "../columns/writer.ts";
import { fail } from "../error.ts";
import { type Block, type Publisher, type Resource, type Series, VALUE_TYPES } from "./model.ts";

/** Rows of all blocks of one message together. */
export const ROWS_MAX = 65_536;
/** Columns of one block: resources of one source. */
export const COLUMNS_MAX = 1024;
/** Values of one message: rows times columns. Columns of one value take nearly no bytes, so that the bytes bound nothing. */
export const VALUES_MAX = 4 * 1024 * 1024;
/** UTF-16 units of the name of a device, profile, source, resource or publisher, of units and of media types. */
export const NAME_LENGTH_MAX = 1024;
/** Sequences are below this: 42 bits, as many as an id has for them. */
export const SEQUENCE_END = 2 ** 42;
/** Epochs are below this: 32 bits. */
export const EPOCH_END = 2 ** 32;

/** What the head of a block says. */
export interface BlockHead {
  readonly publisher: Publisher;
  readonly series: Series;
  readonly rows: number;
  readonly firstSequence: number;
  readonly lastSequence: number;
}

/** A head, and what its reader needs to find the body. */
export interface FullHead extends BlockHead {
  readonly hasExtras: boolean;
  readonly bodyBytes: number | undefined;
}

// Beside the number of rows: the block has extras; its sequences have gaps.
const EXTRAS = 1;
const GAPS = 2;
const ROW_FLAGS = 4;
// Beside the value type of a resource.
const UNITS = 32;
const MEDIA_TYPE = 64;
// Beside the length of a name.
const KNOWN = 1;
const WIDE = 2;
const NAME_FLAGS = 4;

const typeIndex = new Map(VALUE_TYPES.map((type, index) => [type, index]));

/** Writes heads; what came before in the same message is named by its number. */
export class HeadWriter {
  readonly #w: Writer;
  readonly #names = new Map<string, number>();
  readonly #publishers = new Map<string, number>();
  readonly #series = new Map<Series, number>();
  readonly #seriesByContent = new Map<string, number>();

  constructor(w: Writer) {
    this.#w = w;
  }

  /** Writes one head; `bodyBytes` is left out for the last block, whose body ends with the message. */
  write(block: Block, bodyBytes: number | undefined): void {
    const rows = block.sequences.length;
    const first = block.sequences[0];
    const gaps = block.sequences[rows - 1] - first - (rows - 1);
    this.#publisher(block.publisher);
    this.#writeSeries(block.series);
    this.#w.varint(rows * ROW_FLAGS + (gaps > 0 ? GAPS : 0) + (block.extras.size > 0 ? EXTRAS : 0));
    this.#w.varint(first);
    if (gaps > 0) this.#w.varint(gaps);
    if (bodyBytes !== undefined) this.#w.varint(bodyBytes);
  }

  #publisher(publisher: Publisher): void {
    const key = `${publisher.epoch} ${publisher.name}`;
    const known = this.#publishers.get(key);
    // The first block has nothing before it to name.
    if (this.#publishers.size > 0) this.#w.varint(known ?? 0);
    if (known !== undefined) return;
    if (!(Number.isInteger(publisher.epoch) && publisher.epoch >= 0 && publisher.epoch < EPOCH_END)) {
      throw new RangeError(`epoch ${publisher.epoch} of publisher '${publisher.name}' is not within 32 bits`);
    }
    this.#publishers.set(key, this.#publishers.size + 1);
    this.#name(publisher.name, "publisher");
    this.#w.varint(publisher.epoch);
  }

  #writeSeries(series: Series): void {
    let known = this.#series.get(series);
    const content = known === undefined && this.#series.size > 0 ? seriesKey(series) : "";
    known ??= this.#seriesByContent.get(content);
    if (this.#series.size > 0) this.#w.varint(known ?? 0);
    if (known !== undefined) return;
    if (series.resources.length > COLUMNS_MAX) {
      throw fail(
        EVENTS_TOO_LARGE,
        `source '${series.sourceName}' has ${series.resources.length} resources; at most ${COLUMNS_MAX} are allowed`,
      );
    }
    this.#series.set(series, this.#series.size + 1);
    this.#seriesByContent.set(content || seriesKey(series), this.#series.size);
    this.#name(series.deviceName, "device");
    this.#name(series.profileName, "profile");
    this.#name(series.sourceName, "source");
    this.#w.varint(series.resources.length);
    for (const resource of series.resources) this.#resource(resource);
  }

  #resource(resource: Resource): void {
    const type = typeIndex.get(resource.valueType);
    if (type === undefined)
      throw new RangeError(`'${resource.valueType}' of resource '${resource.name}' is no value type`);
    this.#name(resource.name, "resource");
    this.#w.byte(
      type | (resource.units === undefined ? 0 : UNITS) | (resource.mediaType === undefined ? 0 : MEDIA_TYPE),
    );
    if (resource.units !== undefined) this.#name(resource.units, "units");
    if (resource.mediaType !== undefined) this.#name(resource.mediaType, "media type");
  }

  #name(name: string, what: string): void {
    const known = this.#names.get(name);
    if (known !== undefined) {
      this.#w.varint(known * NAME_FLAGS + KNOWN);
      return;
    }
    if (name.length > NAME_LENGTH_MAX) {
      throw fail(
        EVENTS_TOO_LARGE,
        `the name of ${what} '${name.slice(0, 32)}...' has ${name.length} characters; at most ${NAME_LENGTH_MAX} are allowed`,
      );
    }
    this.#names.set(name, this.#names.size);
    if (!this.#writeAscii(name)) {
      const wide = !name.isWellFormed();
      const bytes = Buffer.from(name, wide ? "utf16le" : "utf8");
      this.#w.varint(bytes.length * NAME_FLAGS + (wide ? WIDE : 0));
      this.#w.raw(bytes);
    }
  }

  /** Writes a short name of ASCII, as most are, without a call into the engine; false when it is not one. */
  #writeAscii(name: string): boolean {
    const w = this.#w;
    const { length } = name;
    if (length > 64) return false;
    for (let i = 0; i < length; i++) if (name.charCodeAt(i) > 127) return false;
    w.varint(length * NAME_FLAGS);
    w.room(length);
    for (let i = 0; i < length; i++) w.bytes[w.at + i] = name.charCodeAt(i);
    w.at += length;
    return true;
  }
}

/** Writes the content of a series as one text: equal for equal series, and for no others. */
export function seriesKey(series: Series): string {
  const { deviceName, profileName, sourceName } = series;
  // Lengths before names: no name can look like two.
  let key = `${deviceName.length},${profileName.length},${sourceName.length}:${deviceName}${profileName}${sourceName}`;
  for (const { name, valueType, units, mediaType } of series.resources) {
    key += `|${valueType},${name.length},${units?.length ?? ""},${mediaType?.length ?? ""}:${name}${units ?? ""}${mediaType ?? ""}`;
  }
  return key;
}

/** Reads what a HeadWriter wrote. */
export class HeadReader {
  readonly #r: Reader;
  readonly #names: string[] = [];
  readonly #publishers: Publisher[] = [];
  readonly #series: Series[] = [];
  #resources = 0;
  #rows = 0;
  #values = 0;

  constructor(r: Reader) {
    this.#r = r;
  }

  /** Reads the next head. Fails EVENTS_MALFORMED, also when the limits of a message are reached. */
  read(last: boolean): FullHead {
    const r = this.#r;
    const publisher = this.#publisher();
    const series = this.#readSeries();
    const flags = r.varint();
    const rows = Math.floor(flags / ROW_FLAGS);
    this.#rows += rows;
    this.#values += rows * series.resources.length;
    if (rows === 0 || this.#rows > ROWS_MAX) throw malformed(`${this.#rows} rows; 1 to ${ROWS_MAX} are allowed`);
    if (this.#values > VALUES_MAX) throw malformed(`more than ${VALUES_MAX} values`);
    const firstSequence = r.varint();
    const lastSequence = firstSequence + rows - 1 + (flags & GAPS ? r.varint() : 0);
    if (firstSequence === 0 || lastSequence >= SEQUENCE_END)
      throw malformed(`sequences ${firstSequence} to ${lastSequence}; 1 to 2^42 - 1 are allowed`);
    const bodyBytes = last ? undefined : r.varint();
    return { publisher, series, rows, firstSequence, lastSequence, hasExtras: (flags & EXTRAS) > 0, bodyBytes };
  }

  #publisher(): Publisher {
    const index = this.#publishers.length > 0 ? this.#r.varint() : 0;
    if (index > 0) return this.#publishers[index - 1] ?? unknown("publisher", index);
    const name = this.#name();
    const epoch = this.#r.varint();
    if (epoch >= EPOCH_END) throw malformed(`epoch ${epoch} is beyond 32 bits`);
    const publisher = { name, epoch };
    this.#publishers.push(publisher);
    return publisher;
  }

  #readSeries(): Series {
    const index = this.#series.length > 0 ? this.#r.varint() : 0;
    if (index > 0) return this.#series[index - 1] ?? unknown("series", index);
    const deviceName = this.#name();
    const profileName = this.#name();
    const sourceName = this.#name();
    const count = this.#r.count(COLUMNS_MAX, "resources");
    this.#resources += count;
    // Every series has a row, and its row its values: as many as values are all resources together.
    if (this.#resources > VALUES_MAX) throw malformed(`more than ${VALUES_MAX} resources`);
    const resources: Resource[] = [];
    for (let i = 0; i < count; i++) resources.push(this.#resource());
    const series = { deviceName, profileName, sourceName, resources };
    this.#series.push(series);
    return series;
  }

  #resource(): Resource {
    const name = this.#name();
    const flags = this.#r.byte();
    const valueType = VALUE_TYPES[flags & (UNITS - 1)];
    if (valueType === undefined || flags >= MEDIA_TYPE * 2)
      throw malformed(`resource '${name}' has an unknown value type ${flags}`);
    const resource: { -readonly [K in keyof Resource]: Resource[K] } = { name, valueType };
    if (flags & UNITS) resource.units = this.#name();
    if (flags & MEDIA_TYPE) resource.mediaType = this.#name();
    return resource;
  }

  #name(): string {
    const head = this.#r.varint();
    const flags = head % NAME_FLAGS;
    const length = Math.floor(head / NAME_FLAGS);
    if (flags === KNOWN) return this.#names[length] ?? unknown("name", length);
    if (flags > WIDE || length > NAME_LENGTH_MAX * 3) throw malformed(`a name of ${length} bytes`);
    const name = flags === WIDE ? this.#r.raw(length).toString("utf16le") : this.#r.text(length);
    if (name.length > NAME_LENGTH_MAX)
      throw malformed(`a name of ${name.length} characters; at most ${NAME_LENGTH_MAX} are allowed`);
    this.#names.push(name);
    return name;
  }
}

function unknown(what: string, index: number): never {
  throw malformed(`${what} ${index} was not named before`);
}
