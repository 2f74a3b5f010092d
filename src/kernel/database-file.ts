/** The file of a database: made private, told from a stranger's, moved aside when damaged. */
import { createHmac } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { suspicion, translate } from "./database-errors.ts";

const DAMAGED_KEPT_MAX = 3;

/** Makes directory and file as their owner's alone: SQLite gives the log and its index the mode of the database. */
export function prepareFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  closeSync(openSync(path, "a", 0o600));
}

export const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** 16 bytes that tell whether a key is the one of a file, and nothing about the key. */
export const keyMark = (key: Uint8Array): Buffer =>
  createHmac("sha256", key).update("holdfast database").digest().subarray(0, 16);

/** A wrong key and a damaged first page are the same error to SQLite; the mark and the plain part of the header tell them apart. */
export function keyFits(path: string, key: Uint8Array): "own" | "other" | "unknown" {
  const head = Buffer.alloc(24);
  const file = openSync(path, "r");
  try {
    readSync(file, head, 0, head.length, 0);
  } finally {
    closeSync(file);
  }
  if (head.subarray(0, 16).equals(keyMark(key))) return "own";
  // The SQLite file format, 1.3: page size 4096 at 16; payload fractions 64, 32, 32 at 21.
  const header = head.readUInt16BE(16) === 4096 && head[21] === 64 && head[22] === 32 && head[23] === 32;
  return header ? "other" : "unknown";
}

/** Moves a damaged database aside under the next free number, and lets the oldest go. */
export function moveAside(path: string): string {
  const prefix = `${basename(path)}.damaged-`;
  const numbers = readdirSync(dirname(path))
    .map((name) => (name.startsWith(prefix) ? Number(name.slice(prefix.length)) : Number.NaN))
    .filter(Number.isInteger)
    .sort((a, b) => a - b);
  const movedTo = `${path}.damaged-${(numbers.at(-1) ?? 0) + 1}`;
  try {
    for (const old of numbers.slice(0, Math.max(0, numbers.length + 1 - DAMAGED_KEPT_MAX))) {
      for (const end of ["", "-wal"]) rmSync(join(dirname(path), `${prefix}${old}${end}`), { force: true });
    }
    // The log first: a fresh database must never find the old one's.
    if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${movedTo}-wal`);
    rmSync(`${path}-shm`, { force: true });
    rmSync(suspicion(path), { force: true });
    renameSync(path, movedTo);
  } catch (error) {
    throw translate(error, path);
  }
  return movedTo;
}
