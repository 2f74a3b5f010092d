/** Functions that choose and mark: EdgeX's FilterByDeviceName, FilterByProfileName, FilterByResourceName, AddTags, JSONLogic. */
import { Type } from "typebox";
import type { Block, Value } from "../../../kernel/events/model.ts";
import { isHidden, withColumns, withExtras, withRows } from "./columns.ts";
import { Logic, makeLogic } from "./logic.ts";
import { type Stage, stateless } from "./stage.ts";

/** Names in one list. */
const NAMES_MAX = 4_096;
const TAGS_MAX = 64;

export const Names = Type.Array(Type.String({ minLength: 1, maxLength: 1_024 }), { maxItems: NAMES_MAX });
const FilterOut = Type.Boolean({ default: false });
const strict = { additionalProperties: false } as const;

export const FilterByDeviceName = Type.Object(
  { function: Type.Literal("FilterByDeviceName"), deviceNames: Names, filterOut: FilterOut },
  strict,
);
export const FilterByProfileName = Type.Object(
  { function: Type.Literal("FilterByProfileName"), profileNames: Names, filterOut: FilterOut },
  strict,
);
export const FilterBySourceName = Type.Object(
  { function: Type.Literal("FilterBySourceName"), sourceNames: Names, filterOut: FilterOut },
  strict,
);
export const FilterByResourceName = Type.Object(
  { function: Type.Literal("FilterByResourceName"), resourceNames: Names, filterOut: FilterOut },
  strict,
);
export const AddTags = Type.Object(
  {
    function: Type.Literal("AddTags"),
    tags: Type.Record(Type.String({ minLength: 1, maxLength: 1_024 }), Type.Unknown(), { maxProperties: TAGS_MAX }),
  },
  strict,
);
export const JSONLogic = Type.Object({ function: Type.Literal("JSONLogic"), rule: Logic }, strict);

/** EdgeX: an empty list lets all pass, or with `filterOut` none goes. */
function passes(names: readonly string[], filterOut: boolean): (name: string) => boolean {
  const known = new Set(names);
  return (name) => known.size === 0 || known.has(name) !== filterOut;
}

/** Makes the filter of whole blocks by a name that they have in common. */
export function filterByName(
  nameOf: (series: Block["series"]) => string,
  names: readonly string[],
  filterOut: boolean,
): Stage {
  const isWanted = passes(names, filterOut);
  return stateless((block) => (isWanted(nameOf(block.series)) ? block : undefined));
}

/** Makes the filter of readings; events that have none left go, too. */
export function filterByResource(names: readonly string[], filterOut: boolean): Stage {
  const isWanted = passes(names, filterOut);
  return stateless((block) =>
    withColumns(
      block,
      block.series.resources.map((r) => isHidden(r) || isWanted(r.name)),
    ),
  );
}

/** Makes what puts tags on every event; a tag of the same name is replaced, as in EdgeX. */
export const addTags = (tags: Readonly<Record<string, unknown>>): Stage =>
  stateless((block) => withExtras(block, (extra) => ({ ...extra, tags: { ...extra?.tags, ...tags } })));

/** Makes what lets events pass for which a condition holds. PIPELINE_LOGIC_INVALID. */
export function jsonLogic(rule: Logic): Stage {
  const holds = makeLogic(rule);
  return stateless((block) => withRows(block, (row) => holds(eventOf(block, row))));
}

/** An event as conditions see it: EdgeX's, with values as they are, and `values` by resource for short. */
export function eventOf({ series, columns, origins, extras }: Block, row: number): Record<string, unknown> {
  const { deviceName, profileName, sourceName, resources } = series;
  const readings = resources.flatMap(({ name, valueType }, k) => {
    const value = columns[k][row];
    return value === undefined ? [] : [{ resourceName: name, valueType, value: plainOf(value) }];
  });
  const values = Object.fromEntries(readings.map(({ resourceName, value }) => [resourceName, value]));
  // Nanoseconds do not fit a double: conditions get milliseconds.
  const originMs = Number(origins[row] / 1_000_000n);
  return { deviceName, profileName, sourceName, originMs, tags: extras.get(row)?.tags ?? {}, readings, values };
}

/** Conditions compare numbers: a large integer as the double nearest to it. */
const plainOf = (value: Value): unknown => (typeof value === "bigint" ? Number(value) : value);
