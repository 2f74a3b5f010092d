/** Text on a terminal: how wide it is, cut and broken to a width, and nothing in it that moves the cursor. */
import { stripVTControlCharacters } from "node:util";

const graphemes = new Intl.Segmenter();
// What terminals give two columns: CJK and other wide scripts, fullwidth forms, emoji.
const WIDE =
  /^[\u1100-\u115F\u2E80-\u303E\u3041-\uA4CF\uAC00-\uD7A3\uF900-\uFAFF\uFE30-\uFE6F\uFF00-\uFF60\uFFE0-\uFFE6]|^\p{Emoji_Presentation}|^[\u{20000}-\u{3FFFD}]/u;
const CONTROL = /\p{Cc}|[\u2028\u2029\u202A-\u202E\u2066-\u2069]/gu;
const ASCII = /^[\x20-\x7E]*$/;

/** Makes what came from outside safe to show: no escape sequences, no line breaks, no turning of direction. */
export const plain = (text: string): string =>
  ASCII.test(text) ? text : stripVTControlCharacters(text).replace(CONTROL, "\u00B7");

/** Counts the columns that a text takes; styles take none. */
export function widthOf(text: string): number {
  if (ASCII.test(text)) return text.length;
  const bare = stripVTControlCharacters(text);
  if (ASCII.test(bare)) return bare.length;
  let width = 0;
  for (const { segment } of graphemes.segment(bare)) width += WIDE.test(segment) ? 2 : 1;
  return width;
}

/** Cuts a text without styles to a width; what was cut is shown by "…". */
export function cut(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  if (width < 1) return "";
  let out = "";
  let used = 1;
  for (const { segment } of graphemes.segment(text)) {
    used += WIDE.test(segment) ? 2 : 1;
    if (used > width) break;
    out += segment;
  }
  return `${out}…`;
}

/** Fills up to a width: spaces after the text, or before it. */
export function pad(text: string, width: number, right = false): string {
  const fill = " ".repeat(Math.max(0, width - widthOf(text)));
  return right ? fill + text : text + fill;
}

/** Breaks a text at spaces into lines of a width; a longer word stays whole, so that it can be copied. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && widthOf(line) + 1 + widthOf(word) > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
