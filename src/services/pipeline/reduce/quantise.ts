/** Quantise: values on a coarser grid, of decimals, so that the columns of a batch take few bits. */
import { type Static, Type } from "typebox";
import type { Resource, Value, ValueType } from "../../../kernel/events/model.ts";
import { POWER } from "../../../kernel/columns/decimal.ts";
import { checkValue } from "../../../kernel/events/values.ts";
import { field } from "../../../kernel/service.ts";
import { ResourceNames } from "./names.ts";
import type { Notes, SeriesFunction } from "./series.ts";
import { actsOn, isNumeric, numberOf } from "./values.ts";

/**
 * Quantise. Guarantee: every number that leaves differs from what was read by at most `tolerance`, and is a multiple of a
 * step of 1, 2 or 5 times a power of ten, the largest that is at most twice the tolerance; or it is what was read, to the bit,
 * where such a multiple is not within the tolerance or not of the resource's type. No reading is left out, so that the
 * resources of an event keep their common time. What is no finite number passes as it is.
 */
export const Quantise = Type.Object(
  {
    function: Type.Literal("Quantise"),
    resources: ResourceNames,
    tolerance: field(Type.Number({ minimum: 1e-15, maximum: 1e15 }), {
      description:
        "The largest difference allowed, in the resource's units; 1 % of its range is often enough to see by.",
      default: undefined,
      example: 0.05,
    }),
  },
  { additionalProperties: false },
);

/** The step of a grid: `digit` (1, 2 or 5) times 10^`exponent`. */
export interface Step {
  readonly digit: number;
  readonly exponent: number;
}

/** Finds the largest step of 1, 2 or 5 times a power of ten (to 10^-22) that is at most `size`. */
export function stepBelow(size: number): Step {
  for (let exponent = Math.floor(Math.log10(size)) + 1; ; exponent--)
    for (const digit of [5, 2, 1]) if (Number(`${digit}e${exponent}`) <= size) return { digit, exponent };
}

/** Finds the multiple of a step nearest to a number: as a short decimal. */
export function nearestOf(value: number, { digit, exponent }: Step): number {
  const power = POWER[Math.abs(exponent)];
  const units = exponent < 0 ? (value * power) / digit : value / (digit * power);
  const whole = Math.round(units) * digit;
  // 0 for -0, which would be an exception in every column.
  return (exponent < 0 ? whole / power : whole * power) + 0;
}

/** Whole numbers of each type lie within these. */
const BITS: { readonly [K in ValueType]?: readonly [number, number] } = {
  Uint8: [0, 2 ** 8],
  Uint16: [0, 2 ** 16],
  Uint32: [0, 2 ** 32],
  Uint64: [0, 2 ** 53],
  Int8: [-(2 ** 7), 2 ** 7],
  Int16: [-(2 ** 15), 2 ** 15],
  Int32: [-(2 ** 31), 2 ** 31],
  Int64: [-(2 ** 53), 2 ** 53],
};
/** A decimal of fewer digits is itself as a float of 32 bits. */
const FLOAT32_EXACT = 1e6;

/** Makes the function of Quantise. It remembers nothing of a series but which columns are meant. */
export function quantiseFunction({ resources, tolerance }: Static<typeof Quantise>): SeriesFunction<Int8Array> {
  const acts = actsOn(resources);
  const step = stepBelow(2 * tolerance);
  const notes: Notes = { errorMax: 0 };
  const columnsOf = (all: readonly Resource[]) =>
    Int8Array.from(all, (resource) => (acts(resource) && isNumeric(resource) ? 1 : 0));
  const quantised = (value: Value, resource: Resource): Value => {
    const made = onGrid(value, resource.valueType, step);
    if (made === undefined) return value;
    const error = Math.abs(made - (value as number));
    // Beside the point by a rounding of doubles, or of a float of 32 bits: then it stays what it was.
    if (error > tolerance) return value;
    if (error > (notes.errorMax as number)) notes.errorMax = error;
    return made;
  };
  return {
    begin: ({ resources: all }) => columnsOf(all),
    push: (columns, block, out) => {
      const { resources: all } = block.series;
      if (!columns.includes(1)) return out.block(block);
      const made = block.columns.map((column, k) =>
        columns[k] === 1 ? column.map((value) => quantised(value, all[k])) : column,
      );
      out.block({ ...block, columns: made });
    },
    bytes: (columns) => columns.length,
    save: () => null,
    load: (_saved, { resources: all }) => columnsOf(all),
    notes,
  };
}

/** Finds the value on the grid; undefined where there is none of the type. */
function onGrid(value: Value, type: ValueType, step: Step): number | undefined {
  // Beyond 2^53 a whole number stays: its double would be another.
  const number = typeof value === "bigint" ? NaN : numberOf(value);
  if (number !== number || typeof value === "string") return undefined;
  const made = nearestOf(number, step);
  if (made - made !== 0) return undefined;
  const range = BITS[type];
  if (range) return Number.isInteger(made) && made >= range[0] && made < range[1] ? made : undefined;
  if (type !== "Float32" || Math.abs(made) < FLOAT32_EXACT * Math.min(1, Number(`1e${step.exponent}`))) return made;
  return Math.fround(made) - Math.fround(made) === 0 ? (checkValue("Float32", made) as number) : undefined;
}
