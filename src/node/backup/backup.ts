/** A backup of a stopped node: its whole state, sealed for the escrow key; and a node made of one, on this machine or another. */
import { createReadStream } from "node:fs";
import { mkdir, open, readdir, rename, rm, rmdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { code, Failure, fail } from "../../kernel/error.ts";
import { openKeyRing } from "../../kernel/seal/keyring.ts";
import { SEAL_ESCROW_MISSING } from "../../kernel/seal/codes.ts";
import { loadRing } from "../../kernel/seal/ring-file.ts";
import type { KeyProvider } from "../../kernel/seal/provider.ts";
import { ringDirectory } from "../keys/open.ts";
import { readFiles, writeFiles } from "./files.ts";
import { openStream, sealStream } from "./sealed-stream.ts";

export const NODE_BACKUP_UNWRITABLE = code(
  "NODE_BACKUP_UNWRITABLE",
  "full",
  "Choose a place with room for the whole state directory, and a file that is not there yet.",
);
export const NODE_RESTORE_IN_THE_WAY = code(
  "NODE_RESTORE_IN_THE_WAY",
  "conflict",
  "Move the state directory that is there away, or name another with --state.",
);

/** Writes a backup of a state directory that no node runs on; answers its bytes. SEAL_ESCROW_MISSING, NODE_BACKUP_UNWRITABLE. */
export async function backUp(statePath: string, to: string): Promise<number> {
  const ring = await loadRing(ringDirectory(statePath));
  if (!ring?.escrow) throw fail(SEAL_ESCROW_MISSING, `the keys of ${statePath} were never sealed for an escrow key`);
  let file;
  try {
    file = await open(to, "wx", 0o600);
  } catch (cause) {
    throw unwritable(to, cause);
  }
  let bytes = 0;
  try {
    for await (const part of sealStream(ring.escrow.publicKey, readFiles(statePath))) {
      await file.write(part);
      bytes += part.length;
    }
    await file.sync();
  } catch (cause) {
    // Half a backup is none, and would be taken for one.
    await rm(to, { force: true });
    throw cause instanceof Failure ? cause : unwritable(to, cause);
  } finally {
    await file.close();
  }
  return bytes;
}

const unwritable = (to: string, cause: unknown): Failure =>
  fail(NODE_BACKUP_UNWRITABLE, `the backup ${to} cannot be written (${(cause as NodeJS.ErrnoException).code})`, {
    cause,
  });

export interface RestoreOptions {
  readonly from: string;
  /** The escrow key's private half, PEM. */
  readonly escrowKey: string;
  /** Not there yet, or empty. */
  readonly statePath: string;
  /** Seals the keys on this machine. */
  readonly provider: KeyProvider;
}

/** Makes a state directory of a backup, whole or not at all; answers the number of files. NODE_RESTORE_IN_THE_WAY, NODE_BACKUP_DAMAGED, SEAL_ESCROW_KEY_WRONG. */
export async function restore({ from, escrowKey, statePath, provider }: RestoreOptions): Promise<number> {
  const there = await readdir(statePath).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (there && there.length > 0)
    throw fail(
      NODE_RESTORE_IN_THE_WAY,
      `the state directory ${statePath} is not empty, and nothing of it is overwritten`,
    );
  const aside = join(dirname(statePath), `.${basename(statePath)}.restoring-${process.pid}`);
  await mkdir(dirname(statePath), { recursive: true });
  await mkdir(aside, { mode: 0o700 });
  try {
    const files = await writeFiles(aside, openStream(escrowKey, createReadStream(from)));
    const ring = await openKeyRing({ directory: ringDirectory(aside), stateDirectory: statePath, provider, escrowKey });
    ring.zero();
    if (there) await rmdir(statePath);
    await rename(aside, statePath);
    return files;
  } catch (error) {
    await rm(aside, { recursive: true, force: true });
    throw error;
  }
}
