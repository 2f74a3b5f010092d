/** Retry-After, as the far side means it. */
import type { IncomingHttpHeaders } from "node:http";

/**
 * Reads Retry-After in seconds, 0 or more (RFC 9110 10.2.3); a date is counted against the sender's own clock where it tells that,
 * else against `nowMs`. Undefined where there is none, or none that can be read.
 */
export function retryAfterOf(headers: IncomingHttpHeaders, nowMs: number): number | undefined {
  const text = headers["retry-after"]?.trim() ?? "";
  // Fractions are no seconds of HTTP's, but of our own services'.
  if (/^\d{1,10}(\.\d{1,9})?$/.test(text)) return Number(text);
  const atMs = Date.parse(text);
  if (Number.isNaN(atMs)) return undefined;
  const theirMs = Date.parse(headers.date ?? "");
  return Math.max(0, atMs - (Number.isNaN(theirMs) ? nowMs : theirMs)) / 1_000;
}
