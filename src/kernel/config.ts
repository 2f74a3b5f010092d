/**
 * Config: one file for the node, a section a service, one strict schema a section. What the file leaves out takes its
 * default; what no schema knows refuses to start, with the nearest known name. The schemas also write docs/config.md.
 */
import { code, fail } from "./error.ts";

export const CONFIG_FILE_UNREADABLE = code(
  "CONFIG_FILE_UNREADABLE",
  "invalid",
  "Name a file that the node's user may read with --config, or leave it out: every key has a default.",
);
export const CONFIG_FILE_MALFORMED = code(
  "CONFIG_FILE_MALFORMED",
  "invalid",
  "Correct the line that the message names; the file is YAML 1.2, JSON is fine too.",
);
export const CONFIG_KEY_UNKNOWN = code(
  "CONFIG_KEY_UNKNOWN",
  "invalid",
  "Correct or remove the key; docs/config.md lists them all.",
);
export const CONFIG_VALUE_INVALID = code(
  "CONFIG_VALUE_INVALID",
  "invalid",
  "Give the key a value as the message says; docs/config.md has an example of each.",
);

/** What of JSON Schema a config schema may use; a TypeBox schema is one, and so is its JSON (bundle's manifest). */
export interface ConfigSchema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, ConfigSchema>>;
  readonly required?: readonly string[];
  /** false: strict; a schema: any further name, with values of it. */
  readonly additionalProperties?: boolean | ConfigSchema;
  /** As TypeBox writes records: a pattern of names, with the values' schema. */
  readonly patternProperties?: Readonly<Record<string, ConfigSchema>>;
  readonly items?: ConfigSchema;
  readonly maxItems?: number;
  readonly anyOf?: readonly ConfigSchema[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly example?: unknown;
  /** What its value reaches outside of the service, where it does (config-reach.ts). */
  readonly reach?: Reach;
}

/** A file whose text the service gets, an address that it connects to, or an own address that it connects from. */
export type Reach = "file" | "url" | "local-address";

export interface ConfigSection {
  /** Service key, or `node` for the node itself. */
  readonly key: string;
  readonly schema: ConfigSchema;
}

export type ConfigValues = Readonly<Record<string, unknown>>;

export const CONFIG_FILE = "holdfast.yaml";

/** Checks one value against its schema and fills defaults; `path` is its place (`bus.sizeBytesMax`), `file` opens the sentence. CONFIG_KEY_UNKNOWN, CONFIG_VALUE_INVALID. */
export function checkConfig(schema: ConfigSchema, given: unknown, path: string, file = "config"): unknown {
  // A section with nothing under it (`bus:`) reads as null; it means what leaving it out means.
  const value = given === undefined || (given === null && schema.type === "object") ? startOf(schema) : given;
  if (!fits(schema, value))
    throw fail(CONFIG_VALUE_INVALID, `${file}: ${named(path)} must be ${expected(schema)}, got ${got(value)}`);
  if (schema.anyOf) {
    const way = wayOf(schema.anyOf, value);
    if (!way) throw fail(CONFIG_VALUE_INVALID, `${file}: ${kindMessage(schema.anyOf, value, path)}`);
    return checkConfig(way, value, path, file);
  }
  if (Array.isArray(value) && schema.items)
    return value.map((item: unknown, at) =>
      schema.items ? checkConfig(schema.items, item, `${path}[${at}]`, file) : item,
    );
  // A schema that says nothing (Type.Unknown) takes anything, as it is.
  const says = schema.type !== undefined || schema.properties !== undefined;
  if (says && typeof value === "object" && value !== null)
    return checkObject(schema, value as Record<string, unknown>, path, file);
  return value;
}

const startOf = (schema: ConfigSchema): unknown =>
  schema.default !== undefined ? structuredClone(schema.default) : schema.type === "object" ? {} : undefined;

/** Walks a checked value with its schema: calls back for each place that the schema describes. */
export function walkConfig(
  schema: ConfigSchema,
  value: unknown,
  visit: (schema: ConfigSchema, value: unknown, path: string) => void,
  path = "",
): void {
  visit(schema, value, path);
  const below = (key: string) => (path === "" ? key : `${path}.${key}`);
  if (schema.anyOf) {
    const way = wayOf(schema.anyOf, value);
    if (way) walkConfig(way, value, visit, path);
  } else if (Array.isArray(value))
    value.forEach((item: unknown, at) => schema.items && walkConfig(schema.items, item, visit, `${path}[${at}]`));
  else if (typeof value === "object" && value !== null)
    for (const [key, item] of Object.entries(value)) {
      const inner = schema.properties?.[key] ?? furtherOf(schema, key);
      if (inner) walkConfig(inner, item, visit, below(key));
    }
}

/** Finds which of a union's schemas a value is meant for: by the constant that tells its sections apart, else the first it fits. */
function wayOf(ways: readonly ConfigSchema[], value: unknown): ConfigSchema | undefined {
  const kind = kindOf(ways);
  if (kind !== undefined && isSection(value))
    return ways.find((way) => way.properties?.[kind]?.const === (value as Record<string, unknown>)[kind]);
  return (
    ways.find((s) => fits(s, value) && !(s.properties && !onlyKnown(s, value))) ?? ways.find((s) => fits(s, value))
  );
}

/** The key that is a constant in every section of a union (`kind`). */
function kindOf(ways: readonly ConfigSchema[]): string | undefined {
  const sections = ways.filter(({ type }) => type === "object");
  return Object.keys(sections[0]?.properties ?? {}).find((key) =>
    sections.every((way) => way.properties?.[key]?.const !== undefined),
  );
}

