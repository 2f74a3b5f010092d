/** Bytes a day or month, by the calendar of a zone: what a mobile contract charges for. */
import type { Clock } from "../../../kernel/clock.ts";
import { Calendar, type LocalDate } from "./calendar.ts";
import type { BudgetConfig } from "./config.ts";

/** What was spent, by period ("2026-11-24", "2026-11"); kept over restarts. */
export type Spent = Readonly<Record<string, number>>;

/** Periods that are remembered: a clock that is set to and fro finds what was spent in each, and no period is paid twice. */
const PERIODS_MAX = 8;
/** Longer than any month, daylight saving included. */
const MONTH_MS_MAX = 32 * 86_400_000;
const DAY_MS_MAX = 26 * 3_600_000;

export class Budget {
  readonly #clock: Clock;
  readonly #config: BudgetConfig;
  readonly #calendar: Calendar;
  readonly #spent: Map<string, number>;

  constructor(options: { clock: Clock; config: BudgetConfig; zone: string; spent?: Spent }) {
    this.#clock = options.clock;
    this.#config = options.config;
    this.#calendar = new Calendar(options.zone);
    this.#spent = new Map(Object.entries(options.spent ?? {}));
  }

  /** Bytes that are left in this period; below nothing where the last request took more than there was. */
  get leftBytes(): number {
    return this.#config.bytesMax - (this.#spent.get(this.#period()) ?? 0);
  }

  /** Counts bytes that went. */
  spend(bytes: number): void {
    const period = this.#period();
    const spent = (this.#spent.get(period) ?? 0) + bytes;
    // Behind the others: the oldest in use is the first to be forgotten.
    this.#spent.delete(period);
    this.#spent.set(period, spent);
    for (const oldest of this.#spent.keys()) {
      if (this.#spent.size <= PERIODS_MAX) break;
      this.#spent.delete(oldest);
    }
  }

  /** Milliseconds until something may go: until the next period where nothing is left. */
  waitMs(): number {
    if (this.leftBytes > 0) return 0;
    const nowMs = this.#clock.wallMs();
    const period = this.#period();
    const spanMs = this.#config.per === "day" ? DAY_MS_MAX : MONTH_MS_MAX;
    return Math.max(1, this.#calendar.endOf(nowMs, spanMs, (date) => this.#periodOf(date) === period) - nowMs);
  }

  /** What is to be kept for the next start. */
  save(): Spent {
    return Object.fromEntries(this.#spent);
  }

  #period(): string {
    return this.#periodOf(this.#calendar.dateAt(this.#clock.wallMs()));
  }

  #periodOf({ year, month, day }: LocalDate): string {
    if (this.#config.per === "day") return `${year}-${month}-${day}`;
    const months = year * 12 + month - 1 - (day < this.#config.startDay ? 1 : 0);
    return `${Math.floor(months / 12)}-${(months % 12) + 1}`;
  }
}
