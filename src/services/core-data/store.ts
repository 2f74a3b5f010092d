/**
 * Keeps events as columnar chunks in encrypted SQLite. What comes gathers in memory (the bus has it on its disk) and is
 * written together with the position after it, in one transaction: after a crash anywhere the bus is followed from that
 * position, so that nothing repeats and nothing is skipped.
 */
import {
  type Database,
  openDatabase,
  type Statement,
  type Value,
  type DatabaseOptions,
} from "../../kernel/database.ts";
import { DATABASE_DAMAGED } from "../../kernel/database-errors.ts";
import { Failure } from "../../kernel/error.ts";
import { decodeBlocks } from "../../kernel/events/codec.ts";
import type { Block, Resource } from "../../kernel/events/model.ts";
import type { Log } from "../../kernel/log.ts";
import { ChunkWriter } from "./chunks.ts";
import { DEVICE_KEYS_SCHEMA, DeviceKeys } from "./device-keys.ts";
import { ForeignIds } from "./foreign-ids.ts";
import { SCHEMA, SCHEMA_RETENTION } from "./schema.ts";
import { SeriesBook } from "./series.ts";
import { Tail } from "./tail.ts";

export interface StoreOptions {
  readonly path: string;
  readonly key: DatabaseOptions["key"];
  readonly node: string;
  readonly log: Log;
}

export class EventStore {
  readonly #options: StoreOptions;
  readonly #statements = new Map<string, unknown>();
  #opened: Opened;
  #position = 0;
  #followed = 0;
  #isDamaged = false;
  /** How often it was opened: what is remembered of chunks holds for one opening. */
  openings = 1;
  #whenDamaged: () => void = () => undefined;

  /** Errors are those of openDatabase; a damaged one is moved aside and begins anew at position 0. */
  constructor(options: StoreOptions) {
    this.#options = options;
    this.#opened = openAll(options);
    this.#position = this.#followed = this.state("position") ?? 0;
  }

  get series(): SeriesBook {
    return this.#opened.series;
  }

  get foreignIds(): ForeignIds {
    return this.#opened.foreignIds;
  }

  get tail(): Tail {
    return this.#opened.tail;
  }

  /** Where the damaged database went that this one took the place of. */
  get replaced(): Database["replaced"] {
    return this.#opened.db.replaced;
  }

  /** The database was found damaged while it was used: `reopen` it. `whenDamaged` is called then. */
  get isDamaged(): boolean {
    return this.#isDamaged;
  }

  set whenDamaged(tell: () => void) {
    this.#whenDamaged = tell;
  }

  /** Moves a damaged database aside and begins anew at position 0, to be filled from the bus. */
  reopen(): void {
    this.#opened.db.close();
    this.#statements.clear();
    this.#opened = openAll(this.#options);
    this.#position = this.#followed = this.state("position") ?? 0;
    this.#isDamaged = false;
    this.openings++;
  }

