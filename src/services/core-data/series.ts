/** Numbers of series and publishers: a chunk names them by number, and what is counted per series is counted here. */
import type { Database } from "../../kernel/database.ts";
import { seriesKey } from "../../kernel/events/codec.ts";
import { publisherTag } from "../../kernel/events/ids.ts";
import type { Publisher, Series } from "../../kernel/events/model.ts";
import { parseJson, stringifyJson } from "../../kernel/json.ts";

/** Chunks of a series, publisher and epoch that are not sealed. */
export interface OpenChunks {
  rows: number;
  bytes: number;
  chunks: number;
  /** Seconds of the retention clock when the first of their events was kept. */
  since: number;
}

/** What is open for so long is sealed, however few rows it has: a chunk goes whole when it is too old. */
export const OPEN_SECONDS_MAX = 86_400;

export interface SeriesEntry {
  readonly series: Series;
  /** Sooner than after OPEN_SECONDS_MAX where it is kept for a short time only. */
  openSecondsMax: number;
  /** Undefined until it is first written. */
  id: number | undefined;
  /** In written chunks. */
  rows: number;
  readings: number;
  readonly open: Map<string, OpenChunks>;
}

interface PublisherEntry {
  readonly name: string;
  readonly tag: number;
  id: number | undefined;
}

export interface SeriesFilter {
  readonly device?: string;
  /** One of these. */
  readonly resources?: readonly string[];
}

export class SeriesBook {
  readonly #db: Database;
  readonly #node: string;
  readonly #byContent = new Map<string, SeriesEntry>();
  readonly #byDevice = new Map<string, SeriesEntry[]>();
  readonly #byId = new Map<number, SeriesEntry>();
  readonly #publishers = new Map<string, PublisherEntry>();
  readonly #byTag = new Map<number, PublisherEntry>();
  /** Numbered in the transaction under way: it may yet be undone. */
  #numbered: (SeriesEntry | PublisherEntry)[] = [];

  constructor(db: Database, node: string) {
    this.#db = db;
    this.#node = node;
    for (const { id, name } of db.prepare<{ id: number; name: string }>("SELECT id, name FROM publisher").all())
      this.#publisher(name).id = id;
    for (const { id, json } of db.prepare<{ id: number; json: string }>("SELECT id, json FROM series").all()) {
      const entry = this.entryOf(parseJson(json) as Series);
      entry.id = id;
      this.#byId.set(id, entry);
    }
  }

  /** The entry of a series; made when it is new. */
  entryOf(series: Series): SeriesEntry {
    const key = seriesKey(series);
    const known = this.#byContent.get(key);
    if (known) return known;
    const openSecondsMax = OPEN_SECONDS_MAX;
    const entry: SeriesEntry = { series, openSecondsMax, id: undefined, rows: 0, readings: 0, open: new Map() };
    this.#byContent.set(key, entry);
    const ofDevice = this.#byDevice.get(series.deviceName);
    if (ofDevice) ofDevice.push(entry);
    else this.#byDevice.set(series.deviceName, [entry]);
    return entry;
  }

  byId(id: number): SeriesEntry {
    return this.#byId.get(id)!;
  }

  /** The series of a device, of a resource, of both; all where neither is named. */
  like({ device, resources }: SeriesFilter): SeriesEntry[] {
    const some = device === undefined ? [...this.#byContent.values()] : (this.#byDevice.get(device) ?? []);
    return resources ? some.filter(({ series }) => series.resources.some((r) => resources.includes(r.name))) : some;
  }

  /** Forgets series of which nothing is kept; nothing may be unwritten. In no transaction. */
  forgetEmpty(): void {
    const remove = this.#db.prepare<never, [number]>("DELETE FROM series WHERE id = ?");
    for (const [key, entry] of this.#byContent) {
      if (entry.rows > 0) continue;
      if (entry.id !== undefined) {
        remove.run(entry.id);
        this.#byId.delete(entry.id);
      }
      this.#byContent.delete(key);
      const left = (this.#byDevice.get(entry.series.deviceName) ?? []).filter((other) => other !== entry);
      if (left.length > 0) this.#byDevice.set(entry.series.deviceName, left);
      else this.#byDevice.delete(entry.series.deviceName);
    }
  }

  /** The number of a series, given when it is first written; in a transaction. */
  numberOf(entry: SeriesEntry): number {
    if (entry.id !== undefined) return entry.id;
    const insert = this.#db.prepare<never, [string]>("INSERT INTO series (json) VALUES (?)");
    entry.id = Number(insert.run(stringifyJson(entry.series)).lastInsertRowid);
    this.#byId.set(entry.id, entry);
    this.#numbered.push(entry);
    return entry.id;
  }

  /** The number of a publisher, given when it is first written; in a transaction. */
  publisherNumber(name: string): number {
    const publisher = this.#publisher(name);
    if (publisher.id !== undefined) return publisher.id;
    const insert = this.#db.prepare<never, [string]>("INSERT INTO publisher (name) VALUES (?)");
    publisher.id = Number(insert.run(name).lastInsertRowid);
    this.#numbered.push(publisher);
    return publisher.id;
  }

  /** The numbers given in the transaction hold, or they are taken back. */
  committed(holds: boolean): void {
    if (!holds) for (const entry of this.#numbered) entry.id = undefined;
    this.#numbered = [];
  }

  /** Knows a publisher from now on, so that the ids of its events are found. */
  meet(name: string): void {
    this.#publisher(name);
  }

  /** The tag that makes ids of a publisher's events. */
  tagOf(publisher: Publisher): number {
    return this.#publisher(publisher.name).tag;
  }

  /** The publisher that ids with this tag are of. */
  publisherWith(tag: number): { name: string; id: number | undefined } | undefined {
    return this.#byTag.get(tag);
  }

  /** The number of a publisher; undefined where nothing of it is written. */
  writtenPublisher(name: string): number | undefined {
    return this.#publishers.get(name)?.id;
  }

  publisherNamed(id: number): string | undefined {
    for (const publisher of this.#publishers.values()) if (publisher.id === id) return publisher.name;
    return undefined;
  }

  #publisher(name: string): PublisherEntry {
    const known = this.#publishers.get(name);
    if (known) return known;
    const made: PublisherEntry = { name, tag: publisherTag(this.#node, name), id: undefined };
    this.#publishers.set(name, made);
    this.#byTag.set(made.tag, made);
    return made;
  }
}
