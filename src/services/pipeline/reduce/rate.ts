/** Rate: how fast a value changes, a second. */
import { type Static, Type } from "typebox";
import type { Block, Resource, Series, Value } from "../../../kernel/events/model.ts";
import { field } from "../../../kernel/service.ts";
import { derivedName, derivedPublisher, type Derived, derivedSeries } from "./derived.ts";
import { ResourceNames } from "./names.ts";
import { keptOf, type Rows } from "./rows.ts";
import type { Notes, SeriesFunction } from "./series.ts";
import { actsOn, isNumeric, type Mark, markOf, numberOf, differenceOf } from "./values.ts";

/**
 * Rate. Guarantee: for two readings of a resource that follow each other, of which the second has a later origin, it gives
 * the difference by the seconds between them, as `<resource>.rate` of the source `<source>.rate`, with the later one's origin. The
 * readings themselves stay. Of a counter that went back it gives the new value by the seconds, as if it had begun at 0: a lower
 * bound, tagged `counter: reset`. Where time stands or runs backward there is no rate, and the newer reading counts from
 * then on. What is no finite number passes as it is.
 */
export const Rate = Type.Object(
  {
    function: Type.Literal("Rate"),
    resources: ResourceNames,
    counter: field(Type.Boolean(), {
      description: "Whether the values only grow, and begin anew when they do not: a counter.",
      default: false,
      example: true,
    }),
  },
  { additionalProperties: false },
);

interface Last {
  mark: Mark;
  ns: bigint;
}
interface State {
  readonly derived: Derived;
  /** What each acted column said last. */
  last: (Last | undefined)[];
}

const LAST_BYTES = 96;
const NS_PER_S = 1e9;

/** Makes the function of Rate. `pipeline` keeps apart the ids of what several pipelines derive. */
export function rateFunction(
  { resources, counter }: Static<typeof Rate>,
  pipeline: string | undefined,
): SeriesFunction<State> {
  const notes: Notes = counter ? { counterResets: 0 } : {};
  const begin = (series: Series): State => {
    const acts = actsOn(resources);
    const derived = derivedSeries(series, {
      as: "rate",
      pipeline,
      acts: (resource) => acts(resource) && isNumeric(resource),
      resourcesOf: rateOf,
    });
    return { derived, last: derived.columns.map(() => undefined) };
  };
  return {
    begin,
    push: (state, block, out) => push(state, block, counter, notes, out),
    bytes: ({ last }) => last.length * LAST_BYTES,
    save: ({ last }) => last.map((one) => one && [one.mark, one.ns]),
    load: (saved, series) => ({
      ...begin(series),
      last: (saved as (readonly [Mark, bigint | number] | undefined)[]).map(
        (one) => one && { mark: one[0], ns: BigInt(one[1]) },
      ),
    }),
    notes,
  };
}

const rateOf = ({ name, units }: Resource): Resource[] => [
  { name: derivedName(name, "rate"), valueType: "Float64", ...(units ? { units: `${units}/s` } : {}) },
];

function push(state: State, block: Block, counter: boolean, notes: Notes, out: Rows): void {
  const { derived, last } = state;
  out.block(keptOf(block, derived.passing(block)));
  for (let row = 0; row < block.sequences.length; row++) {
    const origin = block.origins[row];
    const resets: number[] = [];
    const values = derived.columns.map((k, i): Value => {
      const value = block.columns[k][row];
      if (Number.isNaN(numberOf(value))) return undefined;
      const before = last[i];
      last[i] = { mark: markOf(value as Exclude<Value, undefined>, true), ns: origin };
      if (!before || origin <= before.ns) return undefined;
      let change = differenceOf(value, before.mark);
      if (counter && change < 0) {
        change = numberOf(value);
        resets.push(i);
      }
      const rate = change / (Number(origin - before.ns) / NS_PER_S);
      return rate - rate === 0 ? rate : undefined;
    });
    if (values.every((value) => value === undefined)) continue;
    if (resets.length > 0) notes.counterResets = (notes.counterResets as number) + resets.length;
    out.add(derived.series, {
      publisher: derivedPublisher(derived, block.publisher),
      sequence: block.sequences[row],
      origin,
      values,
      ...(resets.length > 0 ? { extra: { readingTags: tagsOf(values.length, resets) } } : {}),
    });
  }
}

const tagsOf = (count: number, resets: readonly number[]) =>
  Array.from({ length: count }, (_, i) => (resets.includes(i) ? { counter: "reset" } : undefined));
