/**
 * Says what a release is made of: `npm run sbom` writes a CycloneDX 1.6 document of the lockfile to standard output. It names no
 * time and no machine, so that the same lockfile gives the same bytes.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

interface Locked {
  readonly name?: string;
  readonly version: string;
  readonly integrity?: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}
interface Lockfile {
  readonly packages: Readonly<Record<string, Locked>>;
}

const MODULES = "node_modules/";
const nameOf = (path: string): string => path.slice(path.lastIndexOf(MODULES) + MODULES.length);
/** The package URL: the `@` of a scope is encoded, its slash is not. */
const purlOf = (name: string, version: string): string => `pkg:npm/${name.replace("@", "%40")}@${version}`;

/** Makes the document of a lockfile; what only developers install is left out. */
export function sbomOf(text: string): object {
  const { packages } = JSON.parse(text) as Lockfile;
  const shipped = Object.entries(packages).filter(([, { dev }]) => !dev);
  const referenceOf = new Map(
    shipped.map(([path, { version, name }]) => [path, purlOf(name ?? nameOf(path), version)]),
  );
  const components = shipped.filter(([path]) => path !== "");
  const [, own] = shipped.find(([path]) => path === "")!;
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: `urn:uuid:${uuidOf(text)}`,
    version: 1,
    metadata: { component: { type: "application", ...described("", own), "bom-ref": referenceOf.get("") } },
    components: components.map(([path, locked]) => ({
      type: "library",
      "bom-ref": referenceOf.get(path),
      ...described(path, locked),
      purl: referenceOf.get(path),
      scope: locked.optional ? "optional" : "required",
      hashes: hashesOf(locked.integrity),
    })),
    dependencies: shipped.map(([path, locked]) => ({
      ref: referenceOf.get(path),
      dependsOn: Object.keys({ ...locked.dependencies, ...locked.optionalDependencies })
        .map((name) => referenceOf.get(found(packages, path, name) ?? ""))
        .filter((reference) => reference !== undefined),
    })),
  };
}

function described(path: string, { name = nameOf(path), version, license }: Locked) {
  return { name, version, ...(license === undefined ? {} : { licenses: [{ expression: license }] }) };
}

/** The lockfile's integrity is base64, CycloneDX's hashes are hex. */
const hashesOf = (integrity = "") =>
  integrity
    .split(" ")
    .filter((word) => word.startsWith("sha512-"))
    .map((word) => ({ alg: "SHA-512", content: Buffer.from(word.slice("sha512-".length), "base64").toString("hex") }));

/** Finds which of several versions a package gets: the nearest, as Node looks for it. */
function found(packages: Lockfile["packages"], from: string, name: string): string | undefined {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf(MODULES) - 1))) {
    const path = `${at === "" ? "" : `${at}/`}${MODULES}${name}`;
    if (path in packages) return path;
    if (at === "") return undefined;
  }
}

/** A UUID of version 8 (RFC 9562 5.8), made of the content. */
function uuidOf(text: string): string {
  const bytes = createHash("sha256").update(text).digest().subarray(0, 16);
  bytes[6] = (bytes[6] & 0x0f) | 0x80;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

if (import.meta.main) {
  const text = readFileSync(join(import.meta.dirname, "../package-lock.json"), "utf8");
  process.stdout.write(`${JSON.stringify(sbomOf(text), undefined, 2)}\n`);
}
