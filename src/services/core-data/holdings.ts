/** Tells what is kept of each source, how long, and how many bytes it takes. */
import { fail } from "../../kernel/error.ts";
import { DATA_RANGE } from "./codes.ts";
import type { ResourceKeep, Retention } from "./retention.ts";
import type { KeptSource } from "./retention.api.ts";
import type { SeriesEntry } from "./series.ts";
import type { EventStore } from "./store.ts";

export interface HoldingsParts {
  readonly store: EventStore;
  readonly retention: Retention;
  readonly sizeBytesMax: number;
  /** What the retention clock says. */
  readonly nowMs: () => number;
  /** Writes what is only in memory. */
  settle(this: void): void;
}

interface Asked {
  readonly device?: string;
  readonly offset: number;
  readonly limit: number;
}

interface Written {
  readonly series: number;
  readonly bytes: number;
  readonly since: number;
}

export class Holdings {
  readonly #p: HoldingsParts;

  constructor(parts: HoldingsParts) {
    this.#p = parts;
  }

  /** Lists the sources, the largest first. DATA_RANGE past the end. */
  list({ device, offset, limit }: Asked) {
    const { store, settle, sizeBytesMax } = this.#p;
    settle();
    const { series } = store;
    const written = store
      .prepared<Written>("SELECT series, sum(length(blocks)) AS bytes, min(since) AS since FROM chunk GROUP BY series")
      .all()
      .filter((row) => device === undefined || series.byId(row.series).series.deviceName === device)
      .sort((a, b) => b.bytes - a.bytes);
    const totalCount = written.length;
    if (offset > totalCount && totalCount > 0)
      throw fail(DATA_RANGE, `offset ${offset} is past the ${totalCount} there are`);
    const sources = written.slice(offset, offset + limit).map((row) => this.#sourceOf(series.byId(row.series), row));
    return { sizeBytes: store.sizeBytes, sizeBytesMax, totalCount, sources };
  }

  #sourceOf({ series, rows, readings }: SeriesEntry, { bytes, since }: Written): KeptSource {
    const { retention, nowMs } = this.#p;
    const { resources, eventsMin, eventsMax } = retention.of(series);
    return {
      deviceName: series.deviceName,
      sourceName: series.sourceName,
      keeps: together(
        series.resources.map(({ name }) => name),
        resources,
      ),
      ...(eventsMin > 0 ? { eventsMin } : {}),
      ...(eventsMax > 0 ? { eventsMax } : {}),
      events: rows,
      readings,
      bytes,
      oldestSeconds: Math.max(0, Math.floor(nowMs() / 1000) - since),
    };
  }
}

/** Resources that are kept alike, the longest first. */
function together(names: readonly string[], keeps: readonly ResourceKeep[]): KeptSource["keeps"] {
  const groups = new Map<string, { resources: string[] } & ResourceKeep>();
  keeps.forEach((keep, column) => {
    const key = `${keep.seconds} ${keep.by}`;
    const group = groups.get(key);
    if (group) group.resources.push(names[column]);
    else groups.set(key, { resources: [names[column]], ...keep });
  });
  return [...groups.values()].sort((a, b) => b.seconds - a.seconds);
}
