/** Which events and readings leave the node: EdgeX's FilterByDeviceName, FilterByProfileName, FilterByResourceName. */
import { type Static, Type } from "typebox";
import type { Block, Extra, Resource, Value } from "../../kernel/events/model.ts";
import { field } from "../../kernel/service.ts";

const Names = Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), { maxItems: 4096 });

/** Names that pass; an empty list lets all pass. */
export const Filter = Type.Object(
  {
    devices: field(Names, {
      description: "Devices whose events leave the node; empty for all (FilterByDeviceName).",
      default: [],
      example: ["pump-1"],
    }),
    profiles: field(Names, {
      description: "Profiles whose events leave the node; empty for all (FilterByProfileName).",
      default: [],
      example: ["Pump"],
    }),
    resources: field(Names, {
      description: "Resources whose readings leave the node; empty for all (FilterByResourceName).",
      default: [],
      example: ["Pressure"],
    }),
  },
  { additionalProperties: false },
);

/**
 * In the place of a resource whose readings stay here. The column remains, without a value and a name: a reading's id is
 * made of the number of its column, and is the same on the node and at the cloud.
 */
const HIDDEN: Resource = { name: "", valueType: "Bool" };

/** Makes the filter: of a block, what leaves of it, or nothing. */
export function makeFilter({
  devices,
  profiles,
  resources,
}: Static<typeof Filter>): (block: Block) => Block | undefined {
  const passes = (list: readonly string[]) => {
    const names = new Set(list);
    return (name: string) => names.size === 0 || names.has(name);
  };
  const [device, profile, resource] = [passes(devices), passes(profiles), passes(resources)];
  return (block) => {
    if (!device(block.series.deviceName) || !profile(block.series.profileName)) return undefined;
    const kept = block.series.resources.map(({ name }) => resource(name));
    return kept.every(Boolean) ? block : withColumns(block, kept);
  };
}

/** Takes the other columns out of a block, and the events that have no reading left. */
function withColumns(block: Block, kept: readonly boolean[]): Block | undefined {
  const { series, columns, extras } = block;
  // Behind the last one that stays none has to be counted.
  const width = kept.lastIndexOf(true) + 1;
  const isKept = (_: unknown, k: number) => kept[k];
  const rows = [...block.sequences.keys()].filter((row) =>
    columns.some((column, k) => kept[k] && column[row] !== undefined),
  );
  if (rows.length === 0) return undefined;
  const whole = rows.length === block.sequences.length;
  const only = <T>(list: readonly T[]): T[] => (whole ? [...list] : rows.map((row) => list[row]));
  const absent = new Array<Value>(rows.length).fill(undefined);
  const found = rows.flatMap((row, at): [number, Extra][] => {
    const extra = extras.get(row);
    return extra ? [[at, withoutHidden(extra, width, isKept)]] : [];
  });
  return {
    publisher: block.publisher,
    series: { ...series, resources: series.resources.slice(0, width).map((r, k) => (kept[k] ? r : HIDDEN)) },
    sequences: only(block.sequences),
    origins: only(block.origins),
    columns: columns.slice(0, width).map((column, k) => (kept[k] ? only(column) : absent)),
    extras: new Map(found),
  };
}

function withoutHidden(extra: Extra, width: number, isKept: (_: unknown, k: number) => boolean): Extra {
  const blank = <T>(list: readonly T[]): (T | undefined)[] =>
    list.slice(0, width).map((item, k) => (isKept(item, k) ? item : undefined));
  return {
    ...extra,
    ...(extra.ids ? { ids: [extra.ids[0], ...blank(extra.ids.slice(1))] } : {}),
    ...(extra.origins ? { origins: blank(extra.origins) } : {}),
    ...(extra.readingTags ? { readingTags: blank(extra.readingTags) } : {}),
  };
}
