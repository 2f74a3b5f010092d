/** The config of a destination's pace, or of one way to it. */
import { type Static, Type } from "typebox";
import { field } from "../../../kernel/service.ts";
import { PRIORITY_MAX } from "./priority.ts";

const strict = { additionalProperties: false } as const;
/** A destination has few windows; more than these are a mistake. */
const WINDOWS_MAX = 32;

const Zone = Type.String({ maxLength: 64, pattern: "^[A-Za-z0-9_+/-]+$" });

export const BudgetConfig = Type.Object(
  {
    bytesMax: field(Type.Integer({ minimum: 1 }), {
      description: "Bytes in both directions, as counted on the sockets.",
      default: undefined,
      example: 500_000_000,
    }),
    per: field(Type.Union([Type.Literal("day"), Type.Literal("month")]), {
      description: "Period that they are for.",
      default: "month",
      example: "day",
    }),
    startDay: field(Type.Integer({ minimum: 1, maximum: 28 }), {
      description: "Day of the month that a month begins on, as the bill does.",
      default: 1,
      example: 15,
    }),
  },
  strict,
);
export type BudgetConfig = Static<typeof BudgetConfig>;

export const WindowConfig = Type.Object(
  {
    cron: field(Type.String({ minLength: 9, maxLength: 128 }), {
      description: "When a window opens: minute, hour, day of the month, month, day of the week.",
      default: undefined,
      example: "0 2 * * *",
    }),
    durationMs: field(Type.Integer({ minimum: 1_000, maximum: 31 * 86_400_000 }), {
      description: "Milliseconds that it stays open.",
      default: 3_600_000,
      example: 7_200_000,
    }),
  },
  strict,
);
export type WindowConfig = Static<typeof WindowConfig>;

export const Pace = Type.Object(
  {
    rateBytesPerS: Type.Optional(
      field(Type.Integer({ minimum: 1 }), {
        description: "Bytes a second in both directions, over time; unlimited unless said.",
        default: undefined,
        example: 16_384,
      }),
    ),
    budget: Type.Optional(
      field(BudgetConfig, {
        description: "Bytes a day or month; unlimited unless said.",
        default: undefined,
        example: { bytesMax: 500_000_000, per: "month" },
      }),
    ),
    windows: field(Type.Array(WindowConfig, { maxItems: WINDOWS_MAX }), {
      description: "When something may go; always unless said.",
      default: [],
      example: [{ cron: "0 2 * * *", durationMs: 7_200_000 }],
    }),
    zone: field(Zone, {
      description: "Time zone of budget and windows: UTC, a name such as Europe/Berlin, or 'local' for the machine's.",
      default: "UTC",
      example: "Europe/Berlin",
    }),
    overridePriority: field(Type.Integer({ minimum: 0, maximum: PRIORITY_MAX + 1 }), {
      description: "Priority from which on readings go outside of windows and beyond the budget; 10: none does.",
      default: PRIORITY_MAX + 1,
      example: 8,
    }),
  },
  strict,
);
export type Pace = Static<typeof Pace>;
