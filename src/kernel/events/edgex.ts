/** EdgeX's events and readings (as on the wire, see ../edgex.ts) to rows of blocks and back, to the character. */
import type { Event, Reading } from "../edgex.ts";
import { code, fail } from "../error.ts";
import { isNanos } from "../nanos.ts";
import { COLUMNS_MAX, NAME_LENGTH_MAX } from "./heads.ts";
import { eventId, readingId } from "./ids.ts";
import {
  type Block,
  type Extra,
  type Resource,
  type Series,
  type Value,
  VALUE_TYPES,
  type ValueType,
} from "./model.ts";
import { bytesOf, checkJson, textToValue, VALUE_INVALID, valueToText } from "./values.ts";

export type EdgexEvent = Event;
export type EdgexReading = Reading;

export const EVENT_INVALID = code(
  "EVENTS_EVENT_INVALID",
  "invalid",
  "Send an event as EdgeX v3 defines it; the message names the field.",
);

/** An event as a builder of blocks takes it. */
export interface EventRow {
  readonly series: Series;
  readonly origin: bigint;
  readonly values: Value[];
  readonly extra: Extra | undefined;
}

type Tags = { readonly [key: string]: unknown };
type Fields = { -readonly [K in keyof Extra]: Extra[K] };

// EdgeX takes value types in any case and stores the canonical one (core-contracts, NormalizeValueType).
const typeOf = new Map<string, ValueType>();
for (const type of VALUE_TYPES) typeOf.set(type, type).set(type.toLowerCase(), type);

const refuse = (message: string) => fail(EVENT_INVALID, message);

function nameOf(value: unknown, field: string): string {
  // core-contracts, edgex-dto-none-empty-string: not empty, nor of white space only.
  if (typeof value !== "string" || value.trim() === "") throw refuse(`the event's ${field} is empty`);
  if (value.length > NAME_LENGTH_MAX)
    throw refuse(
      `the event's ${field} '${value.slice(0, 32)}...' has ${value.length} characters; at most ${NAME_LENGTH_MAX} are allowed`,
    );
  return value;
}

function optionalText(value: unknown, field: string): string | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  if (typeof value !== "string" || value.length > NAME_LENGTH_MAX)
    throw refuse(`the ${field} is no text of at most ${NAME_LENGTH_MAX} characters`);
  return value;
}

function originOf(value: unknown, of: string): bigint {
  if (!isNanos(value)) throw refuse(`the origin of ${of} is no whole number of nanoseconds within 64 bits`);
  return BigInt(value);
}

function tagsOf(value: unknown, of: string): Tags | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "object" || Array.isArray(value)) throw refuse(`the tags of ${of} are no object`);
  // core-contracts leaves empty tags out (omitempty).
  return Object.keys(value).length === 0 ? undefined : (value as Tags);
}

/**
 * Checks an event by EdgeX's rules and turns it into a row. `extra` holds the ids that the sender chose, and tags and
 * origins of readings where there are any. Fields that readings may leave out when the event says the same (ADR 0031) are
 * filled in. Fails EVENTS_EVENT_INVALID (a name, an origin, the readings) and EVENTS_VALUE_INVALID (a value).
 */
export function eventToRow(event: EdgexEvent): EventRow {
  if (typeof event !== "object" || event === null) throw refuse("the event is no object");
  const deviceName = nameOf(event.deviceName, "deviceName");
  const profileName = nameOf(event.profileName, "profileName");
  const sourceName = nameOf(event.sourceName, "sourceName");
  const id = optionalText(event.id, `id of the event of device '${deviceName}'`);
  if (id === undefined) throw refuse(`the event of device '${deviceName}' has no id`);
  const origin = originOf(event.origin, `the event of device '${deviceName}'`);
  // core-contracts: validate:"required", which a 0 is not.
  if (origin === 0n) throw refuse(`the event of device '${deviceName}' has no origin`);
  const { readings } = event;
  if (!Array.isArray(readings) || readings.length === 0)
    throw refuse(`the event of device '${deviceName}' has no readings`);
  if (readings.length > COLUMNS_MAX)
    throw refuse(
      `the event of device '${deviceName}' has ${readings.length} readings; at most ${COLUMNS_MAX} are allowed`,
    );

  const resources: Resource[] = [];
  const values: Value[] = [];
  const extra: Fields = {};
  const ids: (string | undefined)[] = [id];
  const tags = tagsOf(event.tags, "the event");
  if (tags) extra.tags = tags;
  for (let k = 0; k < readings.length; k++) {
    const reading = readings[k];
    if (typeof reading !== "object" || reading === null)
      throw refuse(`reading ${k} of device '${deviceName}' is no object`);
    const resource = resourceOf(reading, event, readings.length);
    resources.push(resource);
    values.push(valueOf(reading, resource));
    ids.push(optionalText(reading.id, `id of resource '${resource.name}'`));
    addExtras(extra, reading, resource.name, k, origin);
  }
  extra.ids = ids;
  return { series: { deviceName, profileName, sourceName, resources }, origin, values, extra };
}

