/** What a request says that matters to a cache, read in one go over its headers. */
import type { Visit } from "../visit.ts";
import { type Directives, readDate, readDirectives } from "./directives.ts";
import { type Entry, fieldOf } from "./entry.ts";

export interface Asked {
  readonly directives: Directives;
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
  readonly ifNoneMatch: string | undefined;
  readonly ifModifiedSince: string | undefined;
  /** If-Match and If-Unmodified-Since: for the service alone to judge. */
  readonly precondition: boolean;
}

/** As if nothing were said: what the gateway asks for itself. */
export const NOTHING_ASKED: Asked = {
  directives: new Map(),
  range: undefined,
  ifRange: undefined,
  ifNoneMatch: undefined,
  ifModifiedSince: undefined,
  precondition: false,
};

/** By the lines of a request: clients say the same again and again. */
const READ = new WeakMap<readonly string[], Asked>();

/** Reads it. */
export function readAsked({ rawHeaders }: Visit): Asked {
  let asked = READ.get(rawHeaders);
  if (!asked) READ.set(rawHeaders, (asked = read(rawHeaders)));
  return asked;
}

function read(rawHeaders: readonly string[]): Asked {
  const found: Record<string, string> = {};
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const { length } = rawHeaders[i];
    // The shortest is `Range`, the longest `If-Unmodified-Since`.
    if (length < 5 || length > 19) continue;
    const name = rawHeaders[i].toLowerCase();
    if (NAMES.has(name))
      found[name] = found[name] === undefined ? rawHeaders[i + 1] : `${found[name]}, ${rawHeaders[i + 1]}`;
  }
  const control = found["cache-control"];
  return {
    // RFC 9111 5.4: what clients of HTTP/1.0 say.
    directives: readDirectives(
      control ?? (found["pragma"]?.toLowerCase().includes("no-cache") ? "no-cache" : undefined),
    ),
    range: found["range"],
    ifRange: found["if-range"],
    ifNoneMatch: found["if-none-match"],
    ifModifiedSince: found["if-modified-since"],
    precondition: found["if-match"] !== undefined || found["if-unmodified-since"] !== undefined,
  };
}

const NAMES: ReadonlySet<string> = new Set([
  "cache-control",
  "pragma",
  "range",
  "if-range",
  "if-none-match",
  "if-modified-since",
  "if-match",
  "if-unmodified-since",
]);

/** RFC 9110 8.8.3.2: the weak comparison. */
const weak = (tag: string): string => tag.replace(/^W\//, "");

/** RFC 9110 13.2.2: tells whether the client has what is kept, so that 304 says all. */
export function hasIt({ ifNoneMatch, ifModifiedSince }: Asked, entry: Entry, wallMs: number): boolean {
  if (entry.status !== 200) return false;
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() === "*") return true;
    const tags = ifNoneMatch.match(/(?:W\/)?"[^"]*"|[^\s,"]+/g) ?? [];
    return entry.etag !== undefined && tags.some((tag) => weak(tag) === weak(entry.etag!));
  }
  const sinceMs = readDate(ifModifiedSince, wallMs);
  if (sinceMs === undefined) return false;
  // RFC 9111 4.3.2: what does not say when it was made was made by its Date.
  const modifiedMs = readDate(entry.lastModified ?? fieldOf(entry.headers, "date"), wallMs);
  return modifiedMs !== undefined && modifiedMs <= sinceMs;
}

/** RFC 9110 14.1.2: the one range of bytes that is asked for; undefined where all of it is to be given, false where none can be. */
export function rangeOf({ range, ifRange }: Asked, entry: Entry): { from: number; to: number } | false | undefined {
  const match = range === undefined ? undefined : /^bytes=(\d*)-(\d*)$/i.exec(range.trim());
  if (!match || entry.status !== 200 || (match[1] === "" && match[2] === "")) return undefined;
  // RFC 9110 13.1.5: the strong comparison.
  if (ifRange !== undefined && (ifRange.startsWith("W/") || (ifRange !== entry.etag && ifRange !== entry.lastModified)))
    return undefined;
  const size = entry.body.length;
  const from = match[1] === "" ? Math.max(0, size - Number(match[2])) : Number(match[1]);
  const to = match[1] === "" || match[2] === "" ? size - 1 : Math.min(size - 1, Number(match[2]));
  if (match[1] !== "" && match[2] !== "" && Number(match[2]) < from) return undefined;
  return from >= size || to < from ? false : { from, to };
}

/** The client's own conditions and ranges are answered from what is kept. */
const CONDITIONS = /^(?:if-none-match|if-modified-since|range|if-range): [^\r]*\r\n/gm;

/** Asks by what the kept one says of itself; where that is nothing, for all of it. */
export function withValidators(passed: string, { etag, lastModified }: Entry): string {
  const rest = passed.replaceAll(CONDITIONS, "");
  const byTag = etag === undefined ? "" : `if-none-match: ${etag}\r\n`;
  return `${rest}${byTag}${lastModified === undefined ? "" : `if-modified-since: ${lastModified}\r\n`}`;
}
