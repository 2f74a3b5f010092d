/** Files that are there whole or not at all, whenever the power goes. */
import { link, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

const MODE_PRIVATE = 0o600;

/** Replaces a file whole (0600): a reader, and a power cut, see the old bytes or the new ones. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const aside = await writeAside(path, bytes);
  await rename(aside, path);
  await syncDirectory(dirname(path));
}

/** Makes a file whole (0600), never over another: false when one is there already, which is then left as it is. */
export async function makeFile(path: string, bytes: Uint8Array): Promise<boolean> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const aside = await writeAside(path, bytes);
  try {
    // link, unlike rename, refuses to replace: two processes that start at once end with one key.
    await link(aside, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    await rm(aside, { force: true });
  }
  await syncDirectory(dirname(path));
  return true;
}

async function writeAside(path: string, bytes: Uint8Array): Promise<string> {
  // The process id keeps two writers apart; a leftover of a killed one is overwritten by the next with its id, or stays harmless.
  const aside = `${path}.new-${process.pid}`;
  await rm(aside, { force: true });
  const file = await open(aside, "wx", MODE_PRIVATE);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } catch (error) {
    await rm(aside, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  return aside;
}

/** Makes a rename or link itself survive a power cut. */
async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
