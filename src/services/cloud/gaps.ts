/** The gap ledgers of nodes: what never reached one of their destinations, and why. */
import type { Database } from "../../kernel/database.ts";
import type { Gap } from "./api.ts";

export const GAPS_SCHEMA = `
  CREATE TABLE gap (
    edge TEXT NOT NULL, destination TEXT NOT NULL, class TEXT NOT NULL, epoch INTEGER NOT NULL, "from" INTEGER NOT NULL,
    "to" INTEGER NOT NULL, pipelines TEXT NOT NULL, events INTEGER NOT NULL, readings INTEGER NOT NULL,
    firstNs INTEGER, lastNs INTEGER, reason TEXT NOT NULL, atNs INTEGER NOT NULL,
    PRIMARY KEY (edge, destination, class, epoch, "from")
  ) WITHOUT ROWID;
`;

const GAP_COLUMNS = `destination, class, epoch, "from", "to", pipelines, events, readings, firstNs, lastNs, reason, atNs`;

type GapRow = { readonly [K in keyof Omit<Gap, "pipelines">]: unknown } & { readonly pipelines: string };

export class GapLedger {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Keeps entries of a node's gap ledger; what was told before, and has grown since, is told anew. */
  add(edge: string, gaps: readonly Gap[]): void {
    const add = this.#db.prepare<never>(`INSERT OR REPLACE INTO gap VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`);
    this.#db.transaction(() => {
      for (const g of gaps)
        add.run(
          edge,
          g.destination,
          g.class,
          g.epoch,
          g.from,
          g.to,
          JSON.stringify(g.pipelines),
          g.events,
          g.readings,
          g.firstNs ?? null,
          g.lastNs ?? null,
          g.reason,
          g.atNs,
        );
    });
  }

  /** Lists a node's gaps, newest first. */
  list(edge: string, limit: number): { totalCount: number; gaps: Gap[] } {
    const count = "SELECT count(*) AS n FROM gap WHERE edge = ?";
    const rows = this.#db
      .prepare<GapRow, [string, number]>(`SELECT ${GAP_COLUMNS} FROM gap WHERE edge = ? ORDER BY atNs DESC LIMIT ?`, {
        bigint: true,
      })
      .all(edge, limit);
    return { totalCount: this.#db.prepare<{ n: number }, [string]>(count).get(edge)!.n, gaps: rows.map(gapOf) };
  }
}

function gapOf({ pipelines, epoch, from, to, events, readings, firstNs, lastNs, ...row }: GapRow): Gap {
  const numbers = { epoch, from, to, events, readings };
  const known = Object.entries({ firstNs, lastNs }).filter(([, value]) => value !== null);
  return {
    ...row,
    ...Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, Number(value)])),
    ...Object.fromEntries(known),
    pipelines: JSON.parse(pipelines) as string[],
  } as Gap;
}
