/** What is kept of nodes, read again: blocks of a device, newest first, and all batches of a node in order. */
import type { Database } from "../../kernel/database.ts";
import { decodeBlocks, headOfBlocks } from "../../kernel/events/codec.ts";
import type { Block } from "../../kernel/events/model.ts";
import type { Piece } from "../../kernel/events/newest.ts";
import { spanOf } from "../../kernel/events/rows.ts";

const PAGE_PIECES = 256;
const PAGE_BATCHES = 16;

interface PieceRow {
  readonly batch: bigint;
  readonly block: bigint;
  readonly min_origin: bigint;
  readonly max_origin: bigint;
  readonly readings: bigint;
  readonly ahead_ns: bigint | null;
}

/** Blocks of a batch, and how far its node's clock was ahead. */
export interface CloudPiece extends Piece {
  readonly aheadNs: bigint;
}

interface BatchRow {
  readonly stream: string;
  readonly epoch: number;
  readonly sequence: number;
  readonly pipeline: string;
  readonly blocks: Uint8Array;
}

export class Kept {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Readings of a device, counted when they came. */
  readingsOf(edge: string, device: string): number {
    const sum = "SELECT coalesce(sum(readings), 0) AS n FROM piece WHERE edge = ? AND device = ?";
    return this.#db.prepare<{ n: number }, [string, string]>(sum).get(edge, device)!.n;
  }

  /** Blocks of a device, newest first; with a resource only its values are read, and none is counted before. */
  *pieces(edge: string, device: string, resource?: string): Generator<CloudPiece> {
    const rows = this.#db.prepare<PieceRow, [string, string, bigint, bigint, bigint]>(
      `SELECT batch, block, min_origin, max_origin, readings, ahead_ns FROM piece JOIN batch ON batch.id = piece.batch
       WHERE piece.edge = ? AND device = ? AND (max_origin, batch, block) < (?, ?, ?)
       ORDER BY max_origin DESC, batch DESC, block DESC LIMIT ${PAGE_PIECES}`,
      { bigint: true },
    );
    const most = 2n ** 63n - 1n;
    let after: [bigint, bigint, bigint] = [most, most, most];
    for (;;) {
      const page = rows.all(edge, device, ...after);
      for (const { batch, block, min_origin, max_origin, readings, ahead_ns } of page) {
        yield {
          minOrigin: min_origin,
          maxOrigin: max_origin,
          count: resource === undefined ? Number(readings) : undefined,
          aheadNs: ahead_ns ?? 0n,
          open: () => [this.#blocksOf(Number(batch), resource)[Number(block)]],
        };
      }
      if (page.length < PAGE_PIECES) return;
      const last = page.at(-1)!;
      after = [last.max_origin, last.batch, last.block];
    }
  }

  /** Every batch of a node, in order of its sequences. */
  *batchesInOrder(edge: string): Generator<{ pipeline: string; blocks: Block[] }> {
    const page = this.#db.prepare<BatchRow, [string, string, number, number]>(
      `SELECT stream, epoch, sequence, pipeline, blocks FROM batch
       WHERE edge = ? AND (stream, epoch, sequence) > (?, ?, ?)
       ORDER BY stream, epoch, sequence LIMIT ${PAGE_BATCHES}`,
    );
    for (let after: [string, number, number] = ["", 0, 0]; ;) {
      const rows = page.all(edge, ...after);
      for (const { pipeline, blocks } of rows) yield { pipeline, blocks: decodeBlocks(blocks) };
      if (rows.length < PAGE_BATCHES) return;
      const { stream, epoch, sequence } = rows.at(-1)!;
      after = [stream, epoch, sequence];
    }
  }

  /** The batch that was kept last. */
  get last(): number {
    return this.#db.prepare<{ id: number }>("SELECT coalesce(max(id), 0) AS id FROM batch").get()!.id;
  }

  /**
   * Walks what was kept behind a batch of a block's device within its times: a block where it has events of the same source,
   * else undefined, so that a long walk can be interrupted.
   */
  *overlapping(edge: string, block: Block, after: number): Generator<Block | undefined> {
    const { publisher, series, sequences, origins } = block;
    const { min, max } = spanOf(origins);
    const rows = this.#db
      .prepare<{ batch: number; block: number }, [string, string, bigint, bigint, number]>(
        `SELECT batch, block FROM piece
         WHERE edge = ? AND device = ? AND max_origin >= ? AND min_origin <= ? AND batch > ? ORDER BY batch, block`,
      )
      .all(edge, series.deviceName, min, max, after);
    const bytesOf = this.#db.prepare<{ blocks: Uint8Array }, [number]>("SELECT blocks FROM batch WHERE id = ?");
    for (const row of rows) {
      const { blocks } = bytesOf.get(row.batch)!;
      const head = headOfBlocks(blocks)[row.block];
      const isSame =
        head.publisher.epoch === publisher.epoch &&
        head.publisher.name === publisher.name &&
        head.series.sourceName === series.sourceName &&
        head.lastSequence >= sequences[0] &&
        head.firstSequence <= sequences[sequences.length - 1];
      yield isSame ? decodeBlocks(blocks)[row.block] : undefined;
    }
  }

  #last: { readonly id: number; readonly resource: string | undefined; readonly blocks: Block[] } | undefined;

  /** The batch opened last is kept: the next piece is often in it too. */
  #blocksOf(id: number, resource: string | undefined): Block[] {
    if (this.#last?.id === id && this.#last.resource === resource) return this.#last.blocks;
    const row = this.#db.prepare<{ blocks: Uint8Array }, [number]>("SELECT blocks FROM batch WHERE id = ?").get(id)!;
    const blocks = decodeBlocks(row.blocks, resource === undefined ? undefined : ({ name }) => name === resource);
    this.#last = { id, resource, blocks };
    return blocks;
  }
}
