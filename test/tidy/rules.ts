/** The house rules of CONTRIBUTING.md that a machine can check: each takes the files and gives back what is wrong, as sentences. */
import { blank, type File, isTest, lineOf, type Tree } from "./tree.ts";

/** Lines of a file in src; functions are counted by the linter, which has a parser (.oxlintrc.json). */
export const FILE_LINES_MAX = 300;

export function tooLong(tree: Tree): string[] {
  return inSource(tree).flatMap((file) => {
    const lines = file.text.trimEnd().split("\n").length;
    return lines > FILE_LINES_MAX
      ? [`${file.path} has ${lines} lines; at most ${FILE_LINES_MAX}: a noun in it wants a file of its own`]
      : [];
  });
}

/** Names that say nothing of what is in the file. */
export function namelessFiles(tree: Tree): string[] {
  return tree
    .filter((file) => /(?:^|\/)(?:utils?|helpers?|misc|common)(?:\.test)?\.ts$/.test(file.path))
    .map((file) => `${file.path}: name the file after the noun in it`);
}

// The words are put together so that this file does not hold them.
const BANNED: readonly { readonly pattern: RegExp; readonly instead: string; readonly tests: boolean }[] = [
  {
    pattern: new RegExp(`\\b(?:${["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"].join("|")})\\b`, "g"),
    instead: "do it now, or file an issue",
    tests: true,
  },
  { pattern: new RegExp("\\bfor" + "\\s+now\\b", "gi"), instead: "say until when, or make it right", tests: true },
];
const BANNED_COMMENTS: typeof BANNED = [
  { pattern: new RegExp("@ts-" + "(?:ignore|nocheck)\\b", "g"), instead: "give the value its type", tests: true },
  { pattern: new RegExp("@ts-" + "expect-error\\b", "g"), instead: "give the value its type", tests: false },
];
const BANNED_CODE: typeof BANNED = [
  {
    pattern: new RegExp("\\bas\\s+" + "any\\b|<\\s*any\\s*>|:\\s*any\\b", "g"),
    instead: "unknown, and look at it",
    tests: true,
  },
  {
    pattern: /\bcatch\s*(?:\([^)]*\))?\s*\{\s*\}/g,
    instead: "handle it, or say in a comment why there is nothing to do",
    tests: true,
  },
];

export function bannedWords(tree: Tree): string[] {
  return tree
    .filter((file) => /\.(?:ts|md|sh|json)$/.test(file.path) && file.path !== "package-lock.json")
    .flatMap((file) => {
      // A page may name such a word as code.
      if (!file.path.endsWith(".ts"))
        return found(
          file,
          file.text.replaceAll(/`[^`\n]*`/g, (code) => " ".repeat(code.length)),
          BANNED,
        );
      const words = found(file, file.text, [...BANNED, ...BANNED_COMMENTS]);
      // An empty catch may hold a comment that says why; so strings are blanked here, and comments only where they are alone.
      const catchless = file.text.replaceAll(/(\bcatch\s*(?:\([^)]*\))?\s*\{\s*)\/[/*]/g, "$1;//");
      return [...words, ...found(file, blank(catchless, true), BANNED_CODE)];
    });
}

function found(file: File, text: string, words: typeof BANNED): string[] {
  return words
    .filter((word) => word.tests || !isTest(file.path))
    .flatMap(({ pattern, instead }) =>
      [...text.matchAll(pattern)].map(
        (match) => `${file.path}:${lineOf(text, match.index)} has '${match[0]}': ${instead}`,
      ),
    );
}

/** Every code that `code("...")` declares is on the page, and every code on the page is declared. */
export function unlistedCodes(tree: Tree, page: string): string[] {
  const declared = new Map<string, string>();
  for (const file of inSource(tree)) {
    for (const match of blank(file.text, false).matchAll(/\bcode\(\s*"([A-Z][A-Z0-9_]+)"/g))
      declared.set(match[1], file.path);
  }
  const listed = new Set(
    [...page.matchAll(/`([A-Z][A-Z0-9_]*_[A-Z0-9_]+|DEADLINE|UNAVAILABLE)`/g)].map((match) => match[1]),
  );
  return [
    ...[...declared]
      .filter(([name]) => !listed.has(name))
      .map(([name, file]) => `${file} declares ${name}, which docs/errors.md does not list`),
    ...[...listed]
      .filter((name) => !declared.has(name))
      .map((name) => `docs/errors.md lists ${name}, which nothing declares`),
  ];
}

export const inSource = (tree: Tree): Tree =>
  tree.filter((file) => file.path.startsWith("src/") && file.path.endsWith(".ts") && !isTest(file.path));
