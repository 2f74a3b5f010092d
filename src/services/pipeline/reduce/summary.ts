/** What is told of the readings of one resource in one window. */
import { decodeColumn, encodeColumn } from "../../../kernel/columns/column.ts";
import type { Resource, Value } from "../../../kernel/events/model.ts";
import { derivedName } from "./derived.ts";
import { Quantiles, type SavedQuantiles } from "./quantiles.ts";
import { numberOf } from "./values.ts";

/** What an aggregate may be called: one of these, or p and a percentile (p50, p99.9). */
export const AGGREGATE = "^(min|max|mean|sum|count|first|last|stddev|p(100|[0-9]{1,2}(\\.[0-9]{1,3})?))$";

const SUMMARY_BYTES = 320;
const isPercentile = (aggregate: string) => /^p\d/.test(aggregate);

/** Whether percentiles are asked for, which take memory. */
export const needsQuantiles = (aggregates: readonly string[]): boolean => aggregates.some(isPercentile);

/** Says what the resource of an aggregate is: those that are readings keep the type, the others are Float64. */
export function aggregateOf({ name, valueType, units }: Resource, aggregate: string): Resource {
  if (aggregate === "count") return { name: derivedName(name, aggregate), valueType: "Uint64" };
  const isReading = ["min", "max", "first", "last"].includes(aggregate);
  return {
    name: derivedName(name, aggregate),
    valueType: isReading ? valueType : "Float64",
    ...(units === undefined ? {} : { units }),
  };
}

/** Plain values: what `save` gives and `load` takes. */
export type SavedSummary = readonly [
  numbers: readonly number[],
  firstNs: bigint | number,
  lastNs: bigint | number,
  values: Uint8Array,
  quantiles: SavedQuantiles | undefined,
];

/** Takes numbers one after the other; all but the percentiles in constant memory. */
export class Summary {
  #count = 0;
  // A sum with the bits that each addition lost (Neumaier), and mean and squares as Welford keeps them.
  #sum = 0;
  #lost = 0;
  #mean = 0;
  #squares = 0;
  #least = Infinity;
  #most = -Infinity;
  /** As they were read: first, last, least, most. */
  #values: [Value, Value, Value, Value] = [undefined, undefined, undefined, undefined];
  #firstNs = 0n;
  #lastNs = 0n;
  readonly #quantiles: Quantiles | undefined;

  constructor(quantiles?: Quantiles) {
    this.#quantiles = quantiles;
  }

  /** Adds a reading whose value is a finite number. Of two with the same time the later one is the last. */
  add(value: Value, originNs: bigint): void {
    const number = numberOf(value);
    if (this.#count === 0 || originNs < this.#firstNs) {
      this.#firstNs = originNs;
      this.#values[0] = value;
    }
    if (this.#count === 0 || originNs >= this.#lastNs) {
      this.#lastNs = originNs;
      this.#values[1] = value;
    }
    if (number < this.#least) {
      this.#least = number;
      this.#values[2] = value;
    }
    if (number > this.#most) {
      this.#most = number;
      this.#values[3] = value;
    }
    this.#count++;
    const sum = this.#sum + number;
    this.#lost += Math.abs(this.#sum) >= Math.abs(number) ? this.#sum - sum + number : number - sum + this.#sum;
    this.#sum = sum;
    const distance = number - this.#mean;
    this.#mean += distance / this.#count;
    this.#squares += distance * (number - this.#mean);
    this.#quantiles?.add(number);
  }

  /** Tells an aggregate; undefined when there is none: of no reading, of one reading's deviation, beyond all doubles. */
  get(aggregate: string): Value {
    if (this.#count === 0) return undefined;
    switch (aggregate) {
      case "count":
        return this.#count;
      case "first":
        return this.#values[0];
      case "last":
        return this.#values[1];
      case "min":
        return this.#values[2];
      case "max":
        return this.#values[3];
      case "sum":
        return finite(this.#sum + this.#lost);
      case "mean":
        // A mean of equal values is that value, to the bit.
        return this.#least === this.#most ? this.#least : finite(this.#mean);
      case "stddev":
        // Of a sample: by n - 1.
        return this.#count < 2 ? undefined : finite(Math.sqrt(this.#squares / (this.#count - 1)));
      default:
        return this.#quantiles?.at(Number(aggregate.slice(1)));
    }
  }

  /** Bytes that it takes, about. */
  get bytes(): number {
    return SUMMARY_BYTES + (this.#quantiles?.bytes ?? 0);
  }

  save(): SavedSummary {
    const numbers = [this.#count, this.#sum, this.#lost, this.#mean, this.#squares, this.#least, this.#most];
    return [numbers, this.#firstNs, this.#lastNs, encodeColumn(this.#values), this.#quantiles?.save()];
  }

  static load([numbers, firstNs, lastNs, values, quantiles]: SavedSummary): Summary {
    const made = new Summary(quantiles && Quantiles.load(quantiles));
    [made.#count, made.#sum, made.#lost, made.#mean, made.#squares, made.#least, made.#most] = numbers as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    made.#firstNs = BigInt(firstNs);
    made.#lastNs = BigInt(lastNs);
    made.#values = decodeColumn(values, 4) as [Value, Value, Value, Value];
    return made;
  }
}

const finite = (number: number): number | undefined => (number - number === 0 ? number : undefined);