function kindMessage(ways: readonly ConfigSchema[], value: unknown, path: string): string {
  const kind = kindOf(ways) ?? "";
  const known = ways.flatMap((way) => (way.properties?.[kind] ? [expected(way.properties[kind])] : []));
  return `'${path}.${kind}' must be ${known.join(" or ")}, got ${got((value as Record<string, unknown>)[kind])}`;
}

const isSection = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
const onlyKnown = (schema: ConfigSchema, value: unknown): boolean =>
  Object.keys(value as object).every((key) => Object.hasOwn(schema.properties ?? {}, key));

function checkObject(schema: ConfigSchema, value: Record<string, unknown>, path: string, file: string): unknown {
  const known = schema.properties ?? {};
  const below = (key: string) => (path === "" ? key : `${path}.${key}`);
  const out: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    if (Object.hasOwn(known, key)) continue;
    const other = furtherOf(schema, key);
    if (!other)
      throw fail(
        CONFIG_KEY_UNKNOWN,
        `${file}: ${named(below(key.slice(0, 100)))} is not a known key${nearest(key, Object.keys(known), below)}`,
      );
    out[key] = checkConfig(other, item, below(key), file);
  }
  for (const [key, inner] of Object.entries(known)) {
    const isRequired = schema.required?.includes(key) ?? false;
    // A section that may be left out means something by being there: it is not made of defaults.
    const filled = Object.hasOwn(value, key) ? value[key] : isRequired ? startOf(inner) : inner.default;
    if (filled !== undefined) out[key] = checkConfig(inner, filled, below(key), file);
    else if (isRequired)
      throw fail(CONFIG_VALUE_INVALID, `${file}: ${named(below(key))} is missing; it must be ${expected(inner)}`);
  }
  return out;
}

function furtherOf(schema: ConfigSchema, key: string): ConfigSchema | undefined {
  for (const [pattern, inner] of Object.entries(schema.patternProperties ?? {}))
    if (new RegExp(pattern).test(key)) return inner;
  const further = schema.additionalProperties;
  // Strict by default: a schema that forgot to say so takes no unknown key either.
  return typeof further === "object" ? further : further === true ? {} : undefined;
}

function fits(schema: ConfigSchema, value: unknown): boolean {
  if (schema.anyOf) return schema.anyOf.some((s) => fits(s, value));
  if (schema.const !== undefined) return value === schema.const;
  switch (schema.type) {
    case "string":
      return (
        typeof value === "string" &&
        value.length >= (schema.minLength ?? 0) &&
        value.length <= (schema.maxLength ?? Number.POSITIVE_INFINITY) &&
        (!schema.pattern || new RegExp(schema.pattern).test(value))
      );
    case "integer":
      return Number.isSafeInteger(value) && inRange(schema, value as number);
    case "number":
      return typeof value === "number" && Number.isFinite(value) && inRange(schema, value);
    case "boolean":
      return typeof value === "boolean";
    case "array":
      return Array.isArray(value) && value.length <= (schema.maxItems ?? Number.POSITIVE_INFINITY);
    case "object":
      return isSection(value);
    default:
      return true;
  }
}

const inRange = (schema: ConfigSchema, value: number): boolean =>
  value >= (schema.minimum ?? Number.NEGATIVE_INFINITY) && value <= (schema.maximum ?? Number.POSITIVE_INFINITY);
const named = (path: string): string => (path === "" ? "the file" : `'${path}'`);

/** Says in words what a schema takes: "an integer from 1 to 65535". */
export function expected(schema: ConfigSchema): string {
  if (schema.anyOf) return [...new Set(schema.anyOf.map(expected))].join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const { minimum: low, maximum: high, maxLength } = schema;
  const range =
    low !== undefined && high !== undefined
      ? ` from ${low} to ${high}`
      : low !== undefined
        ? ` of at least ${low}`
        : high !== undefined
          ? ` of at most ${high}`
          : "";
  switch (schema.type) {
    case "string":
      return `a text${schema.pattern ? ` of the form ${schema.pattern}` : ""}${maxLength === undefined ? "" : ` of at most ${maxLength} characters`}`;
    case "integer":
      return `an integer${range}`;
    case "number":
      return `a number${range}`;
    case "boolean":
      return "true or false";
    case "array":
      return `a list${schema.maxItems === undefined ? "" : ` of at most ${schema.maxItems} items`}${schema.items ? `, each ${expected(schema.items)}` : ""}`;
    case "object":
      return "a section (keys and values)";
    default:
      return "a value";
  }
}

function got(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "nothing (null)";
  const kind = Array.isArray(value)
    ? "a list"
    : typeof value === "object"
      ? "a section"
      : typeof value === "string"
        ? "a text"
        : `a ${typeof value}`;
  const text = JSON.stringify(value);
  return `${text.length > 80 ? `${text.slice(0, 77)}...` : text} (${kind})`;
}

/** Writes the hint of an unknown key: the nearest known one, or all where none is near. */
function nearest(key: string, known: readonly string[], below: (key: string) => string): string {
  const ranked = known
    .map((name) => ({ name, away: distance(key.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.away - b.away);
  const [best] = ranked;
  if (best && best.away <= Math.max(2, Math.floor(key.length / 3))) return `; did you mean '${below(best.name)}'?`;
  return known.length === 0 ? "; there are none here" : `; known here: ${known.slice(0, 40).join(", ")}`;
}

/** Counts the edits (insert, delete, replace, swap of neighbours) between two texts. */
export function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, before[j - 2] + 1);
      next[j] = best;
    }
    [before, row] = [row, next];
  }
  return row[b.length];
}