function resourceOf(reading: EdgexReading, event: EdgexEvent, count: number): Resource {
  // ADR 0031: a single reading may leave its resource's name to the event's source.
  const name = nameOf(reading.resourceName || (count === 1 ? event.sourceName : ""), "resourceName");
  for (const field of ["deviceName", "profileName"] as const) {
    if (reading[field] && reading[field] !== event[field]) {
      throw refuse(`resource '${name}' has the ${field} '${reading[field]}', its event '${event[field]}'`);
    }
  }
  const given: unknown = reading.valueType;
  const valueType = typeof given === "string" ? (typeOf.get(given) ?? typeOf.get(given.toLowerCase())) : undefined;
  if (valueType === undefined) throw refuse(`resource '${name}' has an unknown valueType '${String(given)}'`);
  const resource: { -readonly [K in keyof Resource]: Resource[K] } = { name, valueType };
  const units = optionalText(reading.units, `units of resource '${name}'`);
  if (units !== undefined) resource.units = units;
  const mediaType =
    valueType === "Binary" ? optionalText(reading.mediaType, `mediaType of resource '${name}'`) : undefined;
  if (mediaType !== undefined) resource.mediaType = mediaType;
  return resource;
}

function valueOf(reading: EdgexReading, resource: Resource): Value {
  const { name, valueType } = resource;
  if (valueType === "Binary") {
    const { binaryValue } = reading;
    if (binaryValue === undefined || binaryValue === null) return null;
    // core-contracts: required_with=BinaryValue.
    if (resource.mediaType === undefined && binaryValue.length > 0)
      throw refuse(`resource '${name}' has a binaryValue without a mediaType`);
    // JSON brings base64, CBOR the bytes.
    return binaryValue instanceof Uint8Array ? binaryValue : bytesOf(binaryValue, name);
  }
  if (valueType === "Object" || valueType === "ObjectArray") {
    const { objectValue } = reading;
    if (objectValue === undefined || objectValue === null) return null;
    checkJson(objectValue, valueType, name, 0);
    return objectValue as Value;
  }
  const { value } = reading;
  if (value === undefined || value === null) return null;
  if (typeof value !== "string")
    throw fail(VALUE_INVALID, `resource '${name}': its value is no text; EdgeX writes ${valueType} as text`);
  return textToValue(value, valueType, name);
}

function addExtras(extra: Fields, reading: EdgexReading, name: string, column: number, eventOrigin: bigint): void {
  const tags = tagsOf(reading.tags, `resource '${name}'`);
  if (tags) {
    const all = (extra.readingTags ?? []) as (Tags | undefined)[];
    while (all.length < column) all.push(undefined);
    all.push(tags);
    extra.readingTags = all;
  }
  // ADR 0031 leaves out an origin that is the event's; Go then reads 0.
  if (reading.origin === undefined || reading.origin === eventOrigin || Number(reading.origin) === 0) return;
  const origin = originOf(reading.origin, `resource '${name}'`);
  if (origin === eventOrigin) return;
  const all = (extra.origins ?? []) as (bigint | undefined)[];
  while (all.length < column) all.push(undefined);
  all.push(origin);
  extra.origins = all;
}

/** Makes the EdgeX event of a row; `tag` is that of the block's publisher (`publisherTag`), for ids that nobody else chose. */
export function rowToEvent(block: Block, row: number, tag: number): EdgexEvent {
  const { series, columns, publisher } = block;
  const sequence = block.sequences[row];
  const extra = block.extras.get(row);
  const readings: EdgexReading[] = [];
  for (let k = 0; k < columns.length; k++)
    if (columns[k][row] !== undefined) readings.push(readingOf(block, row, k, tag));
  const event: EdgexEvent = {
    apiVersion: "v3",
    id: extra?.ids?.[0] ?? eventId(tag, publisher.epoch, sequence),
    deviceName: series.deviceName,
    profileName: series.profileName,
    sourceName: series.sourceName,
    origin: block.origins[row],
    readings,
  };
  if (extra?.tags) event.tags = extra.tags;
  return event;
}

/** Makes the EdgeX reading of column `column` of a row, which has a value or null there. */
export function readingOf(block: Block, row: number, column: number, tag: number): EdgexReading {
  const { series, publisher } = block;
  const { name, valueType, units, mediaType } = series.resources[column];
  const value = block.columns[column][row];
  const extra = block.extras.get(row);
  const reading: EdgexReading = {
    id: extra?.ids?.[column + 1] ?? readingId(tag, publisher.epoch, block.sequences[row], column),
    origin: extra?.origins?.[column] ?? block.origins[row],
    deviceName: series.deviceName,
    resourceName: name,
    profileName: series.profileName,
    valueType,
  };
  if (units !== undefined) reading.units = units;
  const tags = extra?.readingTags?.[column];
  if (tags) reading.tags = tags;
  if (value === null || value === undefined) {
    // core-contracts, NullReading: all three are there, and null.
    reading.value = null;
    reading.binaryValue = null;
    reading.objectValue = null;
  } else if (valueType === "Binary") {
    reading.binaryValue = valueToText(value, valueType);
    if (mediaType !== undefined) reading.mediaType = mediaType;
  } else if (valueType === "Object" || valueType === "ObjectArray") reading.objectValue = value;
  else reading.value = valueToText(value, valueType);
  return reading;
}
