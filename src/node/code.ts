/**
 * The code that the processes run: one bundle, split so that a service loads only its role, with V8's compile cache made
 * beside it. Made at the first start and kept by content: 12 processes of source files cost twice the memory and three times
 * the time. It lies where every service may read it: a service's own uid cannot see into a home of mode 0700.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { fail } from "../kernel/error.ts";
import { bundle, DATABASE_FILE, databaseFile, SERVICE } from "./bundle.ts";
import { NODE_CACHE_UNUSABLE } from "./codes.ts";
import { launcherFile } from "./confine/launcher.ts";
import { archOf, koffiFile } from "./confine/libc.ts";
import { NODE_FLAGS } from "./flags.ts";
import { COMPILE_CACHE, type Manifest } from "./manifest.ts";
import { inTurn } from "./turn.ts";

/** Where a made code lies, and what is in it. */
export interface Code {
  readonly directory: string;
  /** Runs the node, and with `--compact` all services. */
  readonly main: string;
  /** Runs the program of one service, whose file is its first argument. */
  readonly service: string;
  /** The file of each service's program, by the service's name. */
  readonly scripts: Readonly<Record<string, string>>;
  readonly launcher: string;
  readonly manifest: readonly Manifest[];
  /** Of V8; each uid has a name of its own in it. */
  readonly compileCache: string;
}

/** Old code is kept for so many versions, for nodes that still run it. */
const KEPT_MAX = 4;
/** All that a process is started by. */
const MAIN = "main.js";
const LAUNCHER = "launcher";
const MANIFEST = "manifest.json";
/** There when all the rest is; bin/holdfast looks for it, too. */
const COMPLETE = "complete";
/** Says in made code which package it was made of. */
export const ROOT_FILE = "package-root";
const WARM_TIMEOUT_MS = 60_000;

export interface CodeSource {
  /** The package's directory. */
  readonly root: string;
  /** The composition root to bundle; `src/main.ts` unless a test has another. */
  readonly entry?: string;
  /** Where made code is kept. */
  readonly cache?: string;
}

/** Tells where made code is kept: HOLDFAST_CACHE, else /var/cache/holdfast as root, else below XDG_CACHE_HOME or ~/.cache. */
export function cacheDirectoryOf(env: NodeJS.ProcessEnv, asRoot = process.geteuid?.() === 0): string {
  if (env["HOLDFAST_CACHE"]) return resolve(env["HOLDFAST_CACHE"]);
  if (asRoot) return "/var/cache/holdfast";
  return join(env["XDG_CACHE_HOME"] || join(env["HOME"] || homedir(), ".cache"), "holdfast");
}

/** Finds the code of this source, making it where it is not there yet. `say` is told of what takes long. NODE_CACHE_UNUSABLE. */
export async function prepareCode(source: CodeSource, say: (words: string) => void = () => {}): Promise<Code> {
  const cache = source.cache ?? cacheDirectoryOf(process.env);
  const built = existsSync(join(source.root, "dist", MAIN)) && !existsSync(join(source.root, "src"));
  const files = built
    ? listFiles(join(source.root, "dist"))
    : [...listFiles(join(source.root, "src")), join(source.root, "package-lock.json")];
  const entry = source.entry ?? join(source.root, "src", "main.ts");
  const mark = markOf([...files, join(source.root, "package.json")], entry);
  const directory = join(cache, `code-${mark}`);
  ownDirectory(cache);
  const isMade = () => existsSync(join(directory, COMPLETE));
  await inTurn(join(cache, `making-${mark}`), isMade, async () => {
    say(built ? "laying out the code for this machine (once)" : "bundling the code (once for each change of it)");
    await make(directory, source.root, async (to) => {
      if (built) for (const file of files) copyFileSync(file, join(to, basename(file)));
      else await bundle({ root: source.root, entry, to });
    });
    removeOld(cache, directory);
  }).catch((cause: unknown) => {
    throw refusedBy(cache, cause);
  });
  // Says that it is in use, for `removeOld` of a newer version, and newer than its source, for bin/holdfast.
  const now = new Date();
  for (const path of [directory, join(directory, COMPLETE)]) utimesSync(path, now, now);
  pointTo(cache, source.root, directory);
  return codeIn(directory);
}

/** Makes the code aside, puts it where it is looked for, and warms it there: V8 knows its cache by the files' places. */
async function make(directory: string, root: string, fill: (to: string) => Promise<void>): Promise<void> {
  const aside = `${directory}.new-${process.pid}`;
  try {
    rmSync(aside, { recursive: true, force: true });
    mkdirSync(aside, { mode: 0o755 });
    await fill(aside);
    copyFileSync(koffiFile(), join(aside, "koffi.node"));
    copyFileSync(databaseFile(root), join(aside, DATABASE_FILE));
    writeFileSync(join(aside, LAUNCHER), launcherFile(archOf()));
    writeFileSync(join(aside, ROOT_FILE), root);
    for (const name of readdirSync(aside)) chmodSync(join(aside, name), name === LAUNCHER ? 0o755 : 0o644);
    chmodSync(aside, 0o755);
    // Left by one that was killed before it had warmed it.
    rmSync(directory, { recursive: true, force: true });
    renameSync(aside, directory);
  } catch (cause) {
    rmSync(aside, { recursive: true, force: true });
    throw cause;
  }
  await warm(directory);
}

