/**
 * Derived events: what a function makes of readings, as a series of its own. Their ids are those of the last reading that
 * went in, under a publisher of their own: the same rows make the same ids, and no two events have one.
 */
import { createHash } from "node:crypto";
import { COLUMNS_MAX, NAME_LENGTH_MAX } from "../../../kernel/events/heads.ts";
import type { Block, Publisher, Resource, Series } from "../../../kernel/events/model.ts";
import { numberOf } from "./values.ts";

/** What of a series is worked on, and what the result looks like. */
export interface Derived {
  /** Source `<source>.<as>`, with the resources made. */
  readonly series: Series;
  /** The columns of the original that go in, in order. */
  readonly columns: readonly number[];
  /** Marks, per column of the original, the values that pass as they are: those that are no finite number. */
  passing(block: Block): (Uint8Array | undefined)[];
  /** Stands behind the publisher's name. */
  readonly suffix: string;
}

export interface DerivedOptions {
  /** The name of what is derived: stands behind that of the source. */
  readonly as: string;
  readonly pipeline?: string | undefined;
  readonly acts: (resource: Resource) => boolean;
  readonly resourcesOf: (resource: Resource) => readonly Resource[];
}

export const derivedName = (name: string, of: string): string => `${name}.${of}`;

/**
 * Works out the derived series. A resource whose derived name would be longer than NAME_LENGTH_MAX, or for which
 * COLUMNS_MAX leaves no room, does not go in: its readings pass as they are.
 */
export function derivedSeries(series: Series, { as, pipeline, acts, resourcesOf }: DerivedOptions): Derived {
  const { deviceName, profileName } = series;
  const sourceName = derivedName(series.sourceName, as);
  const resources: Resource[] = [];
  const columns: number[] = [];
  series.resources.forEach((resource, k) => {
    if (!acts(resource) || sourceName.length > NAME_LENGTH_MAX) return;
    const made = resourcesOf(resource);
    if (resources.length + made.length > COLUMNS_MAX || made.some(({ name }) => name.length > NAME_LENGTH_MAX)) return;
    resources.push(...made);
    columns.push(k);
  });
  return {
    series: { deviceName, profileName, sourceName, resources },
    columns,
    passing: (block) => passingOf(block, columns),
    suffix: pipeline === undefined ? `.${as}` : `.${pipeline}.${as}`,
  };
}

function passingOf(block: Block, columns: readonly number[]): (Uint8Array | undefined)[] {
  const kept = new Array<Uint8Array | undefined>(block.columns.length).fill(undefined);
  for (const k of columns)
    kept[k] = Uint8Array.from(block.columns[k], (value) => (Number.isNaN(numberOf(value)) ? 1 : 0));
  return kept;
}

/** Names the publisher of a derived event; `part` keeps apart those that may have the same last reading. */
export function derivedPublisher({ suffix }: Derived, { name, epoch }: Publisher, part?: number): Publisher {
  const made = `${name}${suffix}${part === undefined ? "" : `.${part}`}`;
  if (made.length <= NAME_LENGTH_MAX) return { name: made, epoch };
  return { name: createHash("sha256").update(made, "utf16le").digest("hex"), epoch };
}
