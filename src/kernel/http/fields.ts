/** Splits header lines (RFC 9112 5) that were found well-formed, each with its CRLF, into name, value, name, value. */
export function splitFields(text: string): string[] {
  const raw: string[] = [];
  for (let at = 0; at < text.length;) {
    const end = text.indexOf("\r\n", at);
    const colon = text.indexOf(":", at);
    raw.push(text.slice(at, colon), trimmed(text, colon + 1, end));
    at = end + 2;
  }
  return raw;
}

const isBlank = (code: number): boolean => code === 32 || code === 9;

/** RFC 9110 5.5: white space around a value is no part of it. */
function trimmed(text: string, from: number, to: number): string {
  let [start, end] = [from, to];
  while (start < end && isBlank(text.charCodeAt(start))) start++;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}
