/** Links in pages lead somewhere, and what ARCHITECTURE.md points at is there. */
import { existsSync } from "node:fs";
import path from "node:path";
import { type File, lineOf, type Tree } from "./tree.ts";

/** GitHub's anchor of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .replaceAll(/\s/g, "-");

const anchorsOf = (page: string): Set<string> =>
  new Set([...withoutCode(page).matchAll(/^#{1,6}\s+(.+)$/gm)].map((match) => anchorOf(match[1])));

/** Blanks out fenced code, in which brackets are not links. */
const withoutCode = (page: string): string =>
  page.replaceAll(/^(```|~~~)[^]*?^\1/gm, (code) => code.replaceAll(/[^\n]/g, " "));

/** Lists links to files that are not there and to headings that are not in the page; `exists` answers for paths from the root. */
export function deadLinks(pages: Tree, exists: (file: string) => boolean): string[] {
  const known = new Map(pages.map((page) => [page.path, page.text]));
  return pages.flatMap((page) =>
    [...withoutCode(page.text).matchAll(/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g)].flatMap((match) => {
      const target = match[1];
      if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return [];
      const [file = "", anchor] = target.split("#");
      const at =
        file === ""
          ? page.path
          : path.posix.normalize(path.posix.join(path.posix.dirname(page.path), decodeURIComponent(file)));
      const where = `${page.path}:${lineOf(page.text, match.index)} links to ${target}`;
      if (!exists(at)) return [`${where}, which is not there`];
      const text = known.get(at);
      return anchor && text !== undefined && !anchorsOf(text).has(anchor)
        ? [`${where}, which has no such heading`]
        : [];
    }),
  );
}

/** Lists each `path · symbol` of a page whose file is not there or does not hold the symbol; `read` gives a file's text. */
export function deadPointers(page: File, read: (file: string) => string | undefined): string[] {
  const pointer = /`([\w@.-]+(?:\/[\w@.-]+)*\.\w+)(?:`\s*·\s*`|\s+·\s+)([^`]+)`/g;
  return [...page.text.matchAll(pointer)].flatMap((match) => {
    const [, file = "", symbols = ""] = match;
    const where = `${page.path}:${lineOf(page.text, match.index)} points at ${file}`;
    const text = read(file);
    if (text === undefined) return [`${where}, which is not there`];
    return symbols
      .split(/[\s,.#()]+/)
      .filter((symbol) => /^[\p{L}_$][\p{L}\p{N}_$-]*$/u.test(symbol))
      .filter((symbol) => !new RegExp(`(?<![\\w$])${symbol.replaceAll("$", "\\$")}(?![\\w$])`).test(text))
      .map((symbol) => `${where} · ${symbol}, which is not in it`);
  });
}

export const existsIn =
  (root: string) =>
  (file: string): boolean =>
    existsSync(path.join(root, file));
