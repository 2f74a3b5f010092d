/** What an entry is found by: its key, and what tells its variants apart (RFC 9111 4.1). */
import type { Visit } from "../visit.ts";

/** Lists without case whose items are wanted by their weights; of equal weights none goes first (RFC 9110 12.5.3, 12.5.4). */
const WEIGHTED: ReadonlySet<string> = new Set(["accept-language", "accept-encoding"]);

/** A header's value in one spelling (RFC 9111 4.1): spaces around commas say nothing, and what is wanted alike has no order. */
export function variantOf(visit: Visit, name: string): string {
  const value = visit.header(name);
  if (value === undefined) return "";
  const items = value.split(",").map((item) => item.trim());
  if (!WEIGHTED.has(name)) return ` ${items.join(",")}`;
  return items.map(weighted).sort().join(",");
}

/** Writes an item and its weight in one way; one that is malformed stays as it is. */
function weighted(item: string): string {
  const lower = item.toLowerCase();
  const match = /^([^;\s]+)\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?$/.exec(lower);
  return match ? `${match[1]};${Number(match[2] ?? 1)}` : lower;
}

/** The key of what is kept for a URL; for each person where `per` is `subject`. */
export const keyOf = (visit: Visit, url: string, per: string): string =>
  `${per === "subject" ? (visit.verdict?.header ?? "") : ""} ${visit.host} ${url}`;
