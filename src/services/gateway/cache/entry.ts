/** A kept answer: its head, its body, how long it is fresh, and what may be done with it when it is not. */
import type { CacheSettings } from "../cache.api.ts";
import { Said } from "../headers.ts";
import { type Directives, readDate, readDirectives, readNames, readSeconds } from "./directives.ts";

/** Heuristically cacheable (RFC 9110 15.1). */
const BY_HEURISTICS: ReadonlySet<number> = new Set([200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501]);
/** RFC 9111 4.2.2: a tenth of its age, and no more than a day. */
const HEURISTIC_SHARE = 0.1;
const HEURISTIC_MS_MAX = 86_400_000;
/** What an entry takes beside its bytes. */
const ENTRY_BYTES = 512;

/** RFC 9111 3.1: of one hop, or of the proxy. */
const NOT_KEPT: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authentication-info",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "age",
  "cache-status",
]);

export interface Head {
  readonly status: number;
  readonly headers: readonly string[];
}

/** Joins the lines of a header by its name in lower case. */
export function fieldOf(headers: readonly string[], name: string): string | undefined {
  let value: string | undefined;
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i].length !== name.length || headers[i].toLowerCase() !== name) continue;
    value = value === undefined ? headers[i + 1] : `${value}, ${headers[i + 1]}`;
  }
  return value;
}

export interface Times {
  /** When the request was sent and its answer came, on the monotonic clock. */
  readonly askedMs: number;
  readonly cameMs: number;
  readonly wallMs: number;
}

/** What an answer's head says about keeping it. */
export interface Verdict {
  readonly directives: Directives;
  /** Milliseconds; 0 where it is stale at once. */
  readonly freshMs: number;
  /** It says itself how long it is fresh. */
  readonly explicit: boolean;
}

/** Judges a head: how long it is fresh, and by which directives. RFC 9213: those for gateways count alone where they are there. */
export function judge({ status, headers }: Head, settings: CacheSettings, wallMs: number): Verdict {
  const targeted = fieldOf(headers, "cdn-cache-control");
  const own = targeted !== undefined && isTargeted(targeted);
  const directives = readDirectives(own ? targeted : fieldOf(headers, "cache-control"));
  const age = directives.get("s-maxage") ?? directives.get("max-age");
  if (age !== undefined) return { directives, freshMs: readSeconds(age) * 1_000, explicit: true };
  const expires = own ? undefined : fieldOf(headers, "expires");
  if (expires !== undefined) {
    // RFC 9111 5.3: an invalid date, "0" above all, lies in the past.
    const fromMs = readDate(fieldOf(headers, "date"), wallMs) ?? wallMs;
    return { directives, freshMs: Math.max(0, (readDate(expires, wallMs) ?? 0) - fromMs), explicit: true };
  }
  if (settings.freshMs !== undefined && status < 300) return { directives, freshMs: settings.freshMs, explicit: false };
  return { directives, freshMs: heuristic({ status, headers }, directives, wallMs), explicit: false };
}

/** RFC 9213 2.2: a structured dictionary, with lower-case keys and bare numbers; anything else is as if it were not there. */
const isTargeted = (text: string): boolean =>
  !/(?:^|[\s,])(?:max-age|s-maxage)(?!=\d+\s*(?:,|$))/.test(text) &&
  /^[a-z*][a-z0-9_.*-]*(=(\?[01]|-?\d+(\.\d+)?|"[^"]*"|[A-Za-z*][^\s,;"]*))?(\s*,\s*[a-z*][a-z0-9_.*-]*(=(\?[01]|-?\d+(\.\d+)?|"[^"]*"|[A-Za-z*][^\s,;"]*))?)*$/.test(
    text.trim(),
  );

function heuristic({ status, headers }: Head, directives: Directives, wallMs: number): number {
  if (!BY_HEURISTICS.has(status) && !directives.has("public")) return 0;
  const modifiedMs = readDate(fieldOf(headers, "last-modified"), wallMs);
  if (modifiedMs === undefined) return 0;
  const fromMs = readDate(fieldOf(headers, "date"), wallMs) ?? wallMs;
  return Math.max(0, Math.min(HEURISTIC_MS_MAX, (fromMs - modifiedMs) * HEURISTIC_SHARE));
}

export interface EntryOptions {
  readonly varied: Entry["varied"];
  readonly owner: string;
  readonly settings: CacheSettings;
  readonly times: Times;
}

const NOTHING_SAID = new Said([]);

export class Entry {
  readonly status: number;
  readonly body: Buffer;
  /** Of the request, by the names in Vary. */
  readonly varied: readonly (readonly [name: string, value: string])[];
  /** The route that it was asked for by: another route of the same URL may be for other people. */
  readonly owner: string;
  readonly bytes: number;
  readonly #settings: CacheSettings;
  headers: readonly string[] = [];
  /** The same as they are given: a body that came in chunks has a length by now. */
  said = NOTHING_SAID;
  etag: string | undefined;
  lastModified: string | undefined;
  /** Set where asking for a new one has failed. */
  failedMs = Number.NEGATIVE_INFINITY;
  /** A new one is being asked for. */
  renewing = false;
  #directives: Directives = new Map();
  #freshMs = 0;
  #ageMs = 0;
  #cameMs = 0;

