/** What was asked of nodes in full, and how far each is. */
import type { Database } from "../../kernel/database.ts";
import type { Backfill, BackfillProgress, BackfillRequest } from "./backfill.api.ts";

export const BACKFILLS_SCHEMA = `
  CREATE TABLE backfill (
    id TEXT PRIMARY KEY, edge TEXT NOT NULL, devices TEXT NOT NULL, resources TEXT NOT NULL, fromNs INTEGER NOT NULL,
    toNs INTEGER NOT NULL, askedAtMs INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT, share REAL NOT NULL DEFAULT 0,
    queued INTEGER NOT NULL DEFAULT 0, kept INTEGER NOT NULL DEFAULT 0, known INTEGER NOT NULL DEFAULT 0
  ) WITHOUT ROWID;
  CREATE INDEX backfill_of_edge ON backfill (edge, state);
`;

/** Of each node so many that are over are remembered. */
const OVER_MAX = 1_000;

interface BackfillRow {
  readonly id: string;
  readonly edge: string;
  readonly devices: string;
  readonly resources: string;
  readonly fromNs: bigint;
  readonly toNs: bigint;
  readonly askedAtMs: bigint;
  readonly state: Backfill["state"];
  readonly reason: string | null;
  readonly share: number;
  readonly queued: bigint;
  readonly kept: bigint;
  readonly known: bigint;
}

export class Backfills {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add(edge: string, { id, devices, resources, fromNs, toNs }: BackfillRequest, nowMs: number): void {
    this.#db
      .prepare(
        `INSERT INTO backfill (id, edge, devices, resources, fromNs, toNs, askedAtMs, state) VALUES (?, ?, ?, ?, ?, ?, ?, 'asked')`,
      )
      .run(id, edge, JSON.stringify(devices), JSON.stringify(resources), fromNs, toNs, nowMs);
    this.#db
      .prepare(
        `DELETE FROM backfill WHERE edge = ? AND state NOT IN ('asked', 'running') AND askedAtMs < (
          SELECT min(askedAtMs) FROM (SELECT askedAtMs FROM backfill WHERE edge = ? ORDER BY askedAtMs DESC LIMIT ${OVER_MAX}))`,
      )
      .run(edge, edge);
  }

  /** Those that a node has to be told: the ones that it has not heard of, or (`all`) those that it may have forgotten, too. */
  open(edge: string, all: boolean): BackfillRequest[] {
    const states = all ? "state IN ('asked', 'running')" : "state = 'asked'";
    return this.#rows(`edge = ? AND ${states} ORDER BY askedAtMs, id`, edge).map(
      ({ id, devices, resources, fromNs, toNs }) => ({ id, devices, resources, fromNs, toNs }),
    );
  }

  list(edge: string, limit: number): Backfill[] {
    return this.#rows("edge = ? ORDER BY askedAtMs DESC, id LIMIT ?", edge, limit);
  }

  /** Answers whether there was one to cancel. */
  cancel(edge: string, id: string): boolean {
    const cancel =
      "UPDATE backfill SET state = 'cancelled' WHERE edge = ? AND id = ? AND state IN ('asked', 'running')";
    return this.#db.prepare(cancel).run(edge, id).changes > 0;
  }

  /** Takes what a node tells; answers false where the backfill is wanted no more. */
  told(edge: string, { id, state, reason, readings, share }: BackfillProgress): boolean {
    const update = `UPDATE backfill SET state = ?, reason = ?, share = ?, queued = ?
      WHERE edge = ? AND id = ? AND state IN ('asked', 'running')`;
    const { changes } = this.#db.prepare(update).run(state, reason ?? null, share, readings, edge, id);
    if (changes > 0) return true;
    // An answer that was lost: it is told again, and nothing is wrong.
    return this.#rows("edge = ? AND id = ?", edge, id)[0]?.state === state;
  }

  /** Counts readings that came; in the transaction that keeps them. */
  count(edge: string, id: string, kept: number, known: number): void {
    this.#db
      .prepare("UPDATE backfill SET kept = kept + ?, known = known + ? WHERE edge = ? AND id = ?")
      .run(kept, known, edge, id);
  }

  #rows(where: string, ...parameters: (string | number)[]): Backfill[] {
    return this.#db
      .prepare<BackfillRow>(`SELECT * FROM backfill WHERE ${where}`, { bigint: true })
      .all(...parameters)
      .map(({ devices, resources, reason, askedAtMs, queued, kept, known, ...row }) => ({
        ...row,
        devices: JSON.parse(devices) as string[],
        resources: JSON.parse(resources) as string[],
        askedAtMs: Number(askedAtMs),
        queued: Number(queued),
        kept: Number(kept),
        known: Number(known),
        ...(reason === null ? {} : { reason }),
      }));
  }
}
