/** The files of a state directory as one stream, and back. What the machine makes anew (sockets, locks) is left out. */
import { createReadStream } from "node:fs";
import { chmod, mkdir, open, readdir, stat } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fail } from "../../kernel/error.ts";
import { NODE_BACKUP_DAMAGED, Pieces } from "./sealed-stream.ts";

interface Entry {
  readonly path: string;
  readonly mode: number;
  /** Undefined: a directory. */
  readonly bytes?: number;
}

/** Paths in a state directory are short; a longer head is none. */
const HEAD_BYTES_MAX = 65_536;
const COPY_BYTES = 1024 * 1024;
const LEFT_OUT: ReadonlySet<string> = new Set(["lock"]);

/** Reads all files and directories below a directory, as a stream of heads and contents. */
export async function* readFiles(directory: string): AsyncGenerator<Buffer> {
  const found = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = found
    .filter((one) => (one.isFile() || one.isDirectory()) && !LEFT_OUT.has(one.name))
    .map((one) => ({ path: join(one.parentPath, one.name), isFile: one.isFile() }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const { path, isFile } of paths) {
    const { mode, size } = await stat(path);
    const entry: Entry = {
      path: relative(directory, path),
      mode: mode & 0o777,
      ...(isFile ? { bytes: size } : {}),
    };
    yield headOf(entry);
    if (isFile && size > 0)
      yield* createReadStream(path, { end: size - 1, highWaterMark: COPY_BYTES }) as AsyncIterable<Buffer>;
  }
}

function headOf(entry: Entry): Buffer {
  const text = Buffer.from(JSON.stringify(entry));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, text]);
}

/** Writes the files of such a stream below a directory, each on the disk when this resolves; answers how many. NODE_BACKUP_DAMAGED. */
export async function writeFiles(directory: string, parts: AsyncIterable<Uint8Array>): Promise<number> {
  const pieces = new Pieces(parts);
  let files = 0;
  for (;;) {
    const length = await pieces.take(4);
    if (!length) return files;
    const bytes = length.readUInt32BE();
    if (bytes > HEAD_BYTES_MAX) throw fail(NODE_BACKUP_DAMAGED, `a name in the backup has ${bytes} bytes`);
    const entry = JSON.parse((await pieces.need(bytes)).toString("utf8")) as Entry;
    await write(directory, entry, pieces);
    files += entry.bytes === undefined ? 0 : 1;
  }
}

async function write(directory: string, { path, mode, bytes }: Entry, pieces: Pieces): Promise<void> {
  const to = join(directory, path);
  if (relative(directory, to).startsWith("..")) throw fail(NODE_BACKUP_DAMAGED, `'${path}' leads out of the backup`);
  if (bytes === undefined) {
    await mkdir(to, { recursive: true });
    await chmod(to, mode);
    return;
  }
  await mkdir(dirname(to), { recursive: true });
  const file = await open(to, "wx", mode);
  try {
    for (let left = bytes; left > 0;) {
      const part = await pieces.need(Math.min(left, COPY_BYTES));
      await file.write(part);
      left -= part.length;
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
