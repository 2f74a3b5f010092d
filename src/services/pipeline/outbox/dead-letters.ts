/** Batches that a destination refused for good, until a person has looked: they are sent again, or let go of. */
import { headOfBlocks } from "../../../kernel/events/codec.ts";
import { blocksWithout } from "../../../kernel/events/forgotten.ts";
import type { Database } from "../../../kernel/database.ts";
import { QUEUE_CLASSES, type QueueClass } from "../pacing/priority.ts";
import { type Gaps, Tally } from "./gaps.ts";
import type { ClassQueue } from "./queue.ts";
import { type BatchNote, NOTE_BYTES, type QueuedBatch, readNote, writeKey, writeRecord } from "./record.ts";

export const DEAD_LETTERS_SCHEMA = `
  CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, class TEXT NOT NULL, epoch INTEGER NOT NULL,
    sequence INTEGER NOT NULL, key TEXT NOT NULL, record BLOB NOT NULL, reason TEXT NOT NULL, atMs INTEGER NOT NULL,
    UNIQUE (destination, class, epoch, sequence)
  );
`;

/** So many are kept, and so many bytes; at either the oldest go, and are entered in the gap ledger. */
const LETTERS_MAX = 1_000;
const BYTES_MAX = 32 * 1024 * 1024;
const REASON_LENGTH_MAX = 1_000;

export interface DeadLetter extends BatchNote {
  readonly id: number;
  readonly destination: string;
  readonly class: QueueClass;
  readonly epoch: number;
  readonly sequence: number;
  readonly reason: string;
  readonly atMs: number;
  readonly bytes: number;
}

type Row = Omit<DeadLetter, keyof BatchNote> & { readonly key: string; readonly note: Uint8Array };
const COLUMNS = `id, destination, class, epoch, sequence, key, reason, atMs,
  substr(record, 1, ${NOTE_BYTES}) AS note, length(record) - ${NOTE_BYTES} AS bytes`;

export class DeadLetters {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Sets a batch aside; once, whoever tells it again. */
  add(of: { destination: string; queue: ClassQueue; batch: QueuedBatch; reason: string; atMs: number }): void {
    const { destination, queue, batch, reason, atMs } = of;
    const { sequence, blocks } = batch;
    this.#db
      .prepare<never, [string, string, number, number, string, Uint8Array, string, number]>(
        `INSERT OR IGNORE INTO dead_letter (destination, class, epoch, sequence, key, record, reason, atMs)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        destination,
        queue.name,
        queue.stream.epoch,
        sequence,
        writeKey(batch),
        writeRecord(batch, blocks),
        reason.slice(0, REASON_LENGTH_MAX),
        atMs,
      );
  }

  has(destination: string, { name, stream }: ClassQueue, sequence: number): boolean {
    return (
      this.#db
        .prepare<unknown, [string, string, number, number]>(
          "SELECT 1 FROM dead_letter WHERE destination = ? AND class = ? AND epoch = ? AND sequence = ?",
        )
        .get(destination, name, stream.epoch, sequence) !== undefined
    );
  }

  count(destination: string): number {
    const count = "SELECT count(*) AS n FROM dead_letter WHERE destination = ?";
    return this.#db.prepare<{ n: number }, [string]>(count).get(destination)!.n;
  }

  /** Lists them, newest first. */
  list(most: number): DeadLetter[] {
    const all = `SELECT ${COLUMNS} FROM dead_letter ORDER BY id DESC LIMIT ?`;
    return this.#db.prepare<Row, [number]>(all).all(most).map(letterOf);
  }

  get(id: number): { letter: DeadLetter; blocks: Uint8Array } | undefined {
    const one = `SELECT ${COLUMNS}, substr(record, ${NOTE_BYTES + 1}) AS blocks FROM dead_letter WHERE id = ?`;
    const row = this.#db.prepare<Row & { blocks: Uint8Array }, [number]>(one).get(id);
    if (!row) return undefined;
    const { blocks, ...rest } = row;
    return { letter: letterOf(rest), blocks };
  }

  /** Takes a device's events out of all of them; a letter that had no others goes. */
  forget(device: string): void {
    for (const { id } of this.list(LETTERS_MAX)) {
      const found = this.get(id);
      if (!found || !headOfBlocks(found.blocks).some(({ series }) => series.deviceName === device)) continue;
      const left = blocksWithout(found.blocks, (name) => name === device);
      if (!left) this.remove(id);
      else
        this.#db
          .prepare<never, [Uint8Array, number]>("UPDATE dead_letter SET record = ? WHERE id = ?")
          .run(writeRecord(found.letter, left), id);
    }
  }

  remove(id: number): void {
    this.#db.prepare<never, [number]>("DELETE FROM dead_letter WHERE id = ?").run(id);
  }

  /** Lets go of the oldest beyond the limits. */
  limit(gaps: Gaps): void {
    const over = this.#db
      .prepare<Row, [number, number]>(
        `SELECT ${COLUMNS} FROM dead_letter WHERE id IN (SELECT id FROM (
           SELECT id, row_number() OVER w AS n, sum(length(record)) OVER w AS total
           FROM dead_letter WINDOW w AS (ORDER BY id DESC)) WHERE n > ? OR total > ?) ORDER BY id`,
      )
      .all(LETTERS_MAX, BYTES_MAX)
      .map(letterOf);
    for (const letter of over) {
      gaps.add(tallyOf(letter), "dead-letters-full");
      this.remove(letter.id);
    }
  }
}

/** A letter as an entry of the gap ledger. */
export function tallyOf(letter: DeadLetter): Tally {
  const tally = new Tally(letter.class, letter.epoch);
  tally.add(letter.destination, letter.sequence, letter);
  return tally;
}

function letterOf({ key, note, ...row }: Row): DeadLetter {
  const name = QUEUE_CLASSES.find((known) => known === row.class) ?? "normal";
  return { ...row, ...readNote(key, note), class: name };
}
