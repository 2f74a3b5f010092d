/** Judges the conditions and the range of a request for something that is known by its ETag and its time (RFC 9110 13, 14). */

export interface Validators {
  /** Strong, with its quotes. */
  readonly etag: string;
  readonly modifiedMs: number;
}

export interface Conditions {
  readonly ifMatch?: string | undefined;
  readonly ifNoneMatch?: string | undefined;
  readonly ifModifiedSince?: string | undefined;
  readonly ifUnmodifiedSince?: string | undefined;
}

export type Judgement = "go-on" | "not-modified" | "failed";

/** Judges in the order of RFC 9110 13.2.2, for GET and HEAD. */
export function judge(conditions: Conditions, { etag, modifiedMs }: Validators): Judgement {
  const { ifMatch, ifNoneMatch, ifModifiedSince, ifUnmodifiedSince } = conditions;
  if (ifMatch !== undefined) {
    if (!lists(ifMatch, etag, false)) return "failed";
  } else if (ifUnmodifiedSince !== undefined) {
    const since = readDate(ifUnmodifiedSince);
    if (since !== undefined && seconds(modifiedMs) > seconds(since)) return "failed";
  }
  // RFC 9110 13.1.3: where there are both, the ETag decides.
  if (ifNoneMatch !== undefined) return lists(ifNoneMatch, etag, true) ? "not-modified" : "go-on";
  if (ifModifiedSince === undefined) return "go-on";
  const since = readDate(ifModifiedSince);
  return since !== undefined && seconds(modifiedMs) <= seconds(since) ? "not-modified" : "go-on";
}

/** RFC 9110 8.8.3.2: weak tags are alike where weak comparison will do. */
function lists(header: string, etag: string, weak: boolean): boolean {
  if (header.trim() === "*") return true;
  return [...header.matchAll(/(W\/)?("[^"]*")/g)].some(([, isWeak, tag]) => tag === etag && (weak || !isWeak));
}

export interface Range {
  readonly from: number;
  /** Inclusive. */
  readonly to: number;
}

/**
 * Reads Range for something of `length` bytes: one range; undefined where the whole is to be given (none, several, another
 * unit, malformed, or If-Range names something older: RFC 9110 14.2); "refused" where it lies outside.
 */
export function readRange(
  range: string | undefined,
  ifRange: string | undefined,
  length: number,
  { etag, modifiedMs }: Validators,
): Range | "refused" | undefined {
  const [, first, last] = /^bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*$/i.exec(range ?? "") ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return undefined;
  if (ifRange !== undefined && !isSame(ifRange, etag, modifiedMs)) return undefined;
  if (first === "") {
    // RFC 9110 14.1.2: the last so many bytes.
    const size = Math.min(Number(last), length);
    return size === 0 ? "refused" : { from: length - size, to: length - 1 };
  }
  const from = Number(first);
  const to = last === "" ? length - 1 : Math.min(Number(last), length - 1);
  if (last !== "" && Number(last) < from) return undefined;
  return from >= length ? "refused" : { from, to };
}

/** RFC 9110 13.1.5: strong comparison, and the exact time. */
const isSame = (ifRange: string, etag: string, modifiedMs: number): boolean =>
  ifRange.startsWith('"') ? ifRange === etag : readDate(ifRange) === seconds(modifiedMs) * 1000;

const seconds = (ms: number): number => Math.floor(ms / 1000);

const DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)";
const IMF_DATE = new RegExp(`^${DAY}, \\d\\d [A-Z][a-z]{2} \\d{4} \\d\\d:\\d\\d:\\d\\d GMT$`);

/** RFC 9110 5.6.7: what is no date of HTTP is as if it were not there. */
function readDate(text: string): number | undefined {
  const ms = IMF_DATE.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(ms) ? undefined : ms;
}
