/** Gives files of a directory: by ETag and range, compressed where that helps, never from outside of it. */
import { constants, type Stats } from "node:fs";
import { type FileHandle, open, realpath } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants as zlib, gzip } from "node:zlib";
import { fail } from "../../../kernel/error.ts";
import {
  type FilesSettings,
  GATEWAY_CONDITION_FAILED,
  GATEWAY_FILE_UNKNOWN,
  GATEWAY_RANGE_REFUSED,
} from "../static.api.ts";
import { Said } from "../headers.ts";
import { Answer } from "../upstream/answer.ts";
import type { Handler, Reply, Visit } from "../visit.ts";
import { judge, type Range, readRange } from "./conditions.ts";
import { encodingOf } from "./encoding.ts";

/** Up to this a file is read at once, and compressed. */
const WHOLE_BYTES_MAX = 1_048_576;
/** Compressed files that are kept, in bytes; above it the one longest unused goes. */
const KEPT_BYTES_MAX = 16_777_216;
/** Shorter ones gain nothing. */
const COMPRESSED_BYTES_MIN = 512;

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".txt": "text/plain; charset=utf-8",
  ".md": "text/markdown; charset=utf-8",
  ".csv": "text/csv; charset=utf-8",
  ".xml": "application/xml",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".jpg": "image/jpeg",
  ".jpeg": "image/jpeg",
  ".gif": "image/gif",
  ".webp": "image/webp",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
  ".wasm": "application/wasm",
  ".pdf": "application/pdf",
};
const COMPRESSIBLE = /^(text\/|application\/(json|xml|wasm)|image\/svg)/;
const PAGE_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/** Makes the handler; `root` is the directory that all directories of files are in, `depth` the segments before the file's. */
export function files(settings: FilesSettings, { root, depth }: { root: string; depth: number }): Handler {
  const kept = new Kept();
  return async (visit) => {
    const path = pathOf(visit.target!.segments.slice(depth), settings.index);
    const file = path && (await openWithin(join(root, settings.directory), path));
    if (!file) throw fail(GATEWAY_FILE_UNKNOWN, `there is no file ${visit.target!.path.slice(0, 200)}`);
    try {
      return await give(settings, kept, visit, file);
    } finally {
      // A file that is being streamed is closed by its stream.
      if (!file.streaming) await file.handle.close();
    }
  };
}

interface Opened {
  readonly handle: FileHandle;
  readonly path: string;
  readonly stats: Stats;
  streaming: boolean;
}

/** A name that begins with a dot is hidden; a slash, a backslash or a NUL within a segment is no file's. */
function pathOf(segments: readonly string[], index: string): string | undefined {
  const names = segments.at(-1) === "" || segments.length === 0 ? [...segments.slice(0, -1), index] : segments;
  return names.every((name) => name !== "" && !name.startsWith(".") && !/[/\\\0]/.test(name))
    ? names.join("/")
    : undefined;
}

/** Opens what is a file and, whatever links there are, within the directory. */
async function openWithin(directory: string, path: string): Promise<Opened | undefined> {
  try {
    const within = await realpath(directory);
    const real = await realpath(join(within, path));
    if (!real.startsWith(within + sep)) return undefined;
    const handle = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stats = await handle.stat();
    if (stats.isFile()) return { handle, path: real, stats, streaming: false };
    await handle.close();
  } catch (error) {
    // Not there, no directory on the way, not ours to read: it is no file to whoever asks.
    const { code } = error as NodeJS.ErrnoException;
    if (!["ENOENT", "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG", "ENXIO"].includes(code ?? "")) throw error;
  }
  return undefined;
}

async function give(settings: FilesSettings, kept: Kept, visit: Visit, file: Opened): Promise<Reply> {
  const { size, mtimeMs } = file.stats;
  const type = TYPES[extname(file.path).toLowerCase()] ?? "application/octet-stream";
  const squeezable = COMPRESSIBLE.test(type) && size >= COMPRESSED_BYTES_MIN && size <= WHOLE_BYTES_MAX;
  // A range is one of the file as it is.
  const ranged = visit.header("range");
  const encoding = squeezable && ranged === undefined ? encodingOf(visit.header("accept-encoding")) : "identity";
  const tag = `${size.toString(36)}-${Math.round(mtimeMs * 1000).toString(36)}`;
  const etag = encoding === "identity" ? `"${tag}"` : `"${tag}-${encoding}"`;
  const validators = { etag, modifiedMs: mtimeMs };
  const headers = headersOf(settings, type, validators, squeezable);
  const judgement = judge(
    {
      ifMatch: visit.header("if-match"),
      ifNoneMatch: visit.header("if-none-match"),
      ifModifiedSince: visit.header("if-modified-since"),
      ifUnmodifiedSince: visit.header("if-unmodified-since"),
    },
    validators,
  );
  if (judgement === "failed") throw fail(GATEWAY_CONDITION_FAILED, "the file is not the one that the request names");
  if (judgement === "not-modified") return { status: 304, headers, body: undefined };
  if (encoding !== "identity") {
    const body = await kept.of(`${file.path} ${etag}`, async () => compress(await file.handle.readFile(), encoding));
    return whole(visit, [...headers, "Content-Encoding", encoding], body);
  }
  const range = visit.method === "GET" ? readRange(ranged, visit.header("if-range"), size, validators) : undefined;
  if (range === "refused") {
    visit.extra.push("Content-Range", `bytes */${size}`);
    throw fail(GATEWAY_RANGE_REFUSED, `the file has ${size} bytes`);
  }
  return part(visit, file, headers, range);
}

