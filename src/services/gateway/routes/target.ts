/**
 * Reads what a request is for. The path is read once and in one way: each segment decoded once, what could be read in two
 * ways refused, and what goes on to a service is written anew from what was read, so that both see the same path.
 */
import { fail } from "../../../kernel/error.ts";
import { GATEWAY_REQUEST_REFUSED, GATEWAY_URL_TOO_LONG, URL_BYTES_MAX } from "../api.ts";

export interface Target {
  /** Decoded. */
  readonly segments: readonly string[];
  /** The path in its one spelling, with a leading slash. */
  readonly path: string;
  /** As it came, with its question mark; empty where there is none. */
  readonly query: string;
}

/** RFC 3986 3.3: pchar and the slash. */
const PATH = /^\/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*$/;
/** Visible ASCII but for `"`, `#`, `<`, `>` and `\`; brackets and bars are not RFC 3986's, but every client sends them. */
const QUERY = /^[!$-;=?-[\]-~]*$/;
const BROKEN_PERCENT = /%(?![0-9A-Fa-f]{2})/;
/** RFC 9112 3.2.2: a server must accept the absolute form. */
const ABSOLUTE = /^https:\/\/([^/?#@]+)([/?].*)?$/i;
/** RFC 9112 3.2: a host, and a port; no user, nothing odd. */
const HOST = /^(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$/;
const CONTROL = /\p{Cc}/u;
const DOTS = /(?:^|[/\\])\.\.?(?:[/\\]|$)/;

const refused = (message: string) => fail(GATEWAY_REQUEST_REFUSED, message);

/** Checks the Host header's value; GATEWAY_REQUEST_REFUSED. */
export function checkHost(host: string): void {
  if (!HOST.test(host)) throw refused("the Host header is not a host with an optional port");
}

/** Reads a request target; GATEWAY_URL_TOO_LONG above 8 KiB, GATEWAY_REQUEST_REFUSED where it could mean two things. */
export function readTarget(url: string, host: string): Target {
  if (url.length > URL_BYTES_MAX)
    throw fail(GATEWAY_URL_TOO_LONG, `the URL has ${url.length} bytes; at most ${URL_BYTES_MAX}`);
  const own = url.charCodeAt(0) === 47 ? url : ownForm(url, host);
  const at = own.indexOf("?");
  const path = at < 0 ? own : own.slice(0, at);
  const query = at < 0 ? "" : checkedQuery(own.slice(at));
  if (!PATH.test(path)) throw refused("the URL's path has a character that must be percent-encoded");
  // Nothing encoded, no segment that begins with a dot: it is its own one spelling already.
  if (!path.includes("%") && !path.includes("/.")) return { segments: path.slice(1).split("/"), path, query };
  const segments = path.slice(1).split("/").map(readSegment);
  return { segments, path: `/${segments.map(encodeURIComponent).join("/")}`, query };
}

/** RFC 9112 3.2.2: the target's host is the one that counts; where the Host header names another one, somebody is confused. */
function ownForm(url: string, host: string): string {
  const absolute = ABSOLUTE.exec(url);
  if (!absolute) throw refused("the request target is neither a path nor a URL of https");
  if (absolute[1].toLowerCase() !== host.toLowerCase())
    throw refused("the request target and the Host header name different hosts");
  const rest = absolute[2] ?? "/";
  return rest.startsWith("?") ? `/${rest}` : rest;
}

function checkedQuery(query: string): string {
  if (!QUERY.test(query)) throw refused("the URL's query has a character that must be percent-encoded");
  if (query.includes("%") && (BROKEN_PERCENT.test(query) || query.includes("%00")))
    throw refused("the URL's query has a percent sign that encodes nothing, or a NUL");
  return query;
}

function readSegment(raw: string): string {
  const segment = decoded(raw);
  if (segment === undefined) throw refused("the URL's path is not percent-encoded UTF-8");
  if (CONTROL.test(segment)) throw refused("the URL's path has an encoded control character");
  // Whoever stands behind might decode again: what would then be a dot segment is one.
  for (let deeper: string | undefined = segment, depth = 0; deeper !== undefined; depth++) {
    if (DOTS.test(deeper)) throw refused("the URL's path has a dot segment ('.' or '..', plain or encoded)");
    if (CONTROL.test(deeper) || depth > 8)
      throw refused("the URL's path has a control character that is encoded twice");
    const next: string | undefined = deeper.includes("%") ? decoded(deeper) : undefined;
    deeper = next === deeper ? undefined : next;
  }
  return segment;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    // A percent sign that encodes nothing, or bytes that are no UTF-8 (RFC 3629 3: overlong forms too).
    return undefined;
  }
}
