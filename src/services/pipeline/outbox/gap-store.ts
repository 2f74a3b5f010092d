/** The gap ledger on the disk: what was told to the cloud, and what is still to be told. */
import type { Database } from "../../../kernel/database.ts";
import { parseJson, stringifyJson } from "../../../kernel/json.ts";
import { nanosOf } from "../../../kernel/nanos.ts";
import { SequenceSet } from "../../../kernel/sequences.ts";
import { Gap } from "../../cloud/api.ts";

export const GAPS_SCHEMA = `
  CREATE TABLE gap (
    id INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, class TEXT NOT NULL, epoch INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, json TEXT NOT NULL, isTold INTEGER NOT NULL
  );
  CREATE INDEX gap_place ON gap (destination, class, epoch, last);
`;

/** Entries that are kept; above it the oldest that the cloud was told go. */
const GAPS_MAX = 10_000;

interface Row {
  readonly id: number;
  readonly first: number;
  readonly last: number;
  readonly json: string;
}

export class GapTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Adds an entry, or lengthens the one that it goes on with; false where all of it is known. */
  add(gap: Gap): boolean {
    return this.#db.transaction(() => {
      const known = this.#at(gap);
      const fresh = new SequenceSet([gap]).without(
        new SequenceSet(known.map(({ first: from, last: to }) => ({ from, to }))),
      );
      for (const { from, to } of fresh) {
        // Of a part nobody knows how much was in it.
        const part = from === gap.from && to === gap.to ? gap : { ...gap, from, to, events: 0, readings: 0 };
        const before = known.find(({ last, json }) => last === from - 1 && gapOf(json).reason === gap.reason);
        if (before) this.#lengthen(before.id, joined(gapOf(before.json), part));
        else this.#insert(part);
      }
      return fresh.length > 0;
    });
  }

  /** Lists entries, newest first. */
  list(most: number): Gap[] {
    const all = "SELECT json FROM gap ORDER BY id DESC LIMIT ?";
    return this.#db
      .prepare<Row, [number]>(all)
      .all(most)
      .map(({ json }) => gapOf(json));
  }

  get size(): number {
    return this.#db.prepare<{ n: number }>("SELECT count(*) AS n FROM gap").get()!.n;
  }

  /** The first entries that the cloud was not told. */
  untold(most: number): { readonly ids: number[]; readonly gaps: Gap[] } {
    const rows = this.#db
      .prepare<Row, [number]>("SELECT id, json FROM gap WHERE isTold = 0 ORDER BY id LIMIT ?")
      .all(most);
    return { ids: rows.map(({ id }) => id), gaps: rows.map(({ json }) => gapOf(json)) };
  }

  told(ids: readonly number[]): void {
    this.#db.transaction(() => {
      for (const id of ids) this.#db.prepare<never, [number]>("UPDATE gap SET isTold = 1 WHERE id = ?").run(id);
      this.#db
        .prepare<never, [number]>(
          "DELETE FROM gap WHERE isTold = 1 AND id <= (SELECT id FROM gap ORDER BY id DESC LIMIT 1 OFFSET ?)",
        )
        .run(GAPS_MAX);
    });
  }

  #at({ destination, class: name, epoch, from, to }: Gap): Row[] {
    return this.#db
      .prepare<Row, [string, string, number, number, number]>(
        `SELECT id, first, last, json FROM gap
         WHERE destination = ? AND class = ? AND epoch = ? AND last >= ? AND first <= ?`,
      )
      .all(destination, name, epoch, from - 1, to);
  }

  #insert(gap: Gap): void {
    this.#db
      .prepare<never, [string, string, number, number, number, string]>(
        "INSERT INTO gap (destination, class, epoch, first, last, json, isTold) VALUES (?, ?, ?, ?, ?, ?, 0)",
      )
      .run(gap.destination, gap.class, gap.epoch, gap.from, gap.to, stringifyJson(gap));
  }

  #lengthen(id: number, gap: Gap): void {
    this.#db
      .prepare<never, [number, string, number]>("UPDATE gap SET last = ?, json = ?, isTold = 0 WHERE id = ?")
      .run(gap.to, stringifyJson(gap), id);
  }
}

function gapOf(json: string): Gap {
  // Nanoseconds that a double holds exactly come back as one.
  return nanosOf(Gap, parseJson(json)) as Gap;
}

function joined(a: Gap, b: Gap): Gap {
  const firstNs = a.firstNs ?? b.firstNs;
  const lastNs = b.lastNs ?? a.lastNs;
  return {
    ...a,
    to: b.to,
    pipelines: [...new Set([...a.pipelines, ...b.pipelines])].sort(),
    events: a.events + b.events,
    readings: a.readings + b.readings,
    ...(firstNs === undefined ? {} : { firstNs }),
    ...(lastNs === undefined ? {} : { lastNs }),
    atNs: b.atNs,
  };
}
