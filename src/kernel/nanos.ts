/** Nanoseconds since 1970, EdgeX's `origin`: an int64 that a double rounds. A bigint in the house, an integer on the wire. */
import { type TSchema, Type } from "typebox";
import type { Clock } from "./clock.ts";
import { fail, INPUT_INVALID } from "./error.ts";

export const NANOS_MIN = -(2n ** 63n);
export const NANOS_MAX = 2n ** 63n - 1n;

const RANGE = "must be a whole number of nanoseconds within 64 bits";

/** Tells whether `value`, as read from the wire, stands for nanoseconds without loss: a bigint of 64 bits or a safe integer. */
export function isNanos(value: unknown): value is bigint | number {
  if (typeof value === "bigint") return value >= NANOS_MIN && value <= NANOS_MAX;
  // An unsafe double (1.7e18) was rounded by whoever wrote it: parseJson gives every integer literal of that size as bigint.
  return typeof value === "number" && Number.isSafeInteger(value);
}

/**
 * The schema of nanoseconds: `Static` is bigint; a check also lets the safe integers pass that JSON and CBOR give for
 * small values, and `nanosOf` makes them bigint. It has no `type`, as TypeBox's integer refuses a bigint and its bigint a number.
 */
export const Nanos = Type.Refine(
  Type.Unsafe<bigint>({ "~nanos": true, description: "Nanoseconds since 1970-01-01T00:00:00Z" }),
  isNanos,
  () => RANGE,
);

/** Tells whether a schema is `Nanos`, whatever options were added to it. */
export const isNanosSchema = (schema: TSchema): boolean => "~nanos" in schema;

/** Makes nanoseconds of what came from the wire. Fails INPUT_INVALID with `what` in the message. */
export function toNanos(value: unknown, what: string): bigint {
  if (!isNanos(value)) throw fail(INPUT_INVALID, `${what} ${RANGE}`);
  return typeof value === "bigint" ? value : BigInt(value);
}

/** Stamps: nanoseconds since 1970 by the wall clock of `clock`. */
export const nowNanos = (clock: Clock): bigint => clock.wallNs();

type Fix = (value: unknown) => unknown;
const fixes = new WeakMap<TSchema, { readonly fix: Fix | undefined }>();

/**
 * Makes bigint, in place, of every number in `value` that stands where `schema` says `Nanos`, and returns the value. Call
 * it on a checked value: then it is what `Static` promises. Costs nothing for a schema that has no `Nanos` in it.
 */
export function nanosOf(schema: TSchema, value: unknown): unknown {
  const fix = fixOf(schema);
  return fix ? fix(value) : value;
}

function fixOf(schema: TSchema): Fix | undefined {
  let known = fixes.get(schema);
  if (!known) fixes.set(schema, (known = { fix: makeFix(schema) }));
  return known.fix;
}

const exact: Fix = (value) => (typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value);

interface Shape {
  readonly properties?: { readonly [name: string]: TSchema };
  readonly additionalProperties?: TSchema | boolean;
  readonly patternProperties?: { readonly [pattern: string]: TSchema };
  readonly items?: TSchema | readonly TSchema[];
  readonly anyOf?: readonly TSchema[];
  readonly allOf?: readonly TSchema[];
}

function makeFix(schema: TSchema): Fix | undefined {
  if (isNanosSchema(schema)) return exact;
  const shape = schema as Shape;
  const parts = [fixMembers(shape), fixRecord(shape), fixItems(shape)];
  // A member of a union changes only what lies at its own places of Nanos; a value of another member has none there.
  for (const part of [...(shape.anyOf ?? []), ...(shape.allOf ?? [])]) parts.push(fixOf(part));
  const all = parts.filter((part) => part !== undefined);
  if (all.length <= 1) return all[0];
  return (value) => all.reduce((made, fix) => fix(made), value);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function fixMembers(shape: Shape): Fix | undefined {
  const members: [string, Fix][] = [];
  for (const [name, member] of Object.entries(shape.properties ?? {})) {
    const fix = fixOf(member);
    if (fix) members.push([name, fix]);
  }
  if (members.length === 0) return undefined;
  return (value) => {
    if (!isObject(value)) return value;
    for (const [name, fix] of members) if (value[name] !== undefined) value[name] = fix(value[name]);
    return value;
  };
}

function fixRecord(shape: Shape): Fix | undefined {
  const schemas = Object.values(shape.patternProperties ?? {});
  if (typeof shape.additionalProperties === "object") schemas.push(shape.additionalProperties);
  const all = schemas.map(fixOf).filter((fix) => fix !== undefined);
  if (all.length === 0) return undefined;
  const known = new Set(Object.keys(shape.properties ?? {}));
  return (value) => {
    if (!isObject(value)) return value;
    for (const name of Object.keys(value)) {
      if (name !== "__proto__" && !known.has(name)) for (const fix of all) value[name] = fix(value[name]);
    }
    return value;
  };
}

function fixItems(shape: Shape): Fix | undefined {
  const { items } = shape;
  if (items === undefined) return undefined;
  const tuple = isTuple(items) ? items.map(fixOf) : [];
  const each = isTuple(items) ? undefined : fixOf(items);
  if (!each && tuple.every((fix) => fix === undefined)) return undefined;
  return (value) => {
    if (!Array.isArray(value)) return value;
    const list: unknown[] = value;
    for (let i = 0; i < list.length; i++) {
      const fix = each ?? tuple[i];
      if (fix) list[i] = fix(list[i]);
    }
    return list;
  };
}

const isTuple = (items: TSchema | readonly TSchema[]): items is readonly TSchema[] => Array.isArray(items);
