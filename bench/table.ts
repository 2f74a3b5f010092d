/** What a bench says: rows of a table, and with --json the same as the last line. */

export interface Row {
  readonly name: string;
  readonly value: number | null;
  readonly unit: string;
  readonly reach?: number;
  /** null where a peer or a part is not there; `reason` says which. */
  readonly met: boolean | null;
  readonly reason?: string;
}

/** Makes a row that is met below (or, with `over`, above) its reach. */
export const rowOf = (name: string, value: number, unit: string, reach: number, over = false): Row => ({
  name,
  value,
  unit,
  reach,
  met: over ? value > reach : value < reach,
});

/** Makes a row that has no reach. */
export const info = (name: string, value: number, unit: string): Row => ({
  name,
  value,
  unit,
  met: null,
  reason: "no reach is set",
});

/** The one in the middle, or half way between the two that are. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const high = sorted[sorted.length >> 1] ?? Number.NaN;
  return sorted.length % 2 === 1 ? high : (high + (sorted[(sorted.length >> 1) - 1] ?? Number.NaN)) / 2;
}

const shown = (value: number | null | undefined): string =>
  value === null || value === undefined
    ? "-"
    : value >= 1000
      ? Math.round(value).toLocaleString("en")
      : String(Number(value.toPrecision(3)));

/** Prints the table, and with --json the machine's line after it. */
export function report(bench: string, rows: readonly Row[]): void {
  const width = Math.max(...rows.map((row) => row.name.length));
  for (const { name, value, unit, reach, met, reason } of rows) {
    const verdict = met === null ? `${value === null ? "not measured: " : ""}${reason ?? ""}` : met ? "met" : "missed";
    console.log(
      `${name.padEnd(width)}  ${shown(value).padStart(9)} ${unit.padEnd(12)} reach ${shown(reach).padStart(7)}  ${verdict}`,
    );
  }
  if (process.argv.includes("--json")) console.log(JSON.stringify({ bench, rows }));
}
