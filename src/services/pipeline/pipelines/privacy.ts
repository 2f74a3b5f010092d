/** Functions for privacy: what must not leave is dropped, made coarse, or replaced by a keyed pseudonym. */
import { createHmac } from "node:crypto";
import { Type } from "typebox";
import type { Extra, Series, Value, ValueType } from "../../../kernel/events/model.ts";
import { isHidden, withColumns, withExtras } from "./columns.ts";
import { Names } from "./filters.ts";
import { type Stage, stateless } from "./stage.ts";

const strict = { additionalProperties: false } as const;
const none = { default: [] } as const;

export const Drop = Type.Object(
  {
    function: Type.Literal("Drop"),
    resources: Type.Array(Type.String({ minLength: 1, maxLength: 1_024 }), { maxItems: 4_096, ...none }),
    tags: Type.Array(Type.String({ minLength: 1, maxLength: 1_024 }), { maxItems: 4_096, ...none }),
  },
  strict,
);
export const Coarsen = Type.Object(
  {
    function: Type.Literal("Coarsen"),
    /** Empty: all. */
    resources: Type.Array(Type.String({ minLength: 1, maxLength: 1_024 }), { maxItems: 4_096, ...none }),
    step: Type.Optional(Type.Number({ minimum: 1e-12, maximum: 1e15 })),
    timeStepMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 31_536_000_000 })),
    geoDecimals: Type.Optional(Type.Integer({ minimum: 0, maximum: 8 })),
  },
  strict,
);
export const Pseudonym = Type.Object(
  {
    function: Type.Literal("Pseudonym"),
    device: Type.Boolean({ default: false }),
    resources: Type.Optional(Names),
  },
  strict,
);

/** Hex digits of a pseudonym: 96 bits, so that two of a million names are never the same. */
const PSEUDONYM_DIGITS = 24;
/** Pseudonyms that are remembered; then all are forgotten (one costs a hash). */
const PSEUDONYMS_MAX = 16_384;
/** Where positions stand in objects and tags (EdgeX's tags are `Latitude`, `Longitude`). */
const GEO = new Set(["lat", "latitude", "lon", "lng", "long", "longitude", "coordinates"]);
const GEO_DEPTH_MAX = 8;

/** Makes what takes resources and tags away. */
export function drop(resources: readonly string[], tags: readonly string[]): Stage {
  const [dropped, gone] = [new Set(resources), new Set(tags)];
  const without = (given: Extra["tags"]) =>
    given && Object.fromEntries(Object.entries(given).filter(([name]) => !gone.has(name)));
  const untagged = (extra: Extra | undefined): Extra | undefined => {
    if (!extra?.tags && !extra?.readingTags) return extra;
    const { tags: own, readingTags, ...rest } = extra;
    const left = without(own);
    return {
      ...rest,
      ...(left && Object.keys(left).length > 0 ? { tags: left } : {}),
      ...(readingTags ? { readingTags: readingTags.map(without) } : {}),
    };
  };
  return stateless((block) => {
    const left = withColumns(
      block,
      block.series.resources.map((r) => !isHidden(r) && !dropped.has(r.name)),
    );
    return left && gone.size > 0 ? withExtras(left, untagged) : left;
  });
}

/** Makes what rounds numbers to a step (integers towards zero), times down to a step, and positions to decimals. */
export function coarsen(options: {
  resources: readonly string[];
  step?: number | undefined;
  timeStepMs?: number | undefined;
  geoDecimals?: number | undefined;
}): Stage {
  const { step, timeStepMs, geoDecimals } = options;
  const wanted = new Set(options.resources);
  const geo = geoDecimals === undefined ? undefined : nearest(10 ** -geoDecimals);
  const time = timeStepMs === undefined ? undefined : floorTo(BigInt(timeStepMs) * 1_000_000n);
  const tags = (given: NonNullable<Extra["tags"]>) => (geo ? (geoOf(given, geo, false, 0) as typeof given) : given);
  const extra = (given: Extra | undefined): Extra | undefined =>
    given && {
      ...given,
      ...(given.tags ? { tags: tags(given.tags) } : {}),
      ...(given.readingTags ? { readingTags: given.readingTags.map((each) => each && tags(each)) } : {}),
      ...(time && given.origins ? { origins: given.origins.map((at) => (at === undefined ? at : time(at))) } : {}),
    };
  return stateless((block) => ({
    ...withExtras(block, extra),
    origins: time ? block.origins.map(time) : block.origins,
    columns: block.columns.map((column, k) => {
      const { name, valueType } = block.series.resources[k];
      const change = wanted.size === 0 || wanted.has(name) ? changeOf(valueType, step, geo) : undefined;
      return change ? column.map(change) : column;
    }),
  }));
}

