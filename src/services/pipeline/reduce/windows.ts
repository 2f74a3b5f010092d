/**
 * Windows: instead of the readings, what there is to say of all of them between two moments. This file has what windows of
 * every kind have in common; `panes.ts` says where each kind begins and ends.
 */
import { Type } from "typebox";
import type { Block, Publisher, Series, Value } from "../../../kernel/events/model.ts";
import { field } from "../../../kernel/service.ts";
import { type Derived, derivedPublisher, derivedSeries } from "./derived.ts";
import { ResourceNames } from "./names.ts";
import { Quantiles } from "./quantiles.ts";
import { keptOf, type Rows } from "./rows.ts";
import { AGGREGATE, aggregateOf, needsQuantiles, type SavedSummary, Summary } from "./summary.ts";
import { actsOn, isNumeric, numberOf } from "./values.ts";

/** What every window says. */
export const windowFields = {
  resources: ResourceNames,
  aggregates: field(Type.Array(Type.String({ pattern: AGGREGATE }), { minItems: 1, maxItems: 16 }), {
    description:
      "What is told: min, max, mean, sum, count, first, last, stddev (of a sample), and percentiles as p50 or p99.9 (exact to 512 readings, then at most 0.5 % of their number beside the rank).",
    default: ["mean"],
    example: ["min", "mean", "max", "p95"],
  }),
  as: Type.Optional(
    field(Type.String({ pattern: "^[A-Za-z0-9._~-]{1,64}$" }), {
      description:
        "What stands behind the source's name in that of the derived events: 'Value.1m'. Absent: made of the sizes.",
      default: undefined,
      example: "1m",
    }),
  ),
};

interface Fields {
  readonly resources: readonly string[];
  readonly aggregates: readonly string[];
  readonly as?: string;
}

/** What a window holds of the rows that fell into it. */
export interface Pane {
  readonly startNs: bigint;
  /** The newest origin in it. */
  lastNs: bigint;
  /** The last row that went in, which gives the derived event its id. */
  publisher: Publisher;
  sequence: number;
  rows: number;
  /** By the columns that go in. */
  readonly summaries: Summary[];
}

export type SavedPane = readonly [
  startNs: bigint | number,
  lastNs: bigint | number,
  name: string,
  epoch: number,
  sequence: number,
  rows: number,
  summaries: readonly SavedSummary[],
];

const PANE_BYTES = 192;

/** Makes, fills and closes the panes of one series. */
export class Glazier {
  readonly derived: Derived;
  readonly #aggregates: readonly string[];
  readonly #hasQuantiles: boolean;

  constructor(series: Series, spec: Fields, as: string, pipeline: string | undefined) {
    const acts = actsOn(spec.resources);
    this.#aggregates = spec.aggregates;
    this.#hasQuantiles = needsQuantiles(spec.aggregates);
    this.derived = derivedSeries(series, {
      as: spec.as ?? as,
      pipeline,
      acts: (resource) => acts(resource) && isNumeric(resource),
      resourcesOf: (resource) => spec.aggregates.map((aggregate) => aggregateOf(resource, aggregate)),
    });
  }

  /** Tells whether a row has a number that goes in. */
  hasNumber({ columns }: Block, row: number): boolean {
    return this.derived.columns.some((k) => !Number.isNaN(numberOf(columns[k][row])));
  }

  /** Begins a pane; its publisher is that of the rows to come. */
  begin(startNs: bigint): Pane {
    const summaries = this.derived.columns.map(() => new Summary(this.#hasQuantiles ? new Quantiles() : undefined));
    return { startNs, lastNs: startNs, publisher: { name: "", epoch: 0 }, sequence: 0, rows: 0, summaries };
  }

  add(pane: Pane, block: Block, row: number): void {
    const origin = block.origins[row];
    if (pane.rows === 0 || origin > pane.lastNs) pane.lastNs = origin;
    pane.publisher = block.publisher;
    pane.sequence = block.sequences[row];
    pane.rows++;
    this.derived.columns.forEach((k, i) => {
      const value = block.columns[k][row];
      if (!Number.isNaN(numberOf(value))) pane.summaries[i].add(value, origin);
    });
  }

  /** Gives what a pane has to say, as an event of the time `originNs`. */
  close(pane: Pane, out: Rows, originNs = pane.startNs, part?: number): void {
    const values = pane.summaries.flatMap((summary) =>
      this.#aggregates.map((aggregate): Value => summary.get(aggregate)),
    );
    if (values.every((value) => value === undefined)) return;
    const publisher = derivedPublisher(this.derived, pane.publisher, part);
    out.add(this.derived.series, { publisher, sequence: pane.sequence, origin: originNs, values });
  }

  bytes(panes: readonly Pane[]): number {
    let sum = 0;
    for (const { summaries } of panes) for (const { bytes } of summaries) sum += bytes;
    return sum + PANE_BYTES * panes.length;
  }

  /** Gives of a block what does not go in: other resources, what is no number, and the rows that came too late; counts the readings of those. */
  passing(block: Block, late: ReadonlySet<number>, out: Rows): number {
    const kept = this.derived.passing(block);
    let readings = 0;
    for (const k of this.derived.columns) {
      const passed = kept[k] as Uint8Array;
      for (const row of late) {
        if (passed[row] === 0) readings++;
        passed[row] = 1;
      }
    }
    out.block(keptOf(block, kept));
    return readings;
  }
}

export const savePane = ({ startNs, lastNs, publisher, sequence, rows, summaries }: Pane): SavedPane => [
  startNs,
  lastNs,
  publisher.name,
  publisher.epoch,
  sequence,
  rows,
  summaries.map((summary) => summary.save()),
];

export const loadPane = ([startNs, lastNs, name, epoch, sequence, rows, summaries]: SavedPane): Pane => ({
  startNs: BigInt(startNs),
  lastNs: BigInt(lastNs),
  publisher: { name, epoch },
  sequence,
  rows,
  summaries: summaries.map((saved) => Summary.load(saved)),
});
