/** What an entry is found by: its key, and what tells its variants apart (RFC 9111 4.1). */
import type { Visit } from "../visit.ts";

/** A header's value in one spelling: spaces around commas say nothing, and languages and codings have no case. */
export function variantOf(visit: Visit, name: string): string {
  const value = visit.header(name);
  if (value === undefined) return "";
  const list = value
    .split(",")
    .map((item) => item.trim())
    .join(",");
  return name === "accept-language" || name === "accept-encoding" ? list.toLowerCase() : ` ${list}`;
}

/** The key of what is kept for a URL; for each person where `per` is `subject`. */
export const keyOf = (visit: Visit, url: string, per: string): string =>
  `${per === "subject" ? (visit.verdict?.header ?? "") : ""} ${visit.host} ${url}`;
