/** Writes the path that a service is asked for from that which the gateway was asked for. */
import type { Target } from "./target.ts";

/** Makes the writer of a template; `pattern` is the path of the route whose names it uses. Without a template the path stays. */
export function pathWriter(template: string | undefined, pattern: string): (target: Target) => string {
  if (template === undefined) return ({ path, query }) => path + query;
  const names = pattern.slice(1).split("/");
  const [path, own] = split(template);
  const rest = path.endsWith("/**");
  const pieces = piecesOf(rest ? path.slice(0, -3) : path, names);
  const queries = own === undefined ? [] : piecesOf(own, names);
  return ({ segments, query }) => {
    const below = rest ? segments.slice(names.length - 1) : [];
    const written = write(pieces, segments) + below.map((segment) => `/${encodeURIComponent(segment)}`).join("");
    return (written === "" ? "/" : written) + joined(own === undefined ? "" : `?${write(queries, segments)}`, query);
  };
}

/** A piece of text, or the place of the segment that stands there. */
type Piece = string | number;

function piecesOf(template: string, names: readonly string[]): Piece[] {
  return template
    .split(/(\{[^}]*\})/)
    .filter((piece) => piece !== "")
    .map((piece) => (piece.startsWith("{") ? names.indexOf(piece) : piece));
}

const write = (pieces: readonly Piece[], segments: readonly string[]): string =>
  pieces.map((piece) => (typeof piece === "string" ? piece : encodeURIComponent(segments[piece]))).join("");

function split(template: string): [string, string | undefined] {
  const at = template.indexOf("?");
  return at < 0 ? [template, undefined] : [template.slice(0, at), template.slice(at + 1)];
}

/** The template's own query, then what the client asked. */
const joined = (own: string, asked: string): string =>
  own === "" ? asked : asked.length > 1 ? `${own}&${asked.slice(1)}` : own;
