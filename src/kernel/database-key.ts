/** The key of a database: which of several it is under, and how it is brought under the newest. */
import { closeSync, copyFileSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import Native from "better-sqlite3-multiple-ciphers";
import { keyFits, keyMark, sizeOf } from "./database-file.ts";

/** Writing a database anew takes 10 to 25 ms a MiB, at the start of its service, and as much room once more. */
const REKEYED_BYTES_MAX = 64 * 1024 * 1024;

/** Hands over a raw key: it needs no derivation, so the salt in front of the file is free to tell later whose key it was made with. */
export function withSecret(key: Uint8Array, use: (secret: Buffer) => void): void {
  const secret = Buffer.from(`raw:${Buffer.from(key).toString("hex")}${keyMark(key).toString("hex")}`, "latin1");
  use(secret);
  secret.fill(0);
}

/** Answers the key that the file is under; for a new one, or one that is under none of them, the newest. */
export const keyOf = (path: string, keys: readonly Uint8Array[]): Uint8Array =>
  keys.find((one) => keyFits(path, one) === "own") ?? (keys.at(-1) as Uint8Array);

/**
 * Writes a database under an older key anew under the newest, beside it, and puts that in its place: a cut in between leaves
 * the one under the old key. One that is too large, or cannot be copied, stays as it is, and that is said.
 */
export function bringUnderNewest(
  path: string,
  keys: readonly Uint8Array[],
  log: { warn(fields: object, message: string): void } | undefined,
): void {
  const aside = `${path}.rekeyed`;
  rmSync(aside, { force: true });
  const [key, newest] = [keyOf(path, keys), keys.at(-1) as Uint8Array];
  if (key === newest || sizeOf(path) === 0) return;
  const bytes = sizeOf(path) + sizeOf(`${path}-wal`);
  try {
    if (bytes > REKEYED_BYTES_MAX) throw new RangeError(`it has ${bytes} bytes, above ${REKEYED_BYTES_MAX}`);
    // The log belongs to the file and is under its key: nothing of it may be left.
    opened(path, key, (native) => native.pragma("wal_checkpoint(TRUNCATE)"));
    copyFileSync(path, aside);
    opened(aside, key, (native) => {
      native.pragma("journal_mode = DELETE");
      withSecret(newest, (secret) => native.rekey(secret));
    });
    synced(aside);
    renameSync(aside, path);
    synced(dirname(path));
  } catch (error) {
    rmSync(aside, { force: true });
    log?.warn({ err: error, path }, "a database stays under the key it has: it could not be written anew");
  }
}

function opened(path: string, key: Uint8Array, work: (native: Native) => void): void {
  const native = new Native(path);
  try {
    native.pragma("cipher = 'chacha20'");
    withSecret(key, (secret) => native.key(secret));
    work(native);
  } finally {
    native.close();
  }
}

function synced(path: string): void {
  const fd = openSync(path, "r");
  fsyncSync(fd);
  closeSync(fd);
}
