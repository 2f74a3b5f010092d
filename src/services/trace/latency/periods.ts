/** The summaries of minutes and of hours in the database: what was done in a day is told from some dozens of rows. */
import type { Database, Statement } from "../../../kernel/database.ts";
import { Failure } from "../../../kernel/error.ts";
import type { StoredSpan } from "../api.ts";
import { Summary } from "./summaries.ts";

/** Of each width in minutes so many periods are kept: minutes for a day and hours for a month, whatever clocks say. */
const WIDTHS = [
  { minutes: 1, kept: 1_500 },
  { minutes: 60, kept: 745 },
] as const;
const HOUR = 60;
const NS_PER_MINUTE = 60_000_000_000n;

export const PERIOD_SCHEMA = `
  -- start: minutes since 1970.
  CREATE TABLE period (minutes INTEGER NOT NULL, start INTEGER NOT NULL, summary BLOB NOT NULL, PRIMARY KEY (minutes, start)) WITHOUT ROWID;
`;

export const minuteOf = (ns: bigint): number => Number(ns / NS_PER_MINUTE);

export class Periods {
  readonly #get: Statement<{ summary: Uint8Array }, [number, number]>;
  readonly #put: Statement<never, [number, number, Uint8Array]>;
  readonly #trim: Statement<never, [number, number, number]>;
  readonly #between: Statement<{ summary: Uint8Array }, [number, number, number]>;

  constructor(db: Database) {
    this.#get = db.prepare("SELECT summary FROM period WHERE minutes = ? AND start = ?");
    this.#put = db.prepare("INSERT OR REPLACE INTO period (minutes, start, summary) VALUES (?, ?, ?)");
    this.#trim = db.prepare(
      `DELETE FROM period WHERE minutes = ? AND start <
         (SELECT start FROM period WHERE minutes = ? ORDER BY start DESC LIMIT 1 OFFSET ?)`,
    );
    this.#between = db.prepare("SELECT summary FROM period WHERE minutes = ? AND start >= ? AND start < ?");
  }

  /** Adds spans to the periods that they began in. */
  add(spans: readonly StoredSpan[]): void {
    for (const { minutes, kept } of WIDTHS) {
      const periods = new Map<number, Summary>();
      for (const span of spans) {
        const minute = minuteOf(span.startNs);
        const start = minute - (minute % minutes);
        const period = periods.get(start) ?? new Summary();
        periods.set(start, period);
        period.add(span);
      }
      for (const [start, period] of periods) {
        const before = this.#get.get(minutes, start);
        this.#put.run(minutes, start, together(before?.summary, period));
      }
      this.#trim.run(minutes, minutes, kept);
    }
  }

  /** Adds to `summary` what was done from one minute up to another, by hours where whole ones lie between. */
  collect(summary: Summary, from: number, to: number): void {
    const firstHour = Math.ceil(from / HOUR) * HOUR;
    const lastHour = Math.floor(to / HOUR) * HOUR;
    const whole = firstHour < lastHour;
    this.#merge(summary, 1, from, whole ? firstHour : to);
    if (!whole) return;
    this.#merge(summary, HOUR, firstHour, lastHour);
    this.#merge(summary, 1, lastHour, to);
  }

  #merge(summary: Summary, minutes: number, from: number, to: number): void {
    for (const { summary: bytes } of this.#between.iterate(minutes, from, to)) summary.merge(Summary.decode(bytes));
  }
}

/** A summary that cannot be read, or would be too large, gives way to the new one: it never keeps spans from being kept. */
function together(before: Uint8Array | undefined, period: Summary): Uint8Array {
  try {
    const all = before ? Summary.decode(before) : new Summary();
    all.merge(period);
    return all.encode();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return period.encode();
  }
}
