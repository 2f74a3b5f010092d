/** The table on disk, sealed: a process that starts while the registry is away knows who was where a moment ago. */
import { readFileSync, statSync } from "node:fs";
import { decodeCbor, encodeCbor } from "../../kernel/cbor.ts";
import { asFailure } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import { openBytes, sealBytes } from "../../kernel/seal/bytes.ts";
import { replaceFile } from "../../kernel/seal/durable-file.ts";
import type { Instance } from "./api.ts";
import type { Table } from "./table.ts";

/** Changes within this are written together: a rolling restart is not a write for each step. */
const WRITE_EVERY_MS = 1_000;
/** A larger table is not kept: a node's has some tens of kilobytes. */
const FILE_BYTES_MAX = 8 * 1024 * 1024;
const PURPOSE = "registry table";

export interface TableFileOptions {
  readonly path: string;
  /** 32 bytes. */
  readonly key: Uint8Array;
  /** The start of this machine: instances of an earlier one are dead. */
  readonly boot: string;
  readonly log: Log;
}

interface Kept {
  readonly revision: number;
  readonly instances: readonly Instance[];
}

/** Fills a table from the file, unconfirmed, and keeps the file like the table from then on; the result stops that. */
export function keepTable(table: Table, options: TableFileOptions): () => void {
  const { path, key, boot, log } = options;
  const kept = readKept(options);
  const alive = kept?.instances.filter((i) => i.boot === boot) ?? [];
  // Where some are left out the table is not that of the revision: it begins anew.
  if (kept) table.recall(alive.length === kept.instances.length ? kept.revision : 0, alive);
  let timer: NodeJS.Timeout | undefined;
  let writing = Promise.resolve();
  const write = async () => {
    timer = undefined;
    const { revision } = table;
    const sealed = sealBytes(key, encodeCbor({ revision, instances: table.instances() }), PURPOSE);
    // A disk that is full costs the next start a moment, and nothing now.
    if (sealed.length <= FILE_BYTES_MAX)
      await replaceFile(path, sealed).catch((error: unknown) => log.debug({ err: error }, "the table was not kept"));
  };
  const stop = table.onChange(() => {
    timer ??= setTimeout(() => void (writing = writing.then(write)), WRITE_EVERY_MS).unref();
  });
  return () => {
    clearTimeout(timer);
    stop();
  };
}

/** Reads what was kept; undefined where there is nothing, or where it is not whole. */
function readKept({ path, key, log }: TableFileOptions): Kept | undefined {
  const sizeBytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (sizeBytes === 0 || sizeBytes > FILE_BYTES_MAX) return undefined;
  try {
    return decodeCbor(openBytes(key, readFileSync(path), PURPOSE), { bytesMax: FILE_BYTES_MAX }) as Kept;
  } catch (error) {
    log.info({ code: asFailure(error).code }, "the table that was kept cannot be read; the registry will tell");
    return undefined;
  }
}
