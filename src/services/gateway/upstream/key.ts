/** What an instance is chosen by where it is chosen by a key. */
import type { UpstreamSettings } from "../upstream.api.ts";
import type { Visit } from "../visit.ts";

/** Makes the reader of a key (`client`, `subject`, `path`, `header:x`, `query:x`, `cookie:x`); what a request has not is empty. */
export function keyReader({ balance, key = "client" }: UpstreamSettings): ((visit: Visit) => string) | undefined {
  if (balance !== "hash") return undefined;
  const [kind, name = ""] = key.split(":");
  switch (kind) {
    case "subject":
      return (visit) => visit.verdict?.subject.name ?? visit.client;
    case "path":
      return (visit) => visit.target!.path;
    case "header":
      return (visit) => visit.header(name.toLowerCase()) ?? "";
    case "query":
      return (visit) => new URLSearchParams(visit.target!.query).get(name) ?? "";
    case "cookie":
      return (visit) => cookieOf(visit.header("cookie") ?? "", name);
    default:
      return (visit) => visit.client;
  }
}

/** RFC 6265 4.2.1. */
function cookieOf(header: string, name: string): string {
  for (const pair of header.split(";")) {
    const at = pair.indexOf("=");
    if (at > 0 && pair.slice(0, at).trim() === name) return pair.slice(at + 1).trim();
  }
  return "";
}
