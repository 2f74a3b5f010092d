/** Readings as lines: one each, its names in columns. */
import type { Reading } from "../kernel/edgex.ts";
import type { Page } from "./page.ts";
import { pad, plain, widthOf } from "./text.ts";
import { clockTime, msOf } from "./units.ts";
import { valueOf } from "./value.ts";

/** How wide the names are; it grows while readings are followed, and never shrinks. */
export interface NameColumns {
  device: number;
  resource: number;
}

const NAME_WIDTH_MAX = 28;

export function columnsFor(
  readings: readonly Reading[],
  before: NameColumns = { device: 0, resource: 0 },
): NameColumns {
  const widest = (wide: number, names: string[]) =>
    Math.min(NAME_WIDTH_MAX, Math.max(wide, ...names.map((name) => widthOf(name))));
  return {
    device: widest(
      before.device,
      readings.map((r) => r.deviceName),
    ),
    resource: widest(
      before.resource,
      readings.map((r) => r.resourceName),
    ),
  };
}

/** Writes one line a reading. */
export function readingLines(
  page: Page,
  readings: readonly Reading[],
  options: { columns: NameColumns; nowMs: number },
): string[] {
  const { columns, nowMs } = options;
  return readings.map((reading) => {
    const time = page.style("dim", clockTime(msOf(reading.origin), nowMs));
    const names = `${pad(plain(reading.deviceName), columns.device)}  ${pad(plain(reading.resourceName), columns.resource)}`;
    return `${time}  ${names}  ${page.style("bold", valueOf(reading))}`;
  });
}
