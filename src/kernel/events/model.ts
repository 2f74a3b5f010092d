/**
 * Events as they travel through the house: in blocks of columns, from the device service that reads to the cloud that
 * keeps. A block holds events of one series (one device, one source) by one publisher in one epoch, a row an event.
 */

/** EdgeX v3 value types (core-contracts, ValueType). */
export const VALUE_TYPES = [
  "Bool",
  "String",
  "Uint8",
  "Uint16",
  "Uint32",
  "Uint64",
  "Int8",
  "Int16",
  "Int32",
  "Int64",
  "Float32",
  "Float64",
  "Binary",
  "Object",
  "BoolArray",
  "StringArray",
  "Uint8Array",
  "Uint16Array",
  "Uint32Array",
  "Uint64Array",
  "Int8Array",
  "Int16Array",
  "Int32Array",
  "Int64Array",
  "Float32Array",
  "Float64Array",
  "ObjectArray",
] as const;
export type ValueType = (typeof VALUE_TYPES)[number];

/** What a column holds. */
export interface Resource {
  readonly name: string;
  readonly valueType: ValueType;
  readonly units?: string;
  readonly mediaType?: string;
}

/** What a block's events have in common. */
export interface Series {
  readonly deviceName: string;
  readonly profileName: string;
  readonly sourceName: string;
  readonly resources: readonly Resource[];
}

/**
 * One value. Numeric types: `number` where a double holds it exactly, else `bigint` (Int64, Uint64), else the sender's
 * own `string` when its text is not the canonical one (so that what was sent is what is answered, to the character).
 * Bool: boolean. String: string. Binary: Uint8Array. Object and arrays: plain JSON values (bigint allowed inside).
 * `null`: the reading has no value. `undefined`: the event has no reading of this resource.
 */
export type Value =
  | number
  | bigint
  | string
  | boolean
  | null
  | undefined
  | Uint8Array
  | { [key: string]: unknown }
  | readonly unknown[];

/** What few events have. `ids[0]` is the event's id and `ids[1 + k]` that of the reading in column k, where a stranger chose them. */
export interface Extra {
  readonly requestId?: string;
  readonly ids?: readonly (string | undefined)[];
  readonly tags?: { readonly [key: string]: unknown };
  /** Per column, where a reading's origin differs from its event's. */
  readonly origins?: readonly (bigint | undefined)[];
  readonly readingTags?: readonly ({ readonly [key: string]: unknown } | undefined)[];
}

/** Who made the events: a publisher's name is unique on its node, its epoch grows with every start. */
export interface Publisher {
  readonly name: string;
  /** Seconds since 2020-01-01, at least one more than at the start before; below 2^32. */
  readonly epoch: number;
}

/** Rows of one series, in order of `sequences`. Every column has as many entries as `sequences` and `origins`. */
export interface Block {
  readonly publisher: Publisher;
  readonly series: Series;
  /** Strictly growing, safe integers below 2^42, from 1; one count for all series of a publisher and epoch. */
  readonly sequences: number[];
  /** Nanoseconds since 1970. */
  readonly origins: bigint[];
  readonly columns: Value[][];
  /** Row number to extra; empty for nearly all blocks. */
  readonly extras: Map<number, Extra>;
}
