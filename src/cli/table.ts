/** Tables that fit: columns take what their cells need; on a narrow terminal the roomy ones are cut, and the least ones go. */
import type { Page, Style } from "./page.ts";
import { cut, pad, widthOf, wrap } from "./text.ts";

export interface Column {
  readonly title: string;
  /** Numbers stand at the right. */
  readonly right?: boolean;
  /** May be cut to so many columns; one without is never cut. */
  readonly min?: number;
  /** At least so wide, where there is room. */
  readonly wide?: number | undefined;
  /** Left out where there is no room: the highest first. */
  readonly drop?: number;
  /** The last column may go on below itself instead of being cut. */
  readonly wraps?: boolean;
}

export type Cell = string | { readonly text: string; readonly style: Style };

const GAP = 2;
/** A column that goes on below itself reads well from this width on. */
const WRAPPED_WIDTH = 24;
export const textOf = (cell: Cell): string => (typeof cell === "string" ? cell : cell.text);

/** Lays out rows under titles; cells are plain text. */
export function table(page: Page, columns: readonly Column[], rows: readonly (readonly Cell[])[]): string[] {
  const kept = fit(page.width, columns, rows);
  const line = (cells: readonly Cell[], style?: Style): string[] => {
    const last = kept.at(-1)!;
    const below = last.column.wraps ? wrap(textOf(cells[last.at]), last.width) : [textOf(cells[last.at])];
    const lead = kept.reduce((sum, { width }) => sum + width + GAP, 0) - last.width - GAP;
    const first = kept.map(({ column, width, at }) => {
      const cell = cells[at];
      const text = pad(cut(at === last.at ? below[0] : textOf(cell), width), width, column.right);
      const worn = style ?? (typeof cell === "string" ? undefined : cell.style);
      return worn === undefined ? text : page.style(worn, text);
    });
    return [first.join(" ".repeat(GAP)).trimEnd(), ...below.slice(1).map((part) => " ".repeat(lead) + part)];
  };
  return [
    ...line(
      columns.map(({ title }) => title),
      "dim",
    ),
    ...rows.flatMap((row) => line(row)),
  ];
}

interface Kept {
  readonly column: Column;
  readonly at: number;
  width: number;
}

/** Chooses columns and their widths. */
function fit(width: number, columns: readonly Column[], rows: readonly (readonly Cell[])[]): Kept[] {
  let kept = columns.map((column, at): Kept => ({
    column,
    at,
    width: Math.max(widthOf(column.title), column.wide ?? 0, ...rows.map((row) => widthOf(textOf(row[at])))),
  }));
  const over = (of: readonly Kept[]) => of.reduce((sum, k) => sum + k.width, 0) + GAP * (of.length - 1) - width;
  const least = (k: Kept) =>
    k.column.min === undefined ? k.width : Math.min(k.width, Math.max(k.column.min, widthOf(k.column.title)));
  const content = (k: Kept) => (k.column.wraps ? Math.min(k.width, Math.max(least(k), WRAPPED_WIDTH)) : k.width);
  // First those go that nobody misses; then the roomy ones are cut.
  while (over(kept.map((k) => ({ ...k, width: content(k) }))) > 0) {
    const dropped = kept.reduce<Kept | undefined>(
      (most, k) => (k.column.drop !== undefined && k.column.drop > (most?.column.drop ?? 0) ? k : most),
      undefined,
    );
    if (!dropped) break;
    kept = kept.filter((k) => k !== dropped);
  }
  for (let left = over(kept); left > 0; left--) {
    const cuttable = kept.filter((k) => k.width > least(k));
    // What can go on below itself gives way first.
    const widest =
      cuttable.find((k) => k.column.wraps && k.width > WRAPPED_WIDTH) ?? cuttable.sort((a, b) => b.width - a.width)[0];
    if (!widest) break;
    widest.width--;
  }
  return kept;
}
