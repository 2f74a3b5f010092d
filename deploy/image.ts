/** Lays out what the image holds: `bin/node deploy/image.ts DIRECTORY`, then `podman build DIRECTORY`. Nothing is downloaded. */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { prepareCode } from "../src/node/code.ts";
import { COMPILE_CACHE } from "../src/node/manifest.ts";

const root = join(import.meta.dirname, "..");
/** As in the Containerfile. */
const USER = "holdfast:x:65532:65532::/:/nonexistent\n";

/** Makes the image's directory; `entry` is another composition root than the product's, for tests. */
export async function layOut(directory: string, entry?: string): Promise<void> {
  const to = resolve(directory);
  const [image, own, cache] = [join(to, "root"), join(to, "own"), join(to, "cache")];
  for (const path of [image, own]) rmSync(path, { recursive: true, force: true });
  const code = await prepareCode({ root, cache, ...(entry === undefined ? {} : { entry }) });
  // V8 knows its cache by where the files lay, and they lie elsewhere in the image.
  cpSync(code.directory, join(image, "app"), {
    recursive: true,
    filter: (path) => path !== join(code.directory, COMPILE_CACHE),
  });
  place(process.execPath, join(image, "usr/bin/node"), 0o755);
  for (const library of librariesOf(process.execPath)) place(library, join(image, library), 0o755);
  const etc = join(image, "etc");
  mkdirSync(join(etc, "holdfast"), { recursive: true });
  writeFileSync(join(etc, "passwd"), USER);
  writeFileSync(join(etc, "nsswitch.conf"), "hosts: files dns\n");
  copyFileSync(join(import.meta.dirname, "holdfast.yaml"), join(etc, "holdfast/holdfast.yaml"));
  for (const path of ["tmp", "run", "var/tmp"]) mkdirSync(join(image, path), { recursive: true });
  chmodSync(join(image, "tmp"), 0o1777);
  for (const path of ["var/lib/holdfast", "var/lib/holdfast-key"])
    mkdirSync(join(own, path), { recursive: true, mode: 0o700 });
  copyFileSync(join(import.meta.dirname, "Containerfile"), join(to, "Containerfile"));
  writeFileSync(join(to, ".containerignore"), "cache\n");
}

function place(from: string, to: string, mode: number): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  chmodSync(to, mode);
}

/** The loader, and what it says that a program loads. */
function librariesOf(program: string): string[] {
  const loader = /\s(\/\S*\/ld-linux[^/\s]*)$/m.exec(readFileSync("/proc/self/maps", "latin1"))?.[1];
  if (loader === undefined) throw new Error("this Node has no loader of glibc: the image cannot be made of it");
  const listed = execFileSync(loader, ["--list", program], { encoding: "utf8" });
  const libraries = Array.from(listed.matchAll(/(\/\S+) \(0x/g), ([, path]) => path);
  // By the name that the program asks for, and by that which the loader was found under.
  return [...new Set([...libraries, loader, ...interpreterOf(program)])];
}

/** PT_INTERP of an ELF file: where the kernel looks for the loader. */
function interpreterOf(program: string): string[] {
  const found = /\/lib\S*\/ld-linux[\w.-]*/.exec(readFileSync(program).subarray(0, 8_192).toString("latin1"));
  return found ? [found[0]] : [];
}

if (import.meta.main) {
  const [directory] = process.argv.slice(2);
  if (directory === undefined) throw new Error("usage: bin/node deploy/image.ts DIRECTORY");
  await layOut(directory);
}
