/** Whether an answer may be kept (RFC 9111 3), by what its variants differ, and what an unsafe request makes stale. */
import type { CacheSettings } from "../cache.api.ts";
import type { Handler, Reply, Step, Visit } from "../visit.ts";
import type { Asked } from "./asked.ts";
import { fieldOf, judge } from "./entry.ts";
import { readNames } from "./directives.ts";
import { keyOf, variantOf } from "./key.ts";
import type { Store } from "./store.ts";

export interface Kept {
  readonly visit: Visit;
  readonly asked: Asked;
  readonly reply: Reply;
  readonly settings: CacheSettings;
  readonly per: "subject" | "everyone";
  readonly wallMs: number;
}

/** Tells whether it may. */
export function mayKeep({ visit, asked, reply, settings, per, wallMs }: Kept): boolean {
  const { status, headers } = reply;
  if (status < 200 || status === 206 || status === 304) return false;
  const { directives, freshMs, explicit } = judge(reply, settings, wallMs);
  if (visit.method !== "GET" && !(explicit && standsForGet(visit, reply))) return false;
  // RFC 9111 3, 5.2.2.3: where the status has to be understood, that decides, and no-store is for who does not understand it.
  if (directives.has("must-understand") ? !UNDERSTOOD.has(status) : directives.has("no-store")) return false;
  if (asked.directives.has("no-store")) return false;
  if (per === "everyone" && directives.get("private") === true) return false;
  // RFC 9111 3.5, where the answer is for others, too.
  const named = visit.head?.authorization !== undefined || visit.verdict !== undefined;
  const authorized = per === "everyone" && named;
  if (authorized && !["public", "s-maxage", "must-revalidate"].some((name) => directives.has(name))) return false;
  if (readNames(fieldOf(headers, "vary")).includes("*")) return false;
  // What sets a cookie, or is given to who brings one, is for one person, unless it says clearly that it is not.
  if (!explicit && (fieldOf(headers, "set-cookie") ?? visit.header("cookie")) !== undefined) return false;
  if (reply.body && !(reply.body instanceof Buffer) && (reply.body.length ?? 0) > settings.entryBytesMax) return false;
  if (reply.body instanceof Buffer && reply.body.length > settings.entryBytesMax) return false;
  const validators = fieldOf(headers, "etag") ?? fieldOf(headers, "last-modified");
  // What is stale at once is worth its place only where it can be asked about, or given when the service fails.
  const later =
    validators !== undefined || directives.has("stale-if-error") || directives.has("stale-while-revalidate");
  return freshMs > 0 || (explicit && later) || (directives.has("no-cache") && validators !== undefined);
}

/** RFC 9110 9.3.3: the answer to POST is what GET would give, where its Content-Location is what was posted to. */
const standsForGet = (visit: Visit, reply: Reply): boolean =>
  visit.method === "POST" &&
  reply.status === 200 &&
  ownUrl(reply, "content-location", visit)[0] === visit.target!.path + visit.target!.query;

/** Final statuses whose meaning for a cache is known here. */
const UNDERSTOOD: ReadonlySet<number> = new Set([200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501]);

/** The request's values of the headers that Vary names (RFC 9111 4.1). */
export const variedBy = ({ headers }: Reply, visit: Visit): (readonly [string, string])[] =>
  readNames(fieldOf(headers, "vary")).map((name) => [name, variantOf(visit, name)] as const);

/** RFC 9110 9.2.1. */
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);

/** Makes the step that forgets what a request has changed: its URL, and those of this host that its answer names (RFC 9111 4.4). */
export const forgets =
  (store: Store): Step =>
  (next) =>
  (visit) =>
    SAFE.has(visit.method) ? next(visit) : forgetting(store, next, visit);

async function forgetting(store: Store, next: Handler, visit: Visit): Promise<Reply> {
  const reply = await next(visit);
  if (reply.status < 200 || reply.status >= 400) return reply;
  const { path, query } = visit.target!;
  for (const url of [path + query, ...["location", "content-location"].flatMap((name) => ownUrl(reply, name, visit))]) {
    store.forget(keyOf(visit, url, "everyone"));
    store.forget(keyOf(visit, url, "subject"));
  }
  return reply;
}

function ownUrl(reply: Reply, name: string, visit: Visit): string[] {
  const text = fieldOf(reply.headers, name);
  const base = `https://${visit.host || "localhost"}`;
  if (text === undefined || !URL.canParse(text, base + visit.target!.path)) return [];
  const url = new URL(text, base + visit.target!.path);
  return url.host === new URL(base).host ? [url.pathname + url.search] : [];
}
