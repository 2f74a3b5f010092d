/** What is asked for: of which device and resource, between which times. */
import type { Block } from "../../kernel/events/model.ts";

export interface Selection {
  readonly device?: string;
  /** One of these; all where undefined. */
  readonly resources?: readonly string[];
  /** Both included, nanoseconds. */
  readonly start?: bigint;
  readonly end?: bigint;
}

/** What is counted and paged: events, or readings. */
export type Unit = "events" | "readings";

export const EARLIEST = -(2n ** 63n);
export const LATEST = 2n ** 63n - 1n;

export const startOf = ({ start }: Selection): bigint => start ?? EARLIEST;
export const endOf = ({ end }: Selection): bigint => end ?? LATEST;

export const isWanted = ({ resources }: Selection, name: string): boolean => !resources || resources.includes(name);

/** The columns of the wanted resources. */
export function columnsOf(selection: Selection, block: Block): number[] {
  const columns: number[] = [];
  block.series.resources.forEach(({ name }, column) => isWanted(selection, name) && columns.push(column));
  return columns;
}

/** How many items a row is: 0 outside of the times. */
export function itemsIn(
  selection: Selection,
  unit: Unit,
  block: Block,
  row: number,
  columns: readonly number[],
): number {
  const origin = block.origins[row];
  if (origin < startOf(selection) || origin > endOf(selection)) return 0;
  if (unit === "events") return 1;
  let count = 0;
  for (const column of columns) if (block.columns[column][row] !== undefined) count++;
  return count;
}

/** How many items a block holds. */
export function countIn(selection: Selection, unit: Unit, block: Block): number {
  const columns = columnsOf(selection, block);
  let count = 0;
  for (let row = 0; row < block.sequences.length; row++) count += itemsIn(selection, unit, block, row, columns);
  return count;
}
