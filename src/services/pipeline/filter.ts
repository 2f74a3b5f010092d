/** Which events and readings leave the node: EdgeX's FilterByDeviceName, FilterByProfileName, FilterByResourceName. */
import { type Static, Type } from "typebox";
import type { Block } from "../../kernel/events/model.ts";
import { field } from "../../kernel/service.ts";

const Names = Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), { maxItems: 4096 });

/** Names that pass; an empty list lets all pass. */
export const Filter = Type.Object(
  {
    devices: field(Names, { description: "Devices whose events leave the node; empty for all (FilterByDeviceName).", default: [], example: ["pump-1"] }),
    profiles: field(Names, { description: "Profiles whose events leave the node; empty for all (FilterByProfileName).", default: [], example: ["Pump"] }),
    resources: field(Names, { description: "Resources whose readings leave the node; empty for all (FilterByResourceName).", default: [], example: ["Pressure"] }),
  },
  { additionalProperties: false },
);

/** Makes the filter: of a block, what leaves of it, or nothing. */
export function makeFilter({ devices, profiles, resources }: Static<typeof Filter>): (block: Block) => Block | undefined {
  const passes = (list: readonly string[]) => {
    const names = new Set(list);
    return (name: string) => names.size === 0 || names.has(name);
  };
  const [device, profile, resource] = [passes(devices), passes(profiles), passes(resources)];
  return (block) => {
    if (!device(block.series.deviceName) || !profile(block.series.profileName)) return undefined;
    const kept = block.series.resources.map((r) => resource(r.name));
    if (kept.every(Boolean)) return block;
    if (!kept.some(Boolean)) return undefined;
    const only = <T>(list: readonly T[]): T[] => list.filter((_, k) => kept[k]);
    const extras = new Map([...block.extras].map(([row, extra]) => [row, {
      ...extra,
      ...(extra.ids ? { ids: [extra.ids[0], ...only(extra.ids.slice(1))] } : {}),
      ...(extra.origins ? { origins: only(extra.origins) } : {}),
      ...(extra.readingTags ? { readingTags: only(extra.readingTags) } : {}),
    }]));
    return { ...block, series: { ...block.series, resources: only(block.series.resources) }, columns: only(block.columns), extras };
  };
}