  constructor(head: Head, body: Buffer, options: EntryOptions) {
    this.status = head.status;
    this.body = body;
    this.varied = options.varied;
    this.owner = options.owner;
    this.#settings = options.settings;
    this.#take(head.headers, options.times);
    // The head is kept as it came and as it is written.
    this.bytes = ENTRY_BYTES + body.length + 2 * this.headers.reduce((sum, text) => sum + text.length, 0);
  }

  /** RFC 9111 4.2.3. */
  ageMs(nowMs: number): number {
    return this.#ageMs + (nowMs - this.#cameMs);
  }

  /** How long it is still fresh; below zero, how long it has been stale. */
  freshLeftMs(nowMs: number): number {
    return this.#freshMs - this.ageMs(nowMs);
  }

  /** RFC 9111 5.2.2.4: never without asking. */
  get alwaysAsk(): boolean {
    return this.#directives.get("no-cache") === true;
  }

  /** RFC 9111 4.2.4, 5.2.2.2, 5.2.2.8, 5.2.2.10: never stale. */
  get neverStale(): boolean {
    const d = this.#directives;
    return d.has("must-revalidate") || d.has("proxy-revalidate") || d.has("s-maxage") || this.alwaysAsk;
  }

  /** RFC 5861 3, 4: how long it may be given stale, while or because. */
  staleMs(why: "stale-while-revalidate" | "stale-if-error"): number {
    const said = this.#directives.get(why);
    if (said !== undefined) return readSeconds(said) * 1_000;
    if (this.neverStale) return 0;
    const { staleWhileRevalidateMs = 0, staleIfErrorMs = 0 } = this.#settings;
    return why === "stale-while-revalidate" ? staleWhileRevalidateMs : staleIfErrorMs;
  }

  /** RFC 9111 4.3.5: a head of HEAD tells of this very content. */
  isTold(headers: readonly string[]): boolean {
    const same = (name: string, ours: string | undefined) => (fieldOf(headers, name) ?? ours) === ours;
    return (
      same("etag", this.etag) &&
      same("last-modified", this.lastModified) &&
      same("content-length", String(this.body.length))
    );
  }

  /** Takes the head of an answer that said it is still right (RFC 9111 3.2, 4.3.4). */
  freshen(headers: readonly string[], times: Times): void {
    const named = new Set<string>();
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i].toLowerCase();
      if (!NOT_UPDATED.has(name)) named.add(name);
    }
    const kept = pairs(this.headers).filter(([name]) => !named.has(name.toLowerCase()));
    const fresh = pairs(headers).filter(([name]) => named.has(name.toLowerCase()));
    this.#take([...kept, ...fresh].flat(), times, fieldOf(headers, "age"));
    this.failedMs = Number.NEGATIVE_INFINITY;
  }

  /** Makes it stale: it is to be asked for (RFC 9111 4.4). */
  expire(): void {
    this.#freshMs = 0;
  }

  #take(headers: readonly string[], { askedMs, cameMs, wallMs }: Times, age = fieldOf(headers, "age")): void {
    const { directives, freshMs } = judge({ status: this.status, headers }, this.#settings, wallMs);
    const dateMs = readDate(fieldOf(headers, "date"), wallMs);
    // RFC 9111 4.2.3; of several Age values the first counts (5.1).
    const apparentMs = dateMs === undefined ? 0 : Math.max(0, wallMs - dateMs);
    const saidMs = readSeconds(age?.split(",", 1)[0].trim()) * 1_000 + (cameMs - askedMs);
    this.#ageMs = Math.max(apparentMs, saidMs);
    this.#cameMs = cameMs;
    this.#directives = directives;
    this.#freshMs = freshMs;
    this.etag = fieldOf(headers, "etag");
    this.lastModified = fieldOf(headers, "last-modified");
    // RFC 9111 5.2.2.4, 5.2.2.7: fields that must not be given again without asking, or to others.
    const left = new Set([
      ...readNames(fieldOf(headers, "connection")),
      ...readNames(directives.get("no-cache")),
      ...readNames(directives.get("private")),
    ]);
    this.headers = pairs(headers)
      .filter(([name]) => !NOT_KEPT.has(name.toLowerCase()) && !left.has(name.toLowerCase()))
      .flat();
    const framed = this.status === 204 || fieldOf(this.headers, "content-length") !== undefined;
    this.said = new Said(framed ? this.headers : [...this.headers, "Content-Length", String(this.body.length)]);
  }
}

/** RFC 9111 3.2: of the body that is kept, not of the answer that updates it. */
const NOT_UPDATED: ReadonlySet<string> = new Set([...NOT_KEPT, "content-length", "content-encoding", "content-range"]);

function pairs(headers: readonly string[]): (readonly [name: string, value: string])[] {
  const made: (readonly [string, string])[] = [];
  for (let i = 0; i < headers.length; i += 2) made.push([headers[i], headers[i + 1]]);
  return made;
}
