import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { sbomOf } from "../deploy/sbom.ts";
import { bundle } from "../src/node/bundle.ts";

const root = join(import.meta.dirname, "..");
const read = (name: string): string => readFileSync(join(root, name), "utf8");

interface Locked {
  readonly version: string;
  readonly integrity?: string;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
}
const locked = (JSON.parse(read("package-lock.json")) as { packages: Record<string, Locked> }).packages;
const packages = Object.entries(locked).filter(([path]) => path !== "");

test("every package is locked to its exact bytes, and no script of any runs at install", () => {
  for (const [path, { integrity }] of packages) assert.match(integrity ?? "", /^sha512-[\w+/]{86}==$/, path);
  assert.match(read(".npmrc"), /^ignore-scripts=true$/m);
  const { dependencies, devDependencies, optionalDependencies } = JSON.parse(read("package.json")) as Record<
    string,
    Record<string, string>
  >;
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies }))
    assert.match(version, /^\d+\.\d+\.\d+$/, `${name} is pinned`);
});

test("the SBOM names every package that is shipped with its hash, and is the same each time", () => {
  const text = read("package-lock.json");
  const bom = sbomOf(text) as {
    bomFormat: string;
    components: { name: string; version: string; purl: string; hashes: { content: string }[] }[];
    dependencies: { ref: string; dependsOn: string[] }[];
  };
  assert.equal(bom.bomFormat, "CycloneDX");
  assert.deepEqual(sbomOf(text), bom);
  const shipped = packages.filter(([, { dev }]) => !dev);
  assert.ok(shipped.length > 30);
  assert.equal(bom.components.length, shipped.length);
  for (const [path, { version, integrity }] of shipped) {
    const name = path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
    const found = bom.components.filter((it) => it.name === name && it.version === version);
    const hex = Buffer.from(integrity!.slice("sha512-".length), "base64").toString("hex");
    assert.ok(
      found.some(({ hashes }) => hashes[0]?.content === hex),
      `${name} ${version}`,
    );
  }
  assert.ok(!bom.components.some(({ name }) => name === "typescript"), "what only developers need is no part of it");
  const known = new Set([...bom.components.map(({ purl }) => purl), bom.dependencies[0].ref]);
  for (const { ref, dependsOn } of bom.dependencies)
    for (const one of [ref, ...dependsOn]) assert.ok(known.has(one), one);
  assert.ok(bom.dependencies[0].dependsOn.some((ref) => ref.startsWith("pkg:npm/fastify@")));
});

/** Packs the package out of a directory of its own, built anew, its files as old as `timeS` says. */
async function packed(timeS: number): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-pack-"));
  try {
    const from = join(directory, "package");
    mkdirSync(join(from, "dist"), { recursive: true });
    for (const name of ["package.json", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "bin", "docs"])
      cpSync(join(root, name), join(from, name), { recursive: true });
    await bundle({ root, entry: join(root, "src/main.ts"), to: join(from, "dist") });
    for (const name of readdirSync(from, { recursive: true, encoding: "utf8" }))
      utimesSync(join(from, name), timeS, timeS);
    await promisify(execFile)("npm", ["pack", "--ignore-scripts", "--pack-destination", directory], { cwd: from });
    const [file] = readdirSync(directory).filter((name) => name.endsWith(".tgz"));
    return createHash("sha256")
      .update(readFileSync(join(directory, file)))
      .digest("hex");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test("the package is reproducible: built and packed twice, elsewhere and at another time, it has the same bytes", async () => {
  assert.equal(await packed(1_000_000_000), await packed(1_700_000_000));
});
