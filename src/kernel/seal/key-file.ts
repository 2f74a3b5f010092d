/** The key file provider: the node starts by itself after a power cut, and a stolen disk that carries the file is open. */
import { randomBytes } from "node:crypto";
import { open } from "node:fs/promises";
import { resolve } from "node:path";
import { Failure, fail } from "../error.ts";
import { KEY_BYTES, openBytes, sealBytes } from "./bytes.ts";
import {
  SEAL_BYTES_REFUSED,
  SEAL_KEY_FILE_DAMAGED,
  SEAL_KEY_FILE_MISSING,
  SEAL_KEY_FILE_PERMISSIONS,
  SEAL_KEY_FILE_UNWRITABLE,
  SEAL_KEY_FILE_WRONG,
} from "./codes.ts";
import { makeFile } from "./durable-file.ts";
import type { KeyProvider } from "./provider.ts";

const PURPOSE = "holdfast key-encryption key in a key file";

/**
 * Makes the provider for a key file: 32 random bytes, 0600, made when something is sealed for the first time and never again.
 * SEAL_KEY_FILE_MISSING, SEAL_KEY_FILE_PERMISSIONS, SEAL_KEY_FILE_WRONG, SEAL_KEY_FILE_DAMAGED, SEAL_KEY_FILE_UNWRITABLE.
 */
export function keyFileProvider(options: { path: string }): KeyProvider {
  const path = resolve(options.path);
  return {
    name: "key-file",
    promise:
      "protects nothing against theft of the disk when the key file is on it; it protects backups and copies of the state directory, and a disk that is thrown away without the key file",
    keptAt: path,
    async wrap(key) {
      const fileKey = (await readKey(path)) ?? (await makeKey(path));
      const blob = sealBytes(fileKey, key, PURPOSE);
      fileKey.fill(0);
      return blob;
    },
    async unwrap(blob) {
      const fileKey = await readKey(path);
      if (!fileKey) {
        throw fail(
          SEAL_KEY_FILE_MISSING,
          `the key file ${path} is not there: everything in the state directory is encrypted with it and cannot be read by anybody without it`,
        );
      }
      try {
        return openBytes(fileKey, blob, PURPOSE);
      } catch (error) {
        if (!(error instanceof Failure) || error.code !== SEAL_BYTES_REFUSED.code) throw error;
        throw fail(
          SEAL_KEY_FILE_WRONG,
          `the key file ${path} is not the one that this node's key ring was sealed with`,
          { cause: error },
        );
      } finally {
        fileKey.fill(0);
      }
    },
  };
}

async function makeKey(path: string): Promise<Buffer> {
  try {
    await makeFile(path, randomBytes(KEY_BYTES));
  } catch (cause) {
    throw fail(
      SEAL_KEY_FILE_UNWRITABLE,
      `the key file ${path} cannot be made (${(cause as NodeJS.ErrnoException).code ?? "unknown"})`,
      { cause },
    );
  }
  // Read back rather than trusted: where two processes made one at once, the file that is there is the key.
  const made = await readKey(path);
  if (!made) throw fail(SEAL_KEY_FILE_MISSING, `the key file ${path} vanished while it was made`);
  return made;
}

async function readKey(path: string): Promise<Buffer | undefined> {
  let file;
  try {
    file = await open(path, "r");
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    if (reason === "ENOENT") return undefined;
    if (reason === "EACCES")
      throw fail(SEAL_KEY_FILE_PERMISSIONS, `the key file ${path} cannot be read: run 'chown ${owner()} ${path}'`, {
        cause: error,
      });
    throw error;
  }
  try {
    // Asked of the open file, not of the name, so that what is checked is what is read.
    const at = await file.stat();
    if (!at.isFile()) throw fail(SEAL_KEY_FILE_DAMAGED, `the key file ${path} is not a plain file`);
    if (at.uid !== owner())
      throw fail(
        SEAL_KEY_FILE_PERMISSIONS,
        `the key file ${path} belongs to uid ${at.uid}: run 'chown ${owner()} ${path}'`,
      );
    if ((at.mode & 0o177) !== 0) {
      throw fail(
        SEAL_KEY_FILE_PERMISSIONS,
        `the key file ${path} has mode 0${(at.mode & 0o777).toString(8)}, wider than 0600: run 'chmod 600 ${path}'`,
      );
    }
    if (at.size !== KEY_BYTES)
      throw fail(SEAL_KEY_FILE_DAMAGED, `the key file ${path} has ${at.size} bytes instead of ${KEY_BYTES}`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

const owner = (): number => process.geteuid?.() ?? 0;
