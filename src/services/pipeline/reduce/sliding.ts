/** SlidingWindow: with every event what there is to say of the time before it. */
import { type Static, Type } from "typebox";
import { decodeColumn, encodeColumn } from "../../../kernel/columns/column.ts";
import type { Block, Series, Value } from "../../../kernel/events/model.ts";
import { field } from "../../../kernel/service.ts";
import type { Rows } from "./rows.ts";
import type { SeriesFunction } from "./series.ts";
import { nsOf, shortTime } from "./time.ts";
import { numberOf } from "./values.ts";
import { Glazier, windowFields } from "./windows.ts";

/** Events of one window, at most; beyond, the oldest leave it before their time. */
export const SLIDING_EVENTS_MAX = 4_096;

/**
 * SlidingWindow. Guarantee: with every event that has a number an event leaves that tells of all numbers of the series whose
 * origin lies in the `sizeMs` that end with the newest origin (its begin excluded), SLIDING_EVENTS_MAX events at the most. It
 * has the origin of the event that it leaves with. A reading older than the window leaves nothing and passes as it is; one that is older
 * by more than a further `sizeMs` says that time was set back: the window begins anew.
 */
export const SlidingWindow = Type.Object(
  {
    function: Type.Literal("SlidingWindow"),
    ...windowFields,
    sizeMs: field(Type.Integer({ minimum: 1, maximum: 86_400_000 }), {
      description: "Milliseconds that the window reaches back.",
      default: undefined,
      example: 60_000,
    }),
  },
  { additionalProperties: false },
);

/** The numbers of one event, by the columns that go in. */
interface Entry {
  readonly ns: bigint;
  readonly values: readonly Value[];
}

interface State {
  readonly glazier: Glazier;
  /** In order of their arrival. */
  entries: Entry[];
  newestNs: bigint;
}

interface Saved {
  readonly newestNs: bigint | number;
  readonly ns: Uint8Array;
  readonly count: number;
  readonly columns: readonly Uint8Array[];
}

const ENTRY_BYTES = 64;
const VALUE_BYTES = 24;

/** Makes the function of SlidingWindow. An event costs as much as there are in its window. */
export function slidingFunction(
  spec: Static<typeof SlidingWindow>,
  pipeline: string | undefined,
): SeriesFunction<State> {
  const sizeNs = nsOf(spec.sizeMs);
  const begin = (series: Series): State => ({
    glazier: new Glazier(series, spec, `sliding${shortTime(spec.sizeMs)}`, pipeline),
    entries: [],
    newestNs: 0n,
  });
  return {
    begin,
    push: (state, block, out) => push(state, block, sizeNs, out),
    bytes: ({ entries, glazier }) => entries.length * (ENTRY_BYTES + VALUE_BYTES * glazier.derived.columns.length),
    save: ({ entries, newestNs, glazier }): Saved => ({
      newestNs,
      count: entries.length,
      ns: entries.length === 0 ? new Uint8Array(0) : encodeColumn(entries.map(({ ns }) => ns)),
      columns:
        entries.length === 0
          ? []
          : glazier.derived.columns.map((_, i) => encodeColumn(entries.map(({ values }) => values[i]))),
    }),
    load(saved, series) {
      const { newestNs, count, ns, columns } = saved as Saved;
      const times = count === 0 ? [] : decodeColumn(ns, count);
      const values = columns.map((bytes) => decodeColumn(bytes, count));
      const entries = times.map((time, i) => ({ ns: time as bigint, values: values.map((column) => column[i]) }));
      return { ...begin(series), entries, newestNs: BigInt(newestNs) };
    },
  };
}

function push(state: State, block: Block, sizeNs: bigint, out: Rows): void {
  const { glazier } = state;
  const late = new Set<number>();
  for (let row = 0; row < block.sequences.length; row++) {
    if (!glazier.hasNumber(block, row)) continue;
    const origin = block.origins[row];
    if (state.entries.length > 0 && state.newestNs - origin > 2n * sizeNs) state.entries = [];
    if (state.entries.length === 0 || origin > state.newestNs) state.newestNs = origin;
    const beginNs = state.newestNs - sizeNs;
    if (origin <= beginNs) {
      late.add(row);
      continue;
    }
    const values = glazier.derived.columns.map((k) => {
      const value = block.columns[k][row];
      return Number.isNaN(numberOf(value)) ? undefined : value;
    });
    state.entries = state.entries.filter(({ ns }) => ns > beginNs);
    if (state.entries.length === SLIDING_EVENTS_MAX) state.entries.shift();
    state.entries.push({ ns: origin, values });
    tell(state, block, row, out);
  }
  glazier.passing(block, late, out);
}

function tell({ glazier, entries }: State, block: Block, row: number, out: Rows): void {
  const pane = glazier.begin(entries[0].ns);
  pane.publisher = block.publisher;
  pane.sequence = block.sequences[row];
  for (const { ns, values } of entries)
    for (let i = 0; i < values.length; i++) if (values[i] !== undefined) pane.summaries[i].add(values[i], ns);
  glazier.close(pane, out, block.origins[row]);
}
