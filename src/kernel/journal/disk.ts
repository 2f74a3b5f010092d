import * as fs from "node:fs";
import { dirname } from "node:path";

/** The unit in which a disk fails: what cannot be read is given up in pieces of this size. */
const PAGE_BYTES = 4096;

/** Tells the errno name of whatever was caught ("ENOSPC"), or "" where there is none. */
export const errnoOf = (caught: unknown): string =>
  caught instanceof Error && "code" in caught && typeof caught.code === "string" ? caught.code : "";

/** True where there is no room for it: on the disk, or for this user. */
export const isDiskFull = (caught: unknown): boolean => ["ENOSPC", "EDQUOT"].includes(errnoOf(caught));

// The callback API rather than FileHandle: one allocation less per call, and no handle that a garbage collection may close.

/** Opens a file and answers its descriptor. */
export const open = (path: string, flags: string | number, mode = 0o600): Promise<number> =>
  new Promise((resolve, reject) => fs.open(path, flags, mode, (error, fd) => (error ? reject(error) : resolve(fd))));

/** Closes a descriptor; an error here has no consequence, since everything that matters was synced before. */
export const close = (fd: number): Promise<void> => new Promise((resolve) => fs.close(fd, () => resolve()));

/** Cuts (or extends with zeros) a file to so many bytes. */
export const truncate = (fd: number, bytes: number): Promise<void> =>
  new Promise((resolve, reject) => fs.ftruncate(fd, bytes, (error) => (error ? reject(error) : resolve())));

/** Waits until the file's data, and the metadata needed to find them, are on the disk. */
export const sync = (fd: number): Promise<void> =>
  new Promise((resolve, reject) => fs.fdatasync(fd, (error) => (error ? reject(error) : resolve())));

/** Makes new, renamed and removed names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const fd = await open(path, "r");
  try {
    await new Promise<void>((resolve, reject) => fs.fsync(fd, (error) => (error ? reject(error) : resolve())));
  } finally {
    await close(fd);
  }
}

const readOnce = (fd: number, into: Uint8Array, from: number, bytes: number, offset: number): Promise<number> =>
  new Promise((resolve, reject) =>
    fs.read(fd, into, from, bytes, offset, (error, got) => (error ? reject(error) : resolve(got))),
  );

/**
 * Fills `into` from `offset` on and answers the bytes read, fewer only at the end of the file. Pages that the disk
 * refuses to give (EIO) come back as zeros, so that one bad sector is a damaged block and not a journal that cannot be read.
 */
export async function readAt(fd: number, into: Uint8Array, offset: number): Promise<number> {
  let done = 0;
  let stepBytes = into.byteLength;
  while (done < into.byteLength) {
    const bytes = Math.min(stepBytes, into.byteLength - done);
    let got: number;
    try {
      got = await readOnce(fd, into, done, bytes, offset + done);
    } catch (caught) {
      if (errnoOf(caught) !== "EIO") throw caught;
      if (bytes > PAGE_BYTES) {
        stepBytes = PAGE_BYTES;
        continue;
      }
      into.fill(0, done, done + bytes);
      got = bytes;
    }
    if (got === 0) break;
    done += got;
  }
  return done;
}

/** Writes all buffers in a row from `offset` on; a short write is continued, so that its cause comes out as the error. */
export async function writeAt(fd: number, buffers: readonly Uint8Array[], offset: number): Promise<void> {
  let rest: readonly Uint8Array[] = buffers;
  let at = offset;
  while (rest.length > 0) {
    // IOV_MAX is 1024 on Linux: a longer list would be refused as a whole.
    const now = rest.slice(0, 1024);
    let written = await new Promise<number>((resolve, reject) =>
      fs.writev(fd, now, at, (error, bytes) => (error ? reject(error) : resolve(bytes))),
    );
    at += written;
    let whole = 0;
    while (whole < now.length && written >= (now[whole]?.byteLength ?? 0)) written -= now[whole++]?.byteLength ?? 0;
    const torn = now[whole];
    rest = torn ? [torn.subarray(written), ...rest.slice(whole + 1)] : rest.slice(now.length);
  }
}

/** Tells how long a file is. */
export const statBytes = (fd: number): Promise<number> =>
  new Promise((resolve, reject) => fs.fstat(fd, (error, stats) => (error ? reject(error) : resolve(stats.size))));

/** Makes a directory (0700) and those above it, durably. (mkdir's own `recursive` never returns where the kernel answers ENOENT, as below /proc.) */
export async function makeDirectory(path: string): Promise<void> {
  try {
    fs.mkdirSync(path, { mode: 0o700 });
  } catch (caught) {
    if (errnoOf(caught) === "EEXIST") return;
    if (errnoOf(caught) !== "ENOENT" || dirname(path) === path) throw caught;
    await makeDirectory(dirname(path));
    fs.mkdirSync(path, { mode: 0o700 });
  }
  await syncDirectory(dirname(path));
}
