/** Makes an answer of a kept one: all of it, the range that was asked for, or that the client has it already. */
import type { Reply, Visit } from "../visit.ts";
import { type Asked, hasIt, rangeOf } from "./asked.ts";
import type { Entry } from "./entry.ts";

/** RFC 9110 15.4.5: what 304 says beside that nothing has changed. */
const OF_304: ReadonlySet<string> = new Set([
  "cache-control",
  "content-location",
  "date",
  "etag",
  "expires",
  "last-modified",
  "vary",
]);

export interface Served {
  readonly visit: Visit;
  readonly asked: Asked;
  /** Monotonic, and as the clock on the wall says. */
  readonly nowMs: number;
  readonly wallMs: number;
  /** RFC 9211. */
  readonly status: string;
  /** Others may keep it, too. */
  readonly kept: boolean;
}

/** Makes it, with Age and Cache-Status. */
export function serve(entry: Entry, { visit, asked, nowMs, wallMs, status, kept }: Served): Reply {
  const told = ["Age", String(Math.max(0, Math.floor(entry.ageMs(nowMs) / 1_000))), "Cache-Status", status];
  const conditional = asked.ifNoneMatch !== undefined || asked.ifModifiedSince !== undefined;
  if (conditional && hasIt(asked, entry, wallMs))
    return { status: 304, headers: [...only(entry.headers, OF_304), ...told], body: undefined, kept };
  const range = asked.range === undefined || visit.method !== "GET" ? undefined : rangeOf(asked, entry);
  if (range === undefined) {
    const said = entry.said.and(told);
    return { status: entry.status, headers: said.headers, said, body: entry.body, kept };
  }
  const rest = without(entry.headers, "content-length");
  const size = entry.body.length;
  if (range === false) {
    const headers = [...rest, ...told, "Content-Range", `bytes */${size}`, "Content-Length", "0"];
    return { status: 416, headers, body: undefined, kept };
  }
  const body = entry.body.subarray(range.from, range.to + 1);
  const place = ["Content-Range", `bytes ${range.from}-${range.to}/${size}`, "Content-Length", String(body.length)];
  return { status: 206, headers: [...rest, ...told, ...place], body, kept };
}

const without = (headers: readonly string[], name: string): string[] =>
  headers.filter((_, i) => headers[i - (i % 2)].toLowerCase() !== name);
const only = (headers: readonly string[], names: ReadonlySet<string>): string[] =>
  headers.filter((_, i) => names.has(headers[i - (i % 2)].toLowerCase()));