/** Lets bin/holdfast find the code of a clone without reading the source: a command then starts in a third of the time. */
function pointTo(cache: string, root: string, directory: string): void {
  const link = linkOf(cache, root);
  const aside = `${link}.new-${process.pid}`;
  symlinkSync(basename(directory), aside);
  renameSync(aside, link);
}

const linkOf = (cache: string, root: string): string => join(cache, `of${root.replaceAll("/", "+")}`);

/** Finds the code that was made last of the same package as this one. */
export function newestCode({ directory }: Code): { code: Code; root: string } {
  const root = readFileSync(join(directory, ROOT_FILE), "utf8");
  const link = linkOf(dirname(directory), root);
  return { code: codeIn(existsSync(link) ? realpathSync(link) : directory), root };
}

/** Reads what a made code says about itself. */
export function codeIn(directory: string): Code {
  const made = JSON.parse(readFileSync(join(directory, MANIFEST), "utf8")) as {
    manifests: Manifest[];
    scripts: Record<string, string>;
  };
  return {
    directory,
    main: join(directory, MAIN),
    service: join(directory, SERVICE),
    scripts: made.scripts,
    launcher: join(directory, LAUNCHER),
    manifest: made.manifests,
    compileCache: join(directory, COMPILE_CACHE),
  };
}

/** Loads every service once, so that V8's cache of compiled code is there, and writes down what the services say of themselves. */
async function warm(directory: string): Promise<void> {
  const compileCache = join(directory, COMPILE_CACHE);
  const options = { env: {}, timeout: WARM_TIMEOUT_MS, maxBuffer: 16 * 1024 * 1024 };
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [...NODE_FLAGS, join(directory, MAIN), "manifest"],
    options,
  );
  if (stderr !== "") process.stderr.write(stderr);
  writeFileSync(join(directory, MANIFEST), stdout, { mode: 0o644 });
  for (const name of readdirSync(compileCache, { recursive: true, encoding: "utf8" })) {
    const path = join(compileCache, name);
    chmodSync(path, statSync(path).isDirectory() ? 0o755 : 0o644);
  }
  chmodSync(compileCache, 0o755);
  writeFileSync(join(directory, COMPLETE), "", { mode: 0o644 });
}

/** Lets a service of another uid use the compile cache: Node names the directory after the uid (its name ends in -UID). */
export function shareCompileCache(compileCache: string, uids: readonly number[]): void {
  const own = readdirSync(compileCache, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  for (const { name } of own) {
    for (const uid of uids) {
      const link = join(compileCache, `${name.slice(0, name.lastIndexOf("-"))}-${uid}`);
      if (!lstatSync(link, { throwIfNoEntry: false })) symlinkSync(name, link);
    }
  }
}

function listFiles(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".test.ts") && !entry.name.endsWith(".md"))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** Names a source by its files' names, sizes and times: reading them all would cost each start more than it may. */
function markOf(files: readonly string[], entry: string): string {
  const hash = createHash("sha256").update(`${process.version} ${process.arch} ${entry}\n`);
  for (const file of files) {
    const at = statSync(file, { bigint: true, throwIfNoEntry: false });
    if (at) hash.update(`${file} ${at.size} ${at.mtimeNs}\n`);
  }
  return hash.digest("hex").slice(0, 24);
}

/** Makes the cache directory, and refuses one of somebody else: what lies in it is executed. */
function ownDirectory(cache: string): void {
  try {
    mkdirSync(cache, { recursive: true, mode: 0o755 });
  } catch (cause) {
    throw refusedBy(cache, cause);
  }
  const at = lstatSync(cache);
  if (!at.isDirectory() || at.uid !== process.geteuid?.() || (at.mode & 0o022) !== 0) {
    throw fail(NODE_CACHE_UNUSABLE, `the code cache ${cache} is not a directory that this user alone may write`);
  }
}

const refusedBy = (cache: string, cause: unknown): Error =>
  /^E[A-Z]+$/.test(String((cause as NodeJS.ErrnoException).code))
    ? fail(
        NODE_CACHE_UNUSABLE,
        `the code cache ${cache} cannot be written (${(cause as NodeJS.ErrnoException).code})`,
        { cause },
      )
    : (cause as Error);

/** Removes all but the newest codes. */
function removeOld(cache: string, current: string): void {
  const codes = readdirSync(cache)
    .filter((name) => name.startsWith("code-"))
    .map((name) => join(cache, name));
  const aged = codes
    .filter((path) => path !== current)
    .map((path) => ({ path, usedMs: statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0 }));
  aged.sort((a, b) => b.usedMs - a.usedMs);
  for (const { path } of aged.slice(KEPT_MAX - 1)) rmSync(path, { recursive: true, force: true });
}
