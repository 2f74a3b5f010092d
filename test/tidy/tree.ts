/** The files of the project, as the house rules look at them. */
import { globSync, readFileSync } from "node:fs";
import path from "node:path";

/** A file by its path from the root, with slashes. A rule sees nothing else, so a planted fault is a value, too. */
export interface File {
  readonly path: string;
  readonly text: string;
}

export type Tree = readonly File[];

/** Reads what of the project matches `pattern`, without what others made. */
export function readTree(root: string, pattern: string): Tree {
  return globSync(pattern, {
    cwd: root,
    exclude: (name) => ["node_modules", ".git", ".cache", "dist", "coverage"].includes(path.basename(name)),
  })
    .toSorted()
    .map((file) => ({ path: file, text: readFileSync(path.join(root, file), "utf8") }));
}

export const isTest = (file: string): boolean => file.startsWith("test/") || file.endsWith(".test.ts");

/** The line, from 1, in which the character `at` stands. */
export const lineOf = (text: string, at: number): number => text.slice(0, at).split("\n").length;

/**
 * Blanks out comments, and the inside of strings if `strings` is set, and leaves every line and column where it was. A cheap scan: it takes a
 * slash for a division or a regular expression by what stands before it, which is enough for formatted code.
 */
export function blank(text: string, strings: boolean): string {
  const part =
    /\/\/[^\n]*|\/\*[^]*?\*\/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\[^])*`|(?<=[=(,:;!&|?{}[]\s*|return\s)\/(?![*/])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/g;
  const spaces = (found: string) => found.replaceAll(/[^\n]/g, " ");
  return text.replaceAll(part, (found) => {
    if (found.startsWith("//") || found.startsWith("/*")) return spaces(found);
    return strings ? found[0] + spaces(found.slice(1, -1)) + found.at(-1)! : found;
  });
}

export interface Import {
  readonly line: number;
  /** As written: `./api.ts`, `node:fs`. */
  readonly from: string;
  /** The file from the root, if it is one of ours. */
  readonly file: string | undefined;
  /** Only types come over: nothing of the other module runs. */
  readonly types: boolean;
  /** Names of the values that come over, where they are listed by name. */
  readonly values: readonly string[];
}

/** Lists what a file imports or exports from elsewhere. */
export function importsOf(file: File): Import[] {
  const found: Import[] = [];
  const text = blank(file.text, false);
  const statement =
    /^[ \t]*(?:import|export)\b([^;"'`]*?)\bfrom\s*["']([^"'\n]+)["']|\bimport\s*\(\s*["']([^"'\n]+)["']|^[ \t]*import\s*["']([^"'\n]+)["']/gm;
  for (const match of text.matchAll(statement)) {
    const from = match[2] ?? match[3] ?? match[4] ?? "";
    const ours = from.startsWith(".")
      ? path.posix.normalize(path.posix.join(path.posix.dirname(file.path), from))
      : undefined;
    found.push({ line: lineOf(text, match.index), from, file: ours, ...namesOf(match[1]) });
  }
  return found;
}

/** Reads what stands between `import` and `from`. */
function namesOf(clause: string | undefined): Pick<Import, "types" | "values"> {
  const names = clause?.trim() ?? "";
  if (/^type\b(?!\s*,)/.test(names)) return { types: true, values: [] };
  const items =
    /^\{([^}]*)\}$/
      .exec(names)?.[1]
      ?.split(",")
      .map((item) => item.trim())
      .filter(Boolean) ?? [];
  const values = items.filter((item) => !/^type\s/.test(item)).map((item) => item.split(/\s/)[0]);
  return { types: items.length > 0 && values.length === 0, values };
}
