/** Chooses how an answer is encoded (RFC 9110 12.5.3). */

export type Encoding = "br" | "gzip" | "identity";

/** Reads Accept-Encoding: the best of what we have that the client takes; brotli goes before gzip where both are alike. */
export function encodingOf(header: string | undefined): Encoding {
  if (header === undefined) return "identity";
  const weights = new Map<string, number>();
  for (const item of header.toLowerCase().split(",").slice(0, 32)) {
    const [name, ...parameters] = item.split(";").map((part) => part.trim());
    const q = parameters.find((p) => p.startsWith("q="))?.slice(2);
    const weight = q === undefined ? 1 : /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(q) ? Number(q) : 0;
    weights.set(name === "x-gzip" ? "gzip" : name, weight);
  }
  const of = (name: string) => weights.get(name) ?? weights.get("*") ?? 0;
  const [br, gzip] = [of("br"), of("gzip")];
  if (br > 0 && br >= gzip) return "br";
  return gzip > 0 ? "gzip" : "identity";
}
