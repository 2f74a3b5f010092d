/** What the tests of reductions share: rows of one series, drawn by a seed, and what a reduction makes of them. */
import fc from "fast-check";
import { sliceBlock } from "../../src/kernel/events/blocks.ts";
import type { Block, Extra, Publisher, Resource, Series, Value } from "../../src/kernel/events/model.ts";
import type { Reduction } from "../../src/services/pipeline/reduce/reduction.ts";

export const SEED = 20261124;
/** Where the origins of the tests begin: nanoseconds since 1970. */
export const BEGAN_NS = 1_785_000_000_000_000_000n;
const PUBLISHER: Publisher = { name: "device-virtual", epoch: 209_000_000 };

const of = (name: string, valueType: Resource["valueType"] = "Float64"): Resource => ({ name, valueType });
export const pressure: Series = {
  deviceName: "pump-1",
  profileName: "Pump",
  sourceName: "All",
  resources: [of("Pressure"), of("Flow", "Int64"), of("State", "String")],
};
export const single: Series = { ...pressure, sourceName: "Pressure", resources: [of("Pressure")] };

/** A row: milliseconds after the one before (or nanoseconds, as a bigint, after BEGAN_NS), and values. */
export interface Drawn {
  readonly ms: number;
  readonly values: readonly Value[];
  readonly extra?: Extra | undefined;
}

/** Makes one block of rows, whose sequences go up by one. */
export function blockOf(series: Series, rows: readonly Drawn[], from = 1, publisher = PUBLISHER): Block {
  let origin = BEGAN_NS;
  const origins = rows.map(({ ms }) => (origin += BigInt(Math.round(ms * 1_000_000))));
  return {
    publisher,
    series,
    sequences: rows.map((_, i) => from + i),
    origins,
    columns: series.resources.map((_, k) => rows.map(({ values }) => values[k])),
    extras: new Map(rows.flatMap(({ extra }, i): [number, Extra][] => (extra ? [[i, extra]] : []))),
  };
}

/** One block of readings of one resource, a second apart. */
export const readings = (values: readonly Value[], ms = 1_000): Block =>
  blockOf(
    single,
    values.map((value) => ({ ms, values: [value] })),
  );

/** Cuts a block before the rows given. */
export function cut(block: Block, at: readonly number[]): Block[] {
  const ends = [...new Set(at.filter((row) => row > 0 && row < block.sequences.length)), block.sequences.length].sort(
    (a, b) => a - b,
  );
  return ends.map((end, i) => sliceBlock(block, i === 0 ? 0 : ends[i - 1], end));
}

/** One event as it left. */
export interface Left {
  readonly source: string;
  readonly publisher: Publisher;
  readonly sequence: number;
  readonly origin: bigint;
  readonly values: { readonly [resource: string]: Value };
  readonly extra?: Extra;
}

/** The events of blocks, source by source: how blocks of different sources mix depends on how they were cut. */
export function eventsOf(blocks: readonly Block[], source?: string): Left[] {
  const events = blocks.flatMap((block) =>
    block.sequences.map((sequence, row): Left => {
      const present = block.series.resources.flatMap(({ name }, k): [string, Value][] =>
        block.columns[k][row] === undefined ? [] : [[name, block.columns[k][row]]],
      );
      const extra = block.extras.get(row);
      return {
        source: block.series.sourceName,
        publisher: block.publisher,
        sequence,
        origin: block.origins[row],
        values: Object.fromEntries(present),
        ...(extra ? { extra } : {}),
      };
    }),
  );
  const sources = [...new Set(events.map((event) => event.source))].sort();
  return sources
    .filter((name) => !source || name === source)
    .flatMap((name) => events.filter((e) => e.source === name));
}

/** What leaves of a block, the end included. */
export const leaves = (reduction: Reduction, block: Block): Left[] =>
  eventsOf([...reduction.push(block), ...reduction.flush()]);

/** The values of one resource that left, in order. */
export const valuesOf = (events: readonly Left[], resource = "Pressure"): Value[] =>
  events.flatMap(({ values }) => (values[resource] === undefined ? [] : [values[resource]]));

/** Steps of time: mostly forward, some standing, some back, some far. */
export const stepsMs = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 1, max: 3_000 }) },
  { weight: 2, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.integer({ min: -5_000, max: -1 }) },
  { weight: 1, arbitrary: fc.constantFrom(-3_600_000, 3_600_000, 100_000) },
);

/** Numbers as they are measured: a walk, with repeats and jumps. */
export const walk = (count = 120): fc.Arbitrary<number[]> =>
  fc
    .array(fc.oneof({ weight: 8, arbitrary: fc.integer({ min: -30, max: 30 }) }, fc.integer({ min: -900, max: 900 })), {
      minLength: 1,
      maxLength: count,
    })
    .map((changes) => {
      let at = 500;
      return changes.map((change) => (at += change) / 10);
    });

/** Any value that a column may hold, most of them numbers. */
const anyValue: fc.Arbitrary<Value> = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: -50, max: 50 }).map((n) => n / 10) },
  fc.constantFrom<Value>(
    undefined,
    null,
    NaN,
    Infinity,
    -Infinity,
    -0,
    0,
    true,
    "12.50",
    "on",
    "\ud800",
    2n ** 60n,
    5n,
  ),
  fc.double(),
  fc.string({ maxLength: 90 }),
  fc.uint8Array({ maxLength: 20 }),
  fc.constantFrom<Value>([1, 2], [1, 3], { a: 1 }, { a: [2n ** 60n] }),
);

const anyExtra = fc.option(
  fc.record(
    {
      requestId: fc.constant("9f4c7f0e-0000-4000-8000-000000000001"),
      tags: fc.constant({ site: "north" }),
      ids: fc.constant(["event", "one", "two", "three"]),
      origins: fc.constant([BEGAN_NS, undefined, BEGAN_NS + 5n]),
      readingTags: fc.constant([{ a: 1 }, undefined, { c: 3 }]),
    },
    { requiredKeys: ["requestId"], noNullPrototype: true },
  ),
  { nil: undefined, freq: 8 },
);

/** Rows of anything at all, for three resources. */
export const anyRows = (count = 60): fc.Arbitrary<Drawn[]> =>
  fc.array(fc.record({ ms: stepsMs, values: fc.tuple(anyValue, anyValue, anyValue), extra: anyExtra }), {
    minLength: 1,
    maxLength: count,
  });
