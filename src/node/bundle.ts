/** Bundles the source: what a process runs, without what it never uses. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire, isBuiltin } from "node:module";
import { dirname, join } from "node:path";
import type { build as Build, Plugin } from "esbuild";

/** Bundles the source into a directory: main.js, cli.js and what they share. */
export async function bundle(options: { root: string; entry: string; to: string }): Promise<void> {
  // Loaded here alone: 9 MB that a node which is already bundled never reads.
  const { root, entry, to } = options;
  // From the package: a command that runs from a bundle, which has just grown old, lies where no packages are.
  const { build } = createRequire(join(root, "package.json"))("esbuild") as { build: typeof Build };
  await build({
    absWorkingDir: root,
    entryPoints: {
      main: entry,
      cli: join(root, "src/cli/main.ts"),
    },
    outdir: to,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    chunkNames: "[name]-[hash]",
    plugins: [leaveOut(UNUSED), byRequire, withNative(root)],
    external: ["esbuild", "koffi"],
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
    legalComments: "none",
    logLevel: "silent",
  });
  // Else Node reads each file twice to find out what it is.
  writeFileSync(join(to, "package.json"), '{"type":"module"}\n');
  const commands = readdirSync(join(root, "src/cli/commands")).filter(
    (name) => name.endsWith(".ts") && !name.endsWith(".test.ts"),
  );
  writeFileSync(join(to, "commands.json"), JSON.stringify(commands.map((name) => name.slice(0, -3)).sort()));
}

/**
 * What Fastify and pino load at their start for things that no service does: routes with schemas of Fastify's own (contracts
 * are checked by kernel/check.ts), tests without a socket, logs over a worker thread. It is half of the code of a process.
 */
const UNUSED = [
  "@fastify/ajv-compiler",
  "@fastify/fast-json-stringify-compiler",
  "light-my-request",
  "thread-stream",
  "node:http2",
];

/** Puts something that throws when it is used in the place of these packages. */
function leaveOut(packages: readonly string[]): Plugin {
  const contents = `module.exports = () => () => () => { throw new Error("left out of the bundle: see node/bundle.ts"); };`;
  return {
    name: "leave-out",
    setup(build) {
      build.onResolve({ filter: /./ }, ({ path }) =>
        packages.includes(path) ? { path, namespace: "left-out" } : undefined,
      );
      build.onLoad({ filter: /./, namespace: "left-out" }, () => ({ contents, loader: "js" }));
    },
  };
}

/**
 * Takes Node's own modules by require: an ESM import of node:http reads every export, `WebSocket` too, and that loads all of
 * undici, 0.1 s and 5 MB in every process.
 */
const byRequire: Plugin = {
  name: "by-require",
  setup(build) {
    build.onResolve({ filter: /./ }, ({ path, kind, namespace }) => {
      if (kind === "require-call" || namespace === "by-require" || !isBuiltin(path)) return undefined;
      return { path: path.startsWith("node:") ? path : `node:${path}`, namespace: "by-require" };
    });
    build.onLoad({ filter: /./, namespace: "by-require" }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)});`,
      loader: "js",
    }));
  },
};

const DATABASE = "better-sqlite3-multiple-ciphers";
/** The database's native file, beside the code as koffi's is. */
export const DATABASE_FILE = "sqlite.node";

/**
 * Lets the database load the native file beside the code: the package would look for its own at run time, with a report of
 * the whole process, and a bundle for one kind of machine would be of no use on another.
 */
function withNative(root: string): Plugin {
  const lib = join(packageOf(root, DATABASE), "lib");
  const file = JSON.stringify(`./${DATABASE_FILE}`);
  const contents = [
    `module.exports = require(${JSON.stringify(join(lib, "database.js"))})(() => require(${file}), false);`,
    `module.exports.SqliteError = require(${JSON.stringify(join(lib, "sqlite-error.js"))});`,
  ].join("\n");
  return {
    name: "with-native",
    setup(build) {
      build.onResolve({ filter: /./ }, ({ path }) => {
        if (path === DATABASE) return { path, namespace: "with-native" };
        return path === `./${DATABASE_FILE}` ? { path, external: true } : undefined;
      });
      build.onLoad({ filter: /./, namespace: "with-native" }, () => ({ contents, loader: "js", resolveDir: root }));
    },
  };
}

/** Finds the database's native file for this machine and C library. */
export function databaseFile(root: string): string {
  const libc = readFileSync("/proc/self/maps", "latin1").includes("/ld-musl-") ? "linuxmusl" : "linux";
  return join(packageOf(root, DATABASE), "prebuilds", `${libc}-${process.arch}.node`);
}

const packageOf = (root: string, name: string): string =>
  dirname(createRequire(join(root, "package.json")).resolve(`${name}/package.json`));