type Round = (value: number) => number;

/** What is done to the values of a type; undefined where nothing is. */
function changeOf(
  type: ValueType,
  step: number | undefined,
  geo: Round | undefined,
): ((value: Value) => Value) | undefined {
  if (type.startsWith("Object")) return geo && ((value) => geoOf(value, geo, false, 0) as Value);
  if (!/^(Uint|Int|Float)/.test(type)) return undefined;
  const isFloat = type.startsWith("Float");
  // Nearest could lead an integer out of its type's range.
  const round = step === undefined ? (isFloat ? geo : undefined) : isFloat ? nearest(step) : towardsZero(step);
  if (!round) return undefined;
  const whole = BigInt(Math.max(1, Math.round(step ?? 1)));
  const change = (value: unknown): unknown => {
    if (typeof value === "number") return round(value);
    if (typeof value === "bigint") return (value / whole) * whole;
    if (Array.isArray(value)) return value.map(change);
    // A number whose text is not the canonical one.
    return typeof value === "string" && Number.isFinite(Number(value)) ? round(Number(value)) : value;
  };
  return change as (value: Value) => Value;
}

const floorTo =
  (step: bigint) =>
  (at: bigint): bigint =>
    at - (((at % step) + step) % step);

const towardsZero =
  (step: number): Round =>
  (value) =>
    Math.trunc(Math.trunc(value / step) * step) + 0;

/** Rounds to the nearest multiple. 0.1 * 3 is 0.30000000000000004: the step's own decimals say how many there are. */
function nearest(step: number): Round {
  const decimals = Math.min(15, Math.max(0, 2 - Math.floor(Math.log10(step))));
  return (value) => {
    const near = Math.round(value / step) * step;
    return near - near === 0 ? Number(near.toFixed(decimals)) : value;
  };
}

/** Rounds the positions in an object, at whatever depth. */
function geoOf(value: unknown, round: Round, isGeo: boolean, depth: number): unknown {
  if (typeof value === "number") return isGeo ? round(value) : value;
  if (typeof value === "string" && isGeo && Number.isFinite(Number(value))) return String(round(Number(value)));
  if (depth > GEO_DEPTH_MAX || typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map((item) => geoOf(item, round, isGeo, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name,
      geoOf(item, round, isGeo || GEO.has(name.toLowerCase()), depth + 1),
    ]),
  );
}

/** Makes what puts pseudonyms in the place of device names and of texts. The same name has the same one on this node. */
export function pseudonym(options: { key: Uint8Array; device: boolean; resources: readonly string[] }): Stage {
  const wanted = new Set(options.resources);
  const known = new Map<string, string>();
  const hide = (kind: string, text: string): string => {
    const name = `${kind} ${text}`;
    let made = known.get(name);
    if (made === undefined) {
      made = createHmac("sha256", options.key).update(name).digest("hex").slice(0, PSEUDONYM_DIGITS);
      if (known.size >= PSEUDONYMS_MAX) known.clear();
      known.set(name, made);
    }
    return made;
  };
  const nameless = (series: Series): Series =>
    options.device ? { ...series, deviceName: `device-${hide("device", series.deviceName)}` } : series;
  return stateless((block) => ({
    ...block,
    series: nameless(block.series),
    columns: block.columns.map((column, k) =>
      wanted.has(block.series.resources[k].name)
        ? column.map((value) => (typeof value === "string" ? hide("value", value) : value))
        : column,
    ),
  }));
}