function headersOf(
  { maxAgeS, contentSecurityPolicy }: FilesSettings,
  type: string,
  { etag, modifiedMs }: { etag: string; modifiedMs: number },
  varies: boolean,
): string[] {
  return [
    "Content-Type",
    type,
    "ETag",
    etag,
    "Last-Modified",
    new Date(modifiedMs).toUTCString(),
    "Cache-Control",
    maxAgeS === 0 ? "no-cache" : `public, max-age=${maxAgeS}`,
    "Accept-Ranges",
    "bytes",
    ...(varies ? ["Vary", "Accept-Encoding"] : []),
    // A picture is a page of its own where it is opened by itself.
    ...(type.startsWith("text/html") || type.startsWith("image/svg")
      ? ["Content-Security-Policy", contentSecurityPolicy ?? PAGE_POLICY]
      : []),
  ];
}

const whole = (visit: Visit, headers: string[], body: Buffer): Reply => ({
  status: 200,
  headers: [...headers, "Content-Length", String(body.length)],
  body: visit.method === "HEAD" ? undefined : body,
});

/** Gives the file or a range of it: what is large as it is read. */
function part(visit: Visit, file: Opened, headers: string[], range: Range | undefined): Reply {
  const { size } = file.stats;
  const { from, to } = range ?? { from: 0, to: size - 1 };
  const length = to - from + 1;
  const status = range ? 206 : 200;
  const all = [
    ...headers,
    ...(range ? ["Content-Range", `bytes ${from}-${to}/${size}`] : []),
    "Content-Length",
    String(length),
  ];
  if (visit.method === "HEAD" || length === 0) return { status, headers: all, body: undefined };
  file.streaming = true;
  const stream = file.handle.createReadStream({ start: from, end: to });
  const body = new Answer(status, new Said(all), length, {
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    cut: () => void stream.destroy(),
  });
  let left = length;
  stream.on("data", (chunk: Buffer | string) => {
    left -= chunk.length;
    body.push(chunk as Buffer);
  });
  // A file that became shorter meanwhile has a length that was promised and does not come.
  stream.on("end", () => (left === 0 ? body.finish() : body.break(new Error("the file became shorter"))));
  stream.on("error", (error) => body.break(error));
  // A client that hangs up half-way leaves no file open.
  return { status, headers: all, body, done: () => void stream.destroy() };
}

const squeezeBrotli = promisify(brotliCompress);
const squeezeGzip = promisify<Buffer, Buffer>(gzip);
const compress = (bytes: Buffer, encoding: "br" | "gzip"): Promise<Buffer> =>
  encoding === "br"
    ? squeezeBrotli(bytes, { params: { [zlib.BROTLI_PARAM_QUALITY]: 5, [zlib.BROTLI_PARAM_SIZE_HINT]: bytes.length } })
    : squeezeGzip(bytes);

/** Compressed files, by path and ETag: made once, however many ask at the same time. */
class Kept {
  readonly #made = new Map<string, Promise<Buffer>>();
  #bytes = 0;

  async of(key: string, make: () => Promise<Buffer>): Promise<Buffer> {
    const known = this.#made.get(key);
    if (known) {
      this.#made.delete(key);
      this.#made.set(key, known);
      return known;
    }
    const making = make();
    this.#made.set(key, making);
    try {
      this.#bytes += (await making).length;
    } catch (error) {
      this.#made.delete(key);
      throw error;
    }
    for (const [oldest, former] of this.#made) {
      if (this.#bytes <= KEPT_BYTES_MAX) break;
      this.#made.delete(oldest);
      this.#bytes -= (await former).length;
    }
    return making;
  }
}
