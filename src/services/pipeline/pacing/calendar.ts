/** The calendar of a time zone: which day or month it is there, and when the next begins. */

/** The zone as Intl and croner take it; undefined is the machine's. */
export const zoneOf = (name: string): string | undefined => (name === "local" ? undefined : name);

export interface LocalDate {
  readonly year: number;
  readonly month: number;
  readonly day: number;
}

export class Calendar {
  readonly #format: Intl.DateTimeFormat;

  /** RangeError where there is no such zone. */
  constructor(zone: string) {
    const timeZone = zoneOf(zone);
    this.#format = new Intl.DateTimeFormat("en-u-ca-iso8601", {
      year: "numeric",
      month: "numeric",
      day: "numeric",
      ...(timeZone === undefined ? {} : { timeZone }),
    });
  }

  /** Tells the date there, at a moment in milliseconds since 1970. */
  dateAt(wallMs: number): LocalDate {
    const date = { year: 0, month: 0, day: 0 };
    for (const { type, value } of this.#format.formatToParts(wallMs))
      if (type === "year" || type === "month" || type === "day") date[type] = Number(value);
    return date;
  }

  /**
   * Finds the first moment after `fromMs`, and within `spanMs`, at which `isIn` does not hold any more, to the second: zones
   * change their offsets, so it is searched, not computed. `isIn` holds up to some moment and then no more.
   */
  endOf(fromMs: number, spanMs: number, isIn: (date: LocalDate) => boolean): number {
    let [low, high] = [fromMs, fromMs + spanMs];
    while (high - low > 1_000) {
      const middle = Math.floor((low + high) / 2);
      if (isIn(this.dateAt(middle))) low = middle;
      else high = middle;
    }
    return high;
  }
}
