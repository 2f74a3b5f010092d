/** Bundles a service of somebody else's with the kit, into a file that its process runs. None of its code runs meanwhile. */
import { existsSync, readFileSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";
import type { build as Build, BuildFailure, Plugin } from "esbuild";
import { fail } from "../../kernel/error.ts";
import { guestSettings } from "../bundle.ts";
import { NODE_GUEST_FILE_MISSING, NODE_GUEST_UNUSABLE } from "./spec.ts";

/** What a guest's process runs, and what it is run with to tell what it is. */
export const GUEST_START = "start.cjs";
export const DESCRIBE = "describe";
const PROGRAM = "guest.cjs";
const START_TEXT = `"use strict";
const { role } = require("./${PROGRAM}");
process.argv[2] === "${DESCRIBE}" ? role.describe() : role.run();
`;
const MAINS = ["main.ts", "main.js", "main.mjs", "main.cjs"];
/** One mistake makes dozens of others. */
const ERRORS_SHOWN = 3;

/** Finds a service's file: itself, or `main` in its folder. NODE_GUEST_FILE_MISSING. */
export function guestFile(path: string): string {
  const at = statSync(path, { throwIfNoEntry: false });
  if (!at) throw fail(NODE_GUEST_FILE_MISSING, `there is no file ${path}`);
  if (!at.isDirectory()) return realpathSync(path);
  const named = mainOf(join(path, "package.json"));
  const found = [...MAINS, ...(named === undefined ? [] : [named])].map((name) => join(path, name)).find(existsSync);
  if (found === undefined) throw fail(NODE_GUEST_FILE_MISSING, `${path} holds none of ${MAINS.join(", ")}`);
  return realpathSync(found);
}

function mainOf(file: string): string | undefined {
  if (!existsSync(file)) return undefined;
  const { main } = JSON.parse(readFileSync(file, "utf8")) as { main?: unknown };
  return typeof main === "string" ? main : undefined;
}

/** Bundles the file into a directory; `root` is this package's. NODE_GUEST_UNUSABLE says what is wrong with the source. */
export async function bundleGuest(root: string, file: string, to: string): Promise<void> {
  const need = createRequire(join(root, "package.json"));
  let build: typeof Build;
  try {
    ({ build } = need("esbuild") as { build: typeof Build });
  } catch (cause) {
    throw fail(NODE_GUEST_UNUSABLE, `what bundles services is not installed at ${root} (an image has none)`, { cause });
  }
  const settings = guestSettings(root, to);
  try {
    await build({
      ...settings,
      entryPoints: [{ in: `guest:${file}`, out: "guest" }],
      plugins: [own(file, root), program(root), ...(settings.plugins ?? [])],
    });
  } catch (cause) {
    throw fail(NODE_GUEST_UNUSABLE, `${file} cannot be bundled: ${wordsOf(cause)}`, { cause });
  }
  writeFileSync(join(to, GUEST_START), START_TEXT);
  writeFileSync(join(to, "package.json"), '{"type":"commonjs"}\n');
}

function wordsOf(cause: unknown): string {
  const { errors } = cause as Partial<BuildFailure>;
  if (!errors) return cause instanceof Error ? cause.message : String(cause);
  return errors
    .slice(0, ERRORS_SHOWN)
    .map(({ text, location }) => (location ? `${location.file}:${location.line}: ${text}` : text))
    .join("; ");
}

/** The program: the guest's module, given to the kit's role. */
const program = (root: string): Plugin => ({
  name: "guest",
  setup(build) {
    build.onResolve({ filter: /^guest:/ }, ({ path }) => ({ path: path.slice("guest:".length), namespace: "guest" }));
    build.onLoad({ filter: /./, namespace: "guest" }, ({ path }) => ({
      contents: `import * as given from ${JSON.stringify(path)}; import { roleOfGuest } from "@holdfast/edge/guest"; export const role = roleOfGuest(given);`,
      loader: "ts",
      resolveDir: root,
    }));
  },
});

/** Lets in the guest's own files and packages alone: what root may read is not what a stranger's import statement may. */
function own(file: string, root: string): Plugin {
  const home = packageAbove(dirname(file)) ?? dirname(file);
  const isBelow = (path: string, at: string): boolean => path.startsWith(at.endsWith(sep) ? at : `${at}${sep}`);
  return {
    name: "own",
    setup(build) {
      build.onLoad({ filter: /./, namespace: "file" }, ({ path }) => {
        const real = realpathSync(path);
        if (isBelow(real, home) || isBelow(real, realpathSync(root)) || real.includes(`${sep}node_modules${sep}`))
          return undefined;
        return { errors: [{ text: `${path} is not a file of the service: those lie below ${home}` }] };
      });
    },
  };
}

/** The folder with the package.json that a file belongs to; the file system's root belongs to nobody. */
function packageAbove(directory: string): string | undefined {
  for (let at = directory; at !== dirname(at); at = dirname(at)) if (existsSync(join(at, "package.json"))) return at;
  return undefined;
}
