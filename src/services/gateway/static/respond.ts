/** Answers that need nobody: a fixed one, another address, and "closed for a while". */
import { fail } from "../../../kernel/error.ts";
import { JSON_TYPE } from "../../../kernel/wire.ts";
import { Said } from "../headers.ts";
import { pathWriter } from "../routes/template.ts";
import { GATEWAY_MAINTENANCE, type RedirectSettings, type RespondSettings } from "../static.api.ts";
import type { Handler, Step } from "../visit.ts";

/** Makes the handler of a fixed answer: written once, given each time. */
export function respond({ status, headers, json, text }: RespondSettings): Handler {
  const body = Buffer.from(json === undefined ? (text ?? "") : JSON.stringify(json));
  const type = json === undefined ? "text/plain; charset=utf-8" : JSON_TYPE;
  const given = Object.entries(headers).flat();
  const named = Object.keys(headers).some((name) => name.toLowerCase() === "content-type");
  // RFC 9110 8.6, 15.3.5, 15.4.5: these have no body, and no length of one.
  const bodyless = status === 204 || status === 304;
  const typed = named || bodyless || body.length === 0 ? [] : ["Content-Type", type];
  const length = bodyless ? [] : ["Content-Length", String(body.length)];
  const said = new Said([...given, ...typed, ...length]);
  const reply = { status, headers: said.headers, said, body: bodyless ? undefined : body };
  return () => reply;
}

/** Makes the handler that sends clients elsewhere; `pattern` is the route's path. */
export function redirect({ to, status }: RedirectSettings, pattern: string): Handler {
  const origin = /^https?:\/\/[^/]+/.exec(to)?.[0] ?? "";
  const write = pathWriter(to.slice(origin.length), pattern);
  return ({ target }) => {
    // Two slashes at the start would name another host.
    const path = write(target!).replace(/^\/\/+/, "/");
    return { status, headers: ["Location", origin + path, "Content-Length", "0"], body: undefined };
  };
}

/** Refuses every request with GATEWAY_MAINTENANCE. */
export const maintenance =
  (retryAfterS: number, text: string): Step =>
  () =>
  () => {
    throw fail(GATEWAY_MAINTENANCE, text, { retryAfterS });
  };
