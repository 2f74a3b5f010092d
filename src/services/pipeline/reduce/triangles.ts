/** LargestTriangle: few readings that look like the many (largest triangle three buckets, S. Steinarsson 2013), as they come. */
import { type Static, Type } from "typebox";
import type { Block, Series } from "../../../kernel/events/model.ts";
import { field } from "../../../kernel/service.ts";
import { ResourceNames } from "./names.ts";
import { keepOf, packRow, type Row, rowBytes, rowOf, type Rows, unpackRow } from "./rows.ts";
import type { SeriesFunction } from "./series.ts";
import { actsOn, isNumeric, numberOf } from "./values.ts";

/**
 * LargestTriangle. Guarantee: of every `bucketEvents` events of a series that follow each other, one reading of each numeric
 * resource leaves, to the bit as it was read: that which spans the largest triangle with the one chosen before and the mean
 * of the next bucket; the very first one leaves, too. For the eye: it bounds no error. Two buckets are held, until the next one
 * is full. What is no finite number leaves.
 */
export const LargestTriangle = Type.Object(
  {
    function: Type.Literal("LargestTriangle"),
    resources: ResourceNames,
    bucketEvents: field(Type.Integer({ minimum: 2, maximum: 1_000 }), {
      description: "One reading of so many leaves.",
      default: undefined,
      example: 20,
    }),
  },
  { additionalProperties: false },
);

/** A point of a resource: nanoseconds since the series began here, and value. */
interface Point {
  readonly ns: number;
  readonly value: number;
}

interface State {
  readonly series: Series;
  readonly acted: readonly boolean[];
  beganNs: bigint | undefined;
  /** The point chosen last, per column. */
  chosen: (Point | undefined)[];
  /** A full bucket, which waits for the next one; and that. */
  full: Row[];
  filling: Row[];
}

const STATE_BYTES = 128;

/** Makes the function of LargestTriangle. */
export function trianglesFunction({ resources, bucketEvents }: Static<typeof LargestTriangle>): SeriesFunction<State> {
  const acts = actsOn(resources);
  const begin = (series: Series): State => ({
    series,
    acted: series.resources.map((resource) => acts(resource) && isNumeric(resource)),
    beganNs: undefined,
    chosen: series.resources.map(() => undefined),
    full: [],
    filling: [],
  });
  return {
    begin,
    push: (state, block, out) => push(state, block, bucketEvents, out),
    flush: (state, out) => {
      if (state.filling.length > 0) choose(state, state.full, state.filling, out);
      // Nothing comes behind: the last row ends the picture, and stands in for the mean of what would follow.
      const rest = state.filling.length > 0 ? state.filling : state.full;
      const last = rest.slice(-1);
      choose(state, rest.slice(0, -1), last, out);
      choose(state, last, [], out);
      state.full = [];
      state.filling = [];
    },
    bytes: ({ chosen, full, filling }) =>
      STATE_BYTES + 32 * chosen.length + [...full, ...filling].reduce((sum, row) => sum + rowBytes(row), 0),
    save: ({ series, beganNs, chosen, full, filling }) => ({
      beganNs,
      chosen: chosen.map((point) => point && [point.ns, point.value]),
      full: full.map((row) => packRow(row, series)),
      filling: filling.map((row) => packRow(row, series)),
    }),
    load: (saved, series) => {
      const { beganNs, chosen, full, filling } = saved as {
        beganNs: bigint | number | undefined;
        chosen: (readonly [number, number] | undefined)[];
        full: Uint8Array[];
        filling: Uint8Array[];
      };
      return {
        ...begin(series),
        beganNs: beganNs === undefined ? undefined : BigInt(beganNs),
        chosen: chosen.map((point) => point && { ns: point[0], value: point[1] }),
        full: full.map(unpackRow),
        filling: filling.map(unpackRow),
      };
    },
  };
}

function push(state: State, block: Block, bucketEvents: number, out: Rows): void {
  for (let at = 0; at < block.sequences.length; at++) {
    const row = rowOf(block, at);
    if (state.beganNs === undefined) {
      state.beganNs = row.origin;
      choose(state, [row], [], out);
      continue;
    }
    state.filling.push(row);
    if (state.filling.length < bucketEvents) continue;
    choose(state, state.full, state.filling, out);
    state.full = state.filling;
    state.filling = [];
  }
}

/** Chooses of a bucket, seen from the next one, and gives the rows that have a reading which leaves. */
function choose(state: State, bucket: readonly Row[], next: readonly Row[], out: Rows): void {
  if (bucket.length === 0) return;
  const beganNs = state.beganNs as bigint;
  const picks = state.acted.map((acted, k) => (acted ? pick(state, k, bucket, next, beganNs) : -1));
  bucket.forEach((row, at) => {
    const kept = keepOf(row, (k) => !state.acted[k] || picks[k] === at || isOdd(row, k));
    if (kept) out.add(state.series, kept);
  });
}

const isOdd = ({ values }: Row, k: number) => Number.isNaN(numberOf(values[k]));

/** Finds the row of a bucket whose reading in column `k` is chosen; -1 when there is none. */
function pick(state: State, k: number, bucket: readonly Row[], next: readonly Row[], beganNs: bigint): number {
  const pointOf = ({ origin, values }: Row): Point => ({ ns: Number(origin - beganNs), value: numberOf(values[k]) });
  const before = state.chosen[k];
  const after = meanOf(next.map(pointOf)) ?? before;
  let best = -1;
  let bestArea = -1;
  let chosen: Point | undefined;
  bucket.forEach((row, at) => {
    const point = pointOf(row);
    if (Number.isNaN(point.value)) return;
    const area = before && after ? areaOf(before, point, after) : 0;
    if (!(area > bestArea)) return;
    [best, bestArea, chosen] = [at, area, point];
  });
  if (chosen) state.chosen[k] = chosen;
  return best;
}

/** Twice the area of a triangle; none, where doubles cannot tell it, counts as 0. */
function areaOf(a: Point, b: Point, c: Point): number {
  const area = Math.abs((a.ns - c.ns) * (b.value - a.value) - (a.ns - b.ns) * (c.value - a.value));
  return area === area ? area : 0;
}

function meanOf(points: readonly Point[]): Point | undefined {
  const known = points.filter(({ value }) => value === value);
  if (known.length === 0) return undefined;
  return {
    ns: known.reduce((sum, { ns }) => sum + ns, 0) / known.length,
    value: known.reduce((sum, { value }) => sum + value / known.length, 0),
  };
}
