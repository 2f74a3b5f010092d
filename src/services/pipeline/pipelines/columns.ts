/** Parts of a block: rows and columns left out of it, other values in it, without touching the block that came. */
import type { Block, Extra, Resource, Value } from "../../../kernel/events/model.ts";

/**
 * In the place of a resource whose readings stay here. The column remains, without a value and a name: a reading's id is
 * made of the number of its column, and is the same on the node and at the cloud.
 */
const HIDDEN: Resource = { name: "", valueType: "Bool" };

/** Tells whether a column was left out before. */
export const isHidden = ({ name }: Resource): boolean => name === "";

/** Takes the other columns out of a block, and the events that have no reading left. */
export function withColumns(block: Block, kept: readonly boolean[]): Block | undefined {
  if (kept.every(Boolean)) return block;
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

/** Takes the other events out of a block. */
export function withRows(block: Block, isKept: (row: number) => boolean): Block | undefined {
  const rows = [...block.sequences.keys()].filter(isKept);
  if (rows.length === 0) return undefined;
  if (rows.length === block.sequences.length) return block;
  const only = <T>(list: readonly T[]): T[] => rows.map((row) => list[row]);
  return {
    publisher: block.publisher,
    series: block.series,
    sequences: only(block.sequences),
    origins: only(block.origins),
    columns: block.columns.map(only),
    extras: new Map(
      rows.flatMap((row, at): [number, Extra][] => {
        const extra = block.extras.get(row);
        return extra ? [[at, extra]] : [];
      }),
    ),
  };
}

/** Gives every event another extra; `undefined` takes it away. */
export function withExtras(block: Block, change: (extra: Extra | undefined, row: number) => Extra | undefined): Block {
  const extras = new Map<number, Extra>();
  for (const row of block.sequences.keys()) {
    const extra = change(block.extras.get(row), row);
    if (extra && Object.keys(extra).length > 0) extras.set(row, extra);
  }
  return { ...block, extras };
}

/** Readings of a block: an absent value is none. */
export function readingsOf({ columns }: Block): number {
  let readings = 0;
  for (const column of columns) for (const value of column) if (value !== undefined) readings++;
  return readings;
}
