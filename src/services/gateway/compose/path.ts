/** Paths into answers: what a part takes of one, and what one part's request takes of another's answer. */

/** Finds what stands at `readings.0.value`; undefined where nothing does. */
export function at(value: unknown, path: readonly string[]): unknown {
  let found = value;
  for (const step of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, step)) return undefined;
    found = (found as Record<string, unknown>)[step];
  }
  return found;
}

/** A template in pieces: text, and what stands in braces as steps: `{device.profileName}`. */
export const readTemplate = (template: string): (string | readonly string[])[] =>
  template
    .split(/(\{[^}]*\})/)
    .filter((piece) => piece !== "")
    .map((piece) => (piece.startsWith("{") ? piece.slice(1, -1).split(".") : piece));
