/** What can go wrong with a database, in the house's words. */
import { writeFileSync } from "node:fs";
import type { SqliteError } from "better-sqlite3-multiple-ciphers";
import { code, Failure, fail } from "./error.ts";

export const DATABASE_KEY_WRONG = code(
  "DATABASE_KEY_WRONG",
  "internal",
  "Restore the key ring and the database from the same backup; nothing was changed.",
);
export const DATABASE_NEWER = code(
  "DATABASE_NEWER",
  "conflict",
  "Start the newer version of Holdfast that wrote this state; nothing was changed.",
);
export const DATABASE_DAMAGED = code(
  "DATABASE_DAMAGED",
  "internal",
  "Restart the service: it moves the damaged file aside and starts a fresh one by itself.",
);
export const DATABASE_DISK_FULL = code(
  "DATABASE_DISK_FULL",
  "full",
  "Free some space on the disk; the change was not made and can be repeated.",
);
export const DATABASE_READ_ONLY = code(
  "DATABASE_READ_ONLY",
  "full",
  "Let the service's user write to the state directory, and see whether the disk was remounted read-only.",
);
export const DATABASE_BUSY = code(
  "DATABASE_BUSY",
  "unavailable",
  "Try again; if it stays, another process holds the database.",
);
export const DATABASE_IO = code("DATABASE_IO", "internal", "Look at the kernel's log: the disk may be failing.");

/** What a service says of its health while its database is a fresh one in place of a damaged one; `costs` tells what that means here. */
export const healthAfterDamage = (replaced: { readonly movedTo: string } | undefined, costs: string): Health =>
  replaced
    ? { state: "warning", reason: `its damaged database was moved to ${replaced.movedTo}; ${costs}` }
    : { state: "passing" };
type Health = { readonly state: "passing" | "warning"; readonly reason?: string };

/** The file beside a database whose presence makes the next open look at every page. */
export const suspicion = (path: string): string => `${path}.suspect`;

/** As `translate`, and remembers damage beside the file, so that the next open looks at every page. */
export function suspected(error: unknown, path: string): unknown {
  const failure = translate(error, path);
  if (failure === error || !(failure instanceof Failure) || failure.code !== DATABASE_DAMAGED.code) return failure;
  try {
    writeFileSync(suspicion(path), failure.message, { mode: 0o600 });
  } catch (cause) {
    return fail(DATABASE_DAMAGED, `${failure.message}; and ${suspicion(path)} could not be written`, { cause });
  }
  return failure;
}

/** Turns what SQLite or the file system threw into a Failure, where it is the disk's fault and not the statement's. */
export function translate(error: unknown, path: string): unknown {
  if (error instanceof Failure || !(error instanceof Error)) return error;
  const reason = (error as SqliteError | NodeJS.ErrnoException).code ?? "";
  const made = (kind: Parameters<typeof fail>[0], words: string): Failure =>
    fail(kind, `${path} ${words} (${reason})`, { cause: error });
  // SHMSIZE: the log's index could not grow.
  if (/^(SQLITE_FULL|SQLITE_IOERR_SHMSIZE|ENOSPC|EDQUOT)/.test(reason))
    return made(DATABASE_DISK_FULL, "cannot grow: the disk is full");
  // ENOENT: Node's answer to making a directory, with those above it, on a read-only disk.
  if (/^(SQLITE_READONLY|SQLITE_CANTOPEN|SQLITE_PERM|EACCES|EPERM|EROFS|ENOENT)/.test(reason))
    return made(DATABASE_READ_ONLY, "cannot be opened or written");
  if (/^(SQLITE_CORRUPT|SQLITE_NOTADB)/.test(reason)) return made(DATABASE_DAMAGED, `is damaged: ${error.message}`);
  if (/^(SQLITE_BUSY|SQLITE_LOCKED)/.test(reason)) return made(DATABASE_BUSY, "is held by another process");
  if (/^SQLITE_IOERR|^EIO/.test(reason)) return made(DATABASE_IO, "cannot be read or written");
  return error;
}
