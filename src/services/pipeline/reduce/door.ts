/** SwingingDoor: a line through few readings instead of the many along it. */
import { type Static, Type } from "typebox";
import type { Block, Series, Value } from "../../../kernel/events/model.ts";
import { field } from "../../../kernel/service.ts";
import { ResourceNames } from "./names.ts";
import { keepOf, packRow, type Row, rowBytes, rowOf, type Rows, unpackRow } from "./rows.ts";
import type { Notes, SeriesFunction } from "./series.ts";
import { SilenceMsMax, silenceOf } from "./silence.ts";
import { actsOn, isNumeric, type Mark, markOf, numberOf } from "./values.ts";

/** Readings between two that leave, at most; then one leaves. */
export const SEGMENT_READINGS_MAX = 512;

/**
 * SwingingDoor. Guarantee: a reading that stays lies, to the rounding of doubles, within `tolerance` of the straight line
 * between the two readings of its resource that left before and after it. The newest reading of a series is held until the
 * next one tells whether it is needed: at most `silenceMsMax`, where that is given. Where time stands or runs backward, where an
 * event lacks the resource, and after SEGMENT_READINGS_MAX, the line ends with a reading that leaves. What is no finite number
 * leaves when it is another than the reading before.
 */
export const SwingingDoor = Type.Object(
  {
    function: Type.Literal("SwingingDoor"),
    resources: ResourceNames,
    tolerance: field(Type.Number({ minimum: 0 }), {
      description: "The largest distance from the line that a reading left out may have; in the resource's units.",
      default: undefined,
      example: 0.5,
    }),
    silenceMsMax: SilenceMsMax,
  },
  { additionalProperties: false },
);

/** The line of one resource: from the last reading that left, through the doors of those passed over since. */
interface Line {
  fromNs: bigint;
  from: number;
  /** Slopes, per nanosecond, between which the line has to lie. */
  low: number;
  high: number;
  /** Readings passed over since: nanoseconds from the start and value, by turns. */
  passed: number[];
}

interface Column {
  line: Line | undefined;
  /** The last value that was no number, until a number comes. */
  odd: Mark | undefined;
}

// What is known of a reading of the held row.
const STAYS = 0;
const LEAVES = 1;
const OPEN = 2;

interface State {
  readonly series: Series;
  readonly columns: (Column | undefined)[];
  held: Row | undefined;
  fates: Uint8Array;
}

/** What `save` gives. A small bigint comes back from CBOR as a number. */
interface Saved {
  readonly columns: readonly ({ odd: Mark | undefined; line: SavedLine | undefined } | null)[];
  readonly held: Uint8Array | undefined;
  readonly fates: Uint8Array;
}
type SavedLine = Omit<Line, "fromNs"> & { fromNs: bigint | number };

const copyOf = (line: SavedLine): Line => ({ ...line, fromNs: BigInt(line.fromNs), passed: line.passed.slice() });

const COLUMN_BYTES = 160;

/** Makes the function of SwingingDoor. */
export function doorFunction(spec: Static<typeof SwingingDoor>): SeriesFunction<State> {
  const doors = new Doors(spec.tolerance, silenceOf(spec.silenceMsMax));
  const acts = actsOn(spec.resources);
  const begin = (series: Series): State => ({
    series,
    columns: series.resources.map((resource) =>
      acts(resource) && isNumeric(resource) ? { line: undefined, odd: undefined } : undefined,
    ),
    held: undefined,
    fates: new Uint8Array(series.resources.length),
  });
  return {
    begin,
    push: (state, block, out) => doors.push(state, block, out),
    tick: (state, nowNs, out) => doors.tick(state, nowNs, out),
    flush: (state, out) => doors.close(state, out),
    bytes: ({ columns, held }) =>
      columns.reduce((sum, column) => sum + (column ? COLUMN_BYTES + 8 * (column.line?.passed.length ?? 0) : 8), 0) +
      (held ? rowBytes(held) : 0),
    save: ({ series, columns, held, fates }): Saved => ({
      columns: columns.map((column) => (column ? { odd: column.odd, line: column.line && copyOf(column.line) } : null)),
      held: held && packRow(held, series),
      fates: fates.slice(),
    }),
    load: (saved, series) => {
      const { columns, held, fates } = saved as Saved;
      return {
        series,
        columns: columns.map((column) =>
          column ? { odd: column.odd, line: column.line && copyOf(column.line) } : undefined,
        ),
        held: held && unpackRow(held),
        fates: fates.slice(),
      };
    },
    notes: doors.notes,
  };
}