  /** Does work on the database and notes where it is damaged. */
  noticing<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (isDamage(error)) {
        this.#isDamaged = true;
        this.#whenDamaged();
      }
      throw error;
    }
  }

  /** Up to here the events of the bus are written. */
  get position(): number {
    return this.#position;
  }

  /** Up to here they are in the answers, written or not. */
  get followed(): number {
    return this.#followed;
  }

  /** A number kept in the database. */
  state(name: "position" | "retentionMs"): number | undefined {
    return this.prepared<{ value: number }>("SELECT value FROM state WHERE name = ?").get(name)?.value;
  }

  /** Prepares a statement once; integers come as bigint where `bigint` says so. */
  prepared<Row, Parameters extends Value[] = Value[]>(sql: string, bigint = false): Statement<Row, Parameters> {
    const known = this.#statements.get(sql);
    if (known) return known as Statement<Row, Parameters>;
    const made = this.#opened.db.prepare<Row, Parameters>(sql, { bigint });
    this.#statements.set(sql, made);
    return made;
  }

  /** Takes blocks (of so many bytes encoded) and the position after them; they are written with the next `settle`. */
  add(blocks: readonly Block[], position: number, bytes: number): void {
    for (const block of blocks) {
      const fresh = block.extras.size > 0 ? this.foreignIds.fresh(block) : block;
      if (fresh.sequences.length === 0) continue;
      this.series.meet(fresh.publisher.name);
      this.tail.add(this.series.entryOf(fresh.series), fresh);
    }
    this.tail.countBytes(bytes);
    this.#followed = position;
  }

  /**
   * Writes what is in memory, and the position after it: all or nothing. `retentionMs` is what the retention clock says.
   * Errors are the database's; the events stay in memory then.
   */
  settle(retentionMs: number): void {
    if (this.#followed === this.#position && this.tail.rows === 0) return;
    this.#durably(() => {
      const seconds = Math.floor(retentionMs / 1000);
      for (const [entry, blocks] of this.tail.bySeries()) {
        for (const { block } of blocks) {
          if (block.extras.size > 0) this.foreignIds.write(block, this.series.publisherNumber(block.publisher.name));
          this.#opened.chunks.add(entry, block, seconds);
        }
      }
      this.#setState("position", this.#followed);
      this.#setState("retentionMs", retentionMs);
    });
    this.#position = this.#followed;
    this.tail.clear();
    this.foreignIds.written();
  }

  /** Opens a chunk; columns of resources that are not wanted come empty. No blocks when it went meanwhile. */
  blocksOf(id: number, wanted?: (resource: Resource) => boolean): Block[] {
    const row = this.prepared<Sealed>("SELECT device_key, blocks FROM chunk WHERE id = ?").get(id);
    const blocks = row && this.#opened.keys.open(row.device_key, row.blocks);
    return blocks ? decodeBlocks(blocks, wanted) : [];
  }

  /** Puts what stays of a chunk in its place; no rows drop it. `thinned`: columns that are empty in it for good now. */
  rewrite(id: number, before: readonly Block[], after: readonly Block[], thinned?: string): void {
    this.#durably(() => {
      this.foreignIds.forget(before);
      for (const block of after)
        if (block.extras.size > 0) this.foreignIds.write(block, this.series.publisherNumber(block.publisher.name));
      this.#opened.chunks.rewrite(id, after, thinned);
    });
  }

  /** Destroys a device's key: what is written of it is nothing to anybody from then on. Its chunks are still to be dropped. */
  destroyKey(device: string): void {
    // What SQLite deletes stays on its pages otherwise, and in its log.
    this.#pragma("secure_delete = ON");
    try {
      this.#durably(() => this.#opened.keys.destroy(device));
      this.#pragma("wal_checkpoint(TRUNCATE)");
    } finally {
      this.#pragma("secure_delete = OFF");
    }
  }

  /** Drops chunks. */
  drop(ids: readonly number[]): void {
    this.#durably(() => {
      for (const id of ids) {
        this.foreignIds.forget(this.blocksOf(id, () => false));
        this.#opened.chunks.drop(id);
      }
    });
  }

  /** Bytes that what is kept takes in the database, all in. */
  get sizeBytes(): number {
    return (this.#pragma("page_count") - this.#pragma("freelist_count")) * this.#pragma("page_size");
  }

  /** Gives free room back to the disk, a bounded part of what is beyond `keepPages`; the rest is written to again. */
  shrink(keepPages: number, pagesMax: number): void {
    const free = this.#pragma("freelist_count") - keepPages;
    if (free > 0) this.#opened.db.shrink(Math.min(free, pagesMax));
  }

  close(): void {
    this.#opened.db.close();
  }

  #pragma(name: string): number {
    return Object.values(this.prepared<Record<string, number>>(`PRAGMA ${name}`).get()!)[0];
  }

  #setState(name: string, value: number): void {
    this.prepared(
      "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    ).run(name, value);
  }

  #durably(work: () => void): void {
    this.noticing(() => {
      let holds = false;
      try {
        this.#opened.db.transaction(work);
        holds = true;
      } finally {
        this.series.committed(holds);
        // What was counted on the way counts no more.
        if (!holds) {
          this.#opened.chunks.count();
          this.#opened.keys.reload(this.#opened.db);
        }
      }
    });
  }
}

interface Sealed {
  readonly device_key: number;
  readonly blocks: Uint8Array;
}

/** All that is about one opened database. */
interface Opened {
  readonly db: Database;
  readonly series: SeriesBook;
  readonly foreignIds: ForeignIds;
  readonly keys: DeviceKeys;
  readonly chunks: ChunkWriter;
  readonly tail: Tail;
}

const isDamage = (error: unknown): boolean => error instanceof Failure && error.code === DATABASE_DAMAGED.code;

function openAll(options: StoreOptions): Opened {
  for (let tries = 1; ; tries++) {
    const db = openDatabase({
      ...options,
      schema: { version: 3, migrations: [SCHEMA, SCHEMA_RETENTION, DEVICE_KEYS_SCHEMA] },
    });
    try {
      const series = new SeriesBook(db, options.node);
      const foreignIds = new ForeignIds(db, series);
      const keys = new DeviceKeys(db);
      // Of a device that was forgotten: a stop came between its key and its chunks.
      db.exec("DELETE FROM chunk WHERE device_key <> 0 AND device_key NOT IN (SELECT id FROM device_key)");
      return { db, series, foreignIds, keys, chunks: new ChunkWriter(db, series, keys), tail: new Tail() };
    } catch (error) {
      db.close();
      // Found only now: opened again, it is checked whole and moved aside.
      if (!isDamage(error) || tries === 2) throw error;
    }
  }
}
