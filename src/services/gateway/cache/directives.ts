/** Reads Cache-Control (RFC 9111 5.2) and dates, strictly: what is not well-formed never makes an answer fresher. */

/** Directives by name in lower case; true where there is no value. */
export type Directives = ReadonlyMap<string, string | true>;

const NONE: Directives = new Map();
/** token [ "=" ( token / quoted-string ) ], after the comma before it. */
const DIRECTIVE = /[\t ,]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\t ,"]*)))?([^,]*)/y;
/** RFC 9111 1.2.2: a cache that cannot hold a number takes 2^31 for it. */
const SECONDS_MAX = 2_147_483_648;

/** Reads a list of directives. Of one that comes twice the first counts, of a number that which makes less fresh (RFC 9111 4.2.1). */
export function readDirectives(text: string | undefined): Directives {
  if (text === undefined || text === "") return NONE;
  const found = new Map<string, string | true>();
  DIRECTIVE.lastIndex = 0;
  for (let match = DIRECTIVE.exec(text); match?.[1] !== undefined; match = DIRECTIVE.exec(text)) {
    const name = match[1].toLowerCase();
    const given: string | true = match[2]?.replaceAll(/\\(.)/g, "$1") ?? match[3] ?? true;
    // Something stands behind it that belongs to nothing: it is no value of this directive.
    const value = match[4].trim() === "" ? given : `${given}${match[4]}`;
    const before = found.get(name);
    if (before === undefined) found.set(name, value);
    else if (readSeconds(value) < readSeconds(before)) found.set(name, value);
    if (DIRECTIVE.lastIndex >= text.length) break;
  }
  return found;
}

/** Reads delta-seconds; 0 where it is none (RFC 9111 4.2.1: what is invalid is stale). */
export const readSeconds = (value: string | true | undefined): number =>
  typeof value === "string" && /^\d+$/.test(value) ? Math.min(SECONDS_MAX, Number(value)) : 0;

/** Reads the field names of `no-cache="a, b"` and `private="a, b"`, in lower case. */
export const readNames = (value: string | true | undefined): string[] =>
  typeof value === "string"
    ? value
        .split(",")
        .map((name) => name.trim().toLowerCase())
        .filter((name) => name !== "")
    : [];

const MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split(" ");
const IMF = /^[a-z]{3}, (\d{2}) ([a-z]{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) gmt$/i;
const RFC850 = /^[a-z]{6,9}, (\d{2})-([a-z]{3})-(\d{2}) (\d{2}):(\d{2}):(\d{2}) gmt$/i;
const ASCTIME = /^[a-z]{3} ([a-z]{3}) ([ \d]\d) (\d{2}):(\d{2}):(\d{2}) (\d{4})$/i;

/** Reads an HTTP-date in one of its three forms (RFC 9110 5.6.7); undefined where it is none. */
export function readDate(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  const imf = IMF.exec(text);
  if (imf) return utc(Number(imf[3]), imf[2], imf.slice(1, 2).concat(imf.slice(4)));
  const old = RFC850.exec(text);
  if (old) {
    const century = Math.floor(new Date(nowMs).getUTCFullYear() / 100) * 100;
    const year = century + Number(old[3]);
    // RFC 9110 5.6.7: what seems to lie more than 50 years ahead lies in the past.
    const ahead = year > new Date(nowMs).getUTCFullYear() + 50;
    return utc(ahead ? year - 100 : year, old[2], old.slice(1, 2).concat(old.slice(4)));
  }
  const asc = ASCTIME.exec(text);
  return asc ? utc(Number(asc[6]), asc[1], asc.slice(2, 6)) : undefined;
}

function utc(year: number, month: string, [day, hour, minute, second]: string[]): number | undefined {
  const at = MONTHS.indexOf(month.toLowerCase());
  const [d, h, m, s] = [day, hour, minute, second].map(Number);
  if (at < 0 || h > 23 || m > 59 || s > 60) return undefined;
  const ms = Date.UTC(year, at, d, h, m, s);
  return new Date(ms).getUTCDate() === d ? ms : undefined;
}