class Doors {
  readonly notes: Notes = { errorMax: 0 };
  readonly #tolerance: number;
  readonly #isSilent: (originNs: bigint, sentNs: bigint) => boolean;

  constructor(tolerance: number, isSilent: (originNs: bigint, sentNs: bigint) => boolean) {
    this.#tolerance = tolerance;
    this.#isSilent = isSilent;
  }

  push(state: State, block: Block, out: Rows): void {
    for (let at = 0; at < block.sequences.length; at++) {
      const row = rowOf(block, at);
      const fates = new Uint8Array(row.values.length);
      state.columns.forEach((column, k) => {
        fates[k] = column ? this.#meet(state, column, k, row) : LEAVES;
      });
      this.#release(state, out);
      state.held = row;
      state.fates = fates;
      if (!fates.includes(OPEN)) this.#release(state, out);
    }
  }

  /** Lets a reading settle the held one's fate, and tells what is known of its own. */
  #meet(state: State, column: Column, k: number, row: Row): number {
    const value = row.values[k];
    const number = numberOf(value);
    const isOpen = state.held !== undefined && state.fates[k] === OPEN;
    if (number !== number) {
      if (isOpen) this.#end(state, column, k);
      return this.#meetOdd(column, value);
    }
    column.odd = undefined;
    if (!column.line) {
      column.line = lineFrom(row.origin, number);
      return LEAVES;
    }
    if (isOpen) {
      const held = state.held as Row;
      if (row.origin > held.origin && this.#passOver(column.line, held, k, row.origin, number)) {
        state.fates[k] = STAYS;
        return OPEN;
      }
      this.#end(state, column, k);
    }
    if (row.origin > column.line.fromNs) return OPEN;
    // No line leads there: it is where the next one begins.
    column.line = lineFrom(row.origin, number);
    return LEAVES;
  }

  #meetOdd(column: Column, value: Value): number {
    if (value === undefined) return STAYS;
    column.line = undefined;
    const mark = markOf(value, true);
    if (Object.is(mark, column.odd)) return STAYS;
    column.odd = mark;
    return LEAVES;
  }

  /** Passes over the held reading if the line to the new one goes through its door and all before it. */
  #passOver(line: Line, held: Row, k: number, originNs: bigint, number: number): boolean {
    if (line.passed.length >= 2 * SEGMENT_READINGS_MAX || this.#isSilent(originNs, line.fromNs)) return false;
    const ns = Number(held.origin - line.fromNs);
    const value = numberOf(held.values[k]);
    const low = Math.max(line.low, (value - this.#tolerance - line.from) / ns);
    const high = Math.min(line.high, (value + this.#tolerance - line.from) / ns);
    const slope = (number - line.from) / Number(originNs - line.fromNs);
    // A slope beyond all doubles is none.
    if (!(slope >= low && slope <= high && slope - slope === 0)) return false;
    line.low = low;
    line.high = high;
    line.passed.push(ns, value);
    return true;
  }

  /** Ends the line with the held reading, which leaves, and where the next line begins. */
  #end(state: State, column: Column, k: number): void {
    const { origin, values } = state.held as Row;
    const line = column.line as Line;
    const number = numberOf(values[k]);
    const slope = (number - line.from) / Number(origin - line.fromNs);
    for (let i = 0; i < line.passed.length; i += 2) {
      const error = Math.abs(line.passed[i + 1] - (line.from + slope * line.passed[i]));
      if (error > (this.notes.errorMax as number)) this.notes.errorMax = error;
    }
    state.fates[k] = LEAVES;
    column.line = lineFrom(origin, number);
  }

  #release(state: State, out: Rows): void {
    const { held, fates, series } = state;
    state.held = undefined;
    const row = held && keepOf(held, (k) => fates[k] === LEAVES);
    if (row) out.add(series, row);
  }

  tick(state: State, nowNs: bigint, out: Rows): void {
    const isDue = state.columns.some(
      (column, k) => state.fates[k] === OPEN && column?.line && this.#isSilent(nowNs, column.line.fromNs),
    );
    if (isDue) this.close(state, out);
  }

  /** Ends all lines with the held row. */
  close(state: State, out: Rows): void {
    if (!state.held) return;
    state.columns.forEach((column, k) => {
      if (column && state.fates[k] === OPEN) this.#end(state, column, k);
    });
    this.#release(state, out);
  }
}

const lineFrom = (fromNs: bigint, from: number): Line => ({
  fromNs,
  from,
  low: Number.NEGATIVE_INFINITY,
  high: Number.POSITIVE_INFINITY,
  passed: [],
});
