/** Matches a pattern in which a `*` stands for any characters. */

/** Makes the matcher. Without backtracking: each piece between stars is looked for once, from the left. */
export function glob(pattern: string): (text: string) => boolean {
  const [first, ...rest] = pattern.split("*");
  if (rest.length === 0) return (text) => text === pattern;
  const last = rest.pop()!;
  return (text) => {
    if (!text.startsWith(first) || text.length < first.length + last.length || !text.endsWith(last)) return false;
    let at = first.length;
    const end = text.length - last.length;
    for (const piece of rest) {
      const found = text.indexOf(piece, at);
      if (found < 0 || found + piece.length > end) return false;
      at = found + piece.length;
    }
    return true;
  };
}
