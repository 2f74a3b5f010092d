/** Which headers come in, go on, and go out: what belongs to one hop or claims to be from us ends at the door. */
import { fail } from "../../kernel/error.ts";
import { readRequestId, readTraceparent } from "../../kernel/call.ts";
import { GATEWAY_HEADERS_TOO_LARGE, GATEWAY_REQUEST_REFUSED, HEADERS_MAX } from "./api.ts";

/** What the gateway itself reads of a request's head. */
export interface Head {
  readonly host: string;
  readonly authorization: string | undefined;
  /** What its token is known by, once somebody has asked: of requests with the same lines it is found out once. */
  tokenKey?: string;
  readonly hasBody: boolean;
  /** Undefined where the body comes in chunks. */
  readonly length: number | undefined;
  /** What a stranger calls this request: noted and answered, never our own id. */
  readonly correlationId: string | undefined;
  readonly traceId: string | undefined;
  /** The client waits for 100 Continue before it sends the body. */
  readonly expects: boolean;
  /** The client wants its connection closed after the answer. */
  readonly closes: boolean;
  /** The client asks to go on as a WebSocket. */
  readonly upgrades: boolean;
  /** The lines that go on to the service, each with its CRLF. */
  readonly passed: string;
}

/**
 * RFC 9110 7.6.1: of one hop. The token ends here, since no service needs it; `Expect` was answered here; the ids and whom
 * a request is from are ours to say; a body is framed anew.
 */
const ENDS_HERE = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "upgrade",
  "http2-settings",
  "host",
  "content-length",
  "transfer-encoding",
  "expect",
  "authorization",
  "x-api-key",
  "via",
  "forwarded",
  "x-real-ip",
  "x-client-ip",
  "true-client-ip",
  "traceparent",
  "tracestate",
  "baggage",
  "x-request-id",
  "x-correlation-id",
  "x-forwarded",
  "x-host",
  "x-original-host",
  "x-http-host-override",
  "x-http-method",
  "x-http-method-override",
  "x-method-override",
  "x-original-url",
  "x-rewrite-url",
]);
const OURS = ["x-holdfast-", "x-forwarded-"];
/** Cookies of the door itself begin so: no service is sent one, and none may set one. */
export const OWN_COOKIES = "__Host-holdfast-";

function endsHere(name: string): boolean {
  // `X_Holdfast_Subject`: some software reads it as the one with dashes.
  const dashed = name.includes("_") ? name.replaceAll("_", "-") : name;
  return ENDS_HERE.has(dashed) || (dashed.charCodeAt(0) === 120 && OURS.some((prefix) => dashed.startsWith(prefix)));
}

const refused = (message: string) => fail(GATEWAY_REQUEST_REFUSED, message);

/** Those that may be there once only: two would be read by us and by a service as different ones. */
class Single {
  readonly values = new Map<string, string>();

  take(name: string, value: string): void {
    if (this.values.has(name)) throw refused(`the request has two ${name} headers`);
    this.values.set(name, value);
  }
}

const SINGLE = new Set([
  "host",
  "authorization",
  "x-api-key",
  "content-length",
  "transfer-encoding",
  "expect",
  "content-type",
  "x-correlation-id",
  "traceparent",
]);

/** Tells whether a header, by its name in lower case, may be there once only. */
export const isSingle = (name: string): boolean => SINGLE.has(name);

/** Reads a request's raw headers, once; GATEWAY_REQUEST_REFUSED where they are ambiguous, GATEWAY_HEADERS_TOO_LARGE above HEADERS_MAX. */
export function readHead(raw: readonly string[], version: string): Head {
  if (raw.length > HEADERS_MAX * 2)
    throw fail(GATEWAY_HEADERS_TOO_LARGE, `the request has ${raw.length / 2} header lines; at most ${HEADERS_MAX}`);
  // RFC 9112 2.3, 3: the parser takes a start line without a version for one of HTTP/0.9, and one of HTTP/2 for what it knows.
  if (version !== "1.1" && version !== "1.0") throw refused("the request's version is neither HTTP/1.1 nor HTTP/1.0");
  const single = new Single();
  let passed = "";
  let options: string | undefined;
  let upgrade: string | undefined;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i].toLowerCase();
    const value = raw[i + 1];
    if (SINGLE.has(name)) single.take(name, value);
    if (name === "connection") options = options === undefined ? value : `${options},${value}`;
    if (name === "upgrade") upgrade = value.toLowerCase();
    if (name === "cookie" && value.includes(OWN_COOKIES)) passed += withoutOwnCookies(value);
    else if (!endsHere(name)) passed += `${name}: ${value}\r\n`;
  }
  const { values } = single;
  // RFC 9112 3.2: a request of HTTP/1.1 without Host is refused.
  const host = values.get("host");
  if (host === undefined && version !== "1.0") throw refused("the request has no Host header");
  return {
    host: host ?? "",
    authorization: values.get("authorization"),
    ...framing(values, version),
    correlationId: readRequestId(values.get("x-correlation-id")),
    traceId: readTraceparent(values.get("traceparent"))?.requestId,
    expects: version === "1.1" && values.get("expect")?.toLowerCase() === "100-continue",
    ...connection(options, version, upgrade, passed),
  };
}

/** The header line with what is left of a browser's cookies; empty where nothing is. */
function withoutOwnCookies(value: string): string {
  const left = value.split(";").filter((each) => !each.trimStart().startsWith(OWN_COOKIES));
  return left.length === 0 ? "" : `cookie: ${left.join(";").trim()}\r\n`;
}

