/** Makes what is published: `npm run build`. dist/ is the bundle that a clone makes at its first start, kit/ what services of others import. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { bundle } from "./bundle.ts";

const root = join(import.meta.dirname, "../..");
const [to, kit] = [join(root, "dist"), join(root, "kit")];
for (const directory of [to, kit]) {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
}
await bundle({ root, entry: join(root, "src/main.ts"), to });
const entries = readdirSync(join(root, "src/kit")).map((name) => join(root, "src/kit", name));
await build({
  absWorkingDir: root,
  entryPoints: entries,
  outdir: kit,
  bundle: true,
  splitting: true,
  chunkNames: "[name]-[hash]",
  platform: "node",
  format: "esm",
  target: "node24",
  packages: "external",
});
const options = ["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--rewriteRelativeImportExtensions"];
const strict = ["--target", "es2024", "--lib", "es2024,esnext", "--module", "nodenext", "--strict", "--skipLibCheck"];
const places = ["--ignoreConfig", "--types", "node", "--rootDir", join(root, "src"), "--outDir", join(kit, "types")];
const tsc = join(root, "node_modules/.bin/tsc");
const ended = spawnSync(process.execPath, [tsc, ...options, ...strict, ...places, ...entries], { encoding: "utf8" });
if (ended.status !== 0) throw new Error(`the kit's types cannot be made:\n${ended.stdout}${ended.stderr}`);
