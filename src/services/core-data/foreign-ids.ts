/** Ids of events that strangers chose: each is kept once, and found again. Those of our own services take no place. */
import type { Database, Statement } from "../../kernel/database.ts";
import type { Block } from "../../kernel/events/model.ts";
import { keepRows } from "../../kernel/events/rows.ts";
import type { SeriesBook } from "./series.ts";

/** Which event it is. */
export interface EventNumber {
  readonly publisher: string;
  readonly epoch: number;
  readonly sequence: number;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A UUID is kept in 16 bytes; any other id as it is. */
const keyOf = (id: string): Uint8Array | string => (UUID.test(id) ? Buffer.from(id.replaceAll("-", ""), "hex") : id);

export class ForeignIds {
  readonly #series: SeriesBook;
  readonly #find: Statement<{ publisher: number; epoch: number; sequence: number }, [Uint8Array | string]>;
  readonly #insert: Statement<never, [Uint8Array | string, number, number, number]>;
  readonly #delete: Statement<never, [Uint8Array | string]>;
  /** Those of events that are not written yet. */
  readonly #unwritten = new Map<string, EventNumber>();

  constructor(db: Database, series: SeriesBook) {
    this.#series = series;
    this.#find = db.prepare("SELECT publisher, epoch, sequence FROM foreign_id WHERE id = ?");
    this.#insert = db.prepare("INSERT OR IGNORE INTO foreign_id (id, publisher, epoch, sequence) VALUES (?, ?, ?, ?)");
    this.#delete = db.prepare("DELETE FROM foreign_id WHERE id = ?");
  }

  /** The event to which a stranger gave this id. */
  find(id: string): EventNumber | undefined {
    const unwritten = this.#unwritten.get(id);
    if (unwritten) return unwritten;
    const row = this.#find.get(keyOf(id));
    const publisher = row && this.#series.publisherNamed(row.publisher);
    return row && publisher !== undefined ? { publisher, epoch: row.epoch, sequence: row.sequence } : undefined;
  }

  /** Leaves out the events of a block that are here already, and notes the ids of the others. */
  fresh(block: Block): Block {
    const { name: publisher, epoch } = block.publisher;
    const known = new Set<number>();
    for (const [row, extra] of block.extras) {
      const id = extra.ids?.[0];
      if (id === undefined) continue;
      if (this.find(id)) known.add(row);
      else this.#unwritten.set(id, { publisher, epoch, sequence: block.sequences[row] });
    }
    return known.size === 0 ? block : keepRows(block, (row) => !known.has(row));
  }

  /** Writes the ids of a block, in a transaction. */
  write(block: Block, publisher: number): void {
    for (const [row, extra] of block.extras) {
      const id = extra.ids?.[0];
      if (id !== undefined) this.#insert.run(keyOf(id), publisher, block.publisher.epoch, block.sequences[row]);
    }
  }

  /** All noted ids are written. */
  written(): void {
    this.#unwritten.clear();
  }

  /** Forgets the ids of blocks, in a transaction. */
  forget(blocks: readonly Block[]): void {
    for (const { extras } of blocks)
      for (const { ids } of extras.values()) if (ids?.[0] !== undefined) this.#delete.run(keyOf(ids[0]));
  }
}
