/** Readings from core-data: the newest of a device, a resource or all, and those that come, each once. */
import type { Call } from "../kernel/call.ts";
import type { Reading } from "../kernel/edgex.ts";
import type { CoreData } from "../services/core-data/api.ts";

export interface Wanted {
  readonly device?: string | undefined;
  readonly resource?: string | undefined;
}

/** What core-data answers at once at the most. */
const PAGE_MAX = 1024;

type List = (
  page: { offset: number; limit: number; numeric: boolean },
  call: Call,
) => Promise<{ totalCount: number; readings: Reading[] }>;

/** Picks the question that asks for what is wanted. */
function listOf(data: CoreData, { device, resource }: Wanted): List {
  if (device !== undefined && resource !== undefined)
    return (page, call) => data.readingsByDeviceAndResource({ name: device, resourceName: resource, ...page }, call);
  if (device !== undefined) return (page, call) => data.readingsByDevice({ name: device, ...page }, call);
  if (resource !== undefined) return (page, call) => data.readingsByResource({ resourceName: resource, ...page }, call);
  return (page, call) => data.allReadings(page, call);
}

/** Reads the newest readings, oldest of them first: at most `limit`, none from before `sinceNs`. */
export async function newest(
  data: CoreData,
  wanted: Wanted,
  options: { limit: number; sinceNs?: bigint | undefined; call(): Call },
): Promise<{ totalCount: number; readings: Reading[] }> {
  const list = listOf(data, wanted);
  // What comes in between moves the pages: a reading may be met twice.
  const found = new Map<string, Reading>();
  let totalCount = 0;
  for (let offset = 0; found.size < options.limit;) {
    const limit = Math.min(PAGE_MAX, options.limit - found.size);
    const page = await list({ offset, limit, numeric: false }, options.call());
    ({ totalCount } = page);
    const fresh = page.readings.filter(({ origin }) => options.sinceNs === undefined || origin >= options.sinceNs);
    for (const reading of fresh) found.set(keyOf(reading), reading);
    offset += page.readings.length;
    if (fresh.length < page.readings.length || page.readings.length < limit || offset >= totalCount) break;
  }
  return { totalCount, readings: inOrder([...found.values()]) };
}

const keyOf = (r: Reading): string => r.id ?? `${r.deviceName}\u0000${r.resourceName}\u0000${r.origin}`;

/** Puts readings in order of time, the oldest first. */
export const inOrder = (readings: Reading[]): Reading[] =>
  readings.sort((a, b) => (a.origin < b.origin ? -1 : a.origin > b.origin ? 1 : 0));

/** A look takes so many of the newest, and further pages while all of them are new. */
const LOOK_READINGS = 200;
const PAGES_MAX = 8;
/** Readings that are remembered as shown; those that are this far behind the newest are not looked at any more. */
const REMEMBERED_MAX = 4 * PAGES_MAX * PAGE_MAX;

/** Finds out what is new since it last looked. */
export class Follower {
  readonly #list: List;
  readonly #seen = new Set<string>();
  /** Nothing older was ever new. */
  #floorNs: bigint | undefined;

  constructor(data: CoreData, wanted: Wanted) {
    this.#list = listOf(data, wanted);
  }

  /**
   * Answers the readings that were not there at the last look, oldest first; the first look answers the newest. `missed`
   * says that more came than one look takes.
   */
  async look(call: Call): Promise<{ readings: Reading[]; missed: boolean }> {
    const found: Reading[] = [];
    const first = this.#floorNs === undefined;
    let missed = false;
    for (let pages = 0, offset = 0; ; pages++) {
      const limit = pages === 0 ? LOOK_READINGS : PAGE_MAX;
      const { readings } = await this.#list({ offset, limit, numeric: false }, call);
      const fresh = readings.filter((r) => r.origin >= (this.#floorNs ?? r.origin) && !this.#seen.has(keyOf(r)));
      for (const reading of fresh) this.#seen.add(keyOf(reading));
      found.push(...fresh);
      offset += readings.length;
      if (first || fresh.length < readings.length || readings.length < limit) break;
      missed = pages + 1 === PAGES_MAX;
      if (missed) break;
    }
    const ordered = inOrder(found);
    // A full first page hides older ones, which are not news when they come into sight.
    if (first) this.#floorNs = ordered.length === LOOK_READINGS ? ordered[0].origin : 0n;
    this.#forget();
    return { readings: ordered, missed };
  }

  #forget(): void {
    for (const key of this.#seen) {
      if (this.#seen.size <= REMEMBERED_MAX) return;
      this.#seen.delete(key);
    }
  }
}

const WAIT_MS_MIN = 250;
const WAIT_MS_MAX = 1_500;

/** Says how long to wait before the next look: short while something comes, longer where it is quiet. */
export const nextWaitMs = (lastMs: number, found: number): number =>
  found > 0 ? WAIT_MS_MIN : Math.min(WAIT_MS_MAX, Math.max(WAIT_MS_MIN, lastMs * 1.5));