/** RFC 9112 6: what the parser let through is checked once more; here nothing depends on its leniency. */
function framing(
  values: ReadonlyMap<string, string>,
  version: string,
): { hasBody: boolean; length: number | undefined } {
  const coding = values.get("transfer-encoding");
  const text = values.get("content-length");
  if (coding !== undefined) {
    if (text !== undefined) throw refused("the request has both Content-Length and Transfer-Encoding");
    if (version === "1.0" || coding.toLowerCase() !== "chunked")
      throw refused("the only Transfer-Encoding is 'chunked', in HTTP/1.1");
    return { hasBody: true, length: undefined };
  }
  if (text === undefined) return { hasBody: false, length: 0 };
  if (!/^[0-9]{1,15}$/.test(text)) throw refused("Content-Length is not a number");
  const length = Number(text);
  return { hasBody: length > 0, length };
}

/** RFC 9110 7.6.1: what Connection says, and what it names is of this hop, too. */
function connection(options: string | undefined, version: string, upgrade: string | undefined, passed: string) {
  if (options === undefined || options === "keep-alive") return { closes: version === "1.0", upgrades: false, passed };
  const said = options
    .toLowerCase()
    .split(",")
    .map((option) => option.trim());
  const named = said.filter((option) => option !== "" && option !== "close" && option !== "keep-alive");
  return {
    closes: version === "1.0" || said.includes("close"),
    // RFC 9110 7.8: what else a client would rather speak may be ignored.
    upgrades: version === "1.1" && upgrade === "websocket" && said.includes("upgrade"),
    passed: named.length === 0 ? passed : without(passed, named),
  };
}

const without = (passed: string, named: readonly string[]): string =>
  passed
    .split("\r\n")
    .filter((line) => !named.includes(line.slice(0, line.indexOf(":"))))
    .join("\r\n");

/** On every answer, unless the service says otherwise for itself: answers of an API, kept by nobody and shown nowhere. */
const DEFAULTS: readonly (readonly [name: string, value: string])[] = [
  ["Cache-Control", "no-store"],
  ["Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"],
  ["X-Content-Type-Options", "nosniff"],
  ["X-Frame-Options", "DENY"],
  ["Referrer-Policy", "no-referrer"],
  ["Cross-Origin-Resource-Policy", "same-origin"],
];
const DEFAULT_NAMES = new Map(DEFAULTS.map(([name], i) => [name.toLowerCase(), i]));
export const SECURITY_HEADERS: readonly string[] = DEFAULTS.flat();

/** Of one hop, of the machinery behind the door, or ours to say. */
const ENDS_BEHIND = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "server",
  "x-powered-by",
  "x-request-id",
  "x-correlation-id",
  "traceparent",
  "tracestate",
  "alt-svc",
]);

/** Tells whether a header of a service's answer, by its name in lower case, ends here. */
export const endsBehind = (name: string): boolean => ENDS_BEHIND.has(name) || name.startsWith("x-holdfast-");

/** What an answer goes out with beside what is ours: of a service's headers, what may pass, and the defaults. */
export interface Given {
  /** What comes first. */
  readonly upon?: Given;
  readonly headers: readonly string[];
  /** All together say how long the body is, and when it was made. */
  readonly framed: boolean;
  readonly dated: boolean;
  /** Written out for HTTP/1.1 by whoever is the first to need it. */
  lines?: string;
}

/** Tells all headers that are given. */
export const allOf = ({ upon, headers }: Given): readonly string[] => (upon ? [...allOf(upon), ...headers] : headers);

/** The headers of an answer. Services say the same again and again: what goes out of it is found out once. */
export class Said {
  readonly headers: readonly string[];
  /** The others, and only then what changes. */
  readonly #upon: Said | undefined;
  readonly #more: readonly string[];
  #given: Given | undefined;
  #kept: Given | undefined;

  constructor(headers: readonly string[], upon?: Said) {
    this.headers = upon ? [...upon.headers, ...headers] : headers;
    this.#upon = upon;
    this.#more = headers;
  }

  /** Says something of our own beside it, which no service says. */
  and(more: readonly string[]): Said {
    return new Said(more, this);
  }

  /** `kept`: others may keep it, as it says itself. */
  given(kept: boolean): Given {
    return kept ? (this.#kept ??= this.#find(true)) : (this.#given ??= this.#find(false));
  }

  #find(kept: boolean): Given {
    const upon = this.#upon?.given(kept);
    return upon ? { upon, headers: this.#more, framed: upon.framed, dated: upon.dated } : givenOf(this.headers, kept);
  }
}

function givenOf(theirs: readonly string[], kept: boolean): Given {
  const headers: string[] = [];
  let framed = false;
  let dated = false;
  // The first of the defaults is Cache-Control.
  let given = kept ? 1 : 0;
  for (let i = 0; i < theirs.length; i += 2) {
    const name = theirs[i].toLowerCase();
    if (endsBehind(name)) continue;
    if (name === "set-cookie" && theirs[i + 1].trimStart().startsWith(OWN_COOKIES)) continue;
    const standard = DEFAULT_NAMES.get(name);
    if (standard !== undefined) given |= 1 << standard;
    framed ||= name === "content-length";
    dated ||= name === "date";
    headers.push(theirs[i], theirs[i + 1]);
  }
  if (given === 0) headers.push(...SECURITY_HEADERS);
  else DEFAULTS.forEach(([name, value], i) => (given & (1 << i)) === 0 && headers.push(name, value));
  return { headers, framed, dated };
}

/** Writes the head of an answer that switches to another protocol. */
export function switchingHead(headers: readonly string[]): string {
  let text = "HTTP/1.1 101 Switching Protocols\r\n";
  for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return `${text}\r\n`;
}
