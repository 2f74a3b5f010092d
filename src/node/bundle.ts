/** Bundles the source: what a process runs, without what it never uses. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire, isBuiltin } from "node:module";
import { dirname, join, relative } from "node:path";
import type { build as Build, BuildOptions as Settings, Metafile, Plugin } from "esbuild";
import { NODE_FLAGS } from "./flags.ts";
import { COMPILE_CACHE, ROLE_ENDING } from "./manifest.ts";

/** Starts the program of one service, its file being the first argument. */
export const SERVICE = "service.cjs";

/**
 * Node's own modules come first: the Node binary has V8's cache of them, made without our flags, and with a flag on the command
 * line V8 refuses it (74 modules compiled anew, 40 ms in each process). Then the flags, and then our own cache, which is bound to
 * them and must be named before the program is compiled.
 */
const serviceText = (builtins: readonly string[]): string => `"use strict";
for (const name of ${JSON.stringify(builtins)}) require(name);
for (const flag of ${JSON.stringify(NODE_FLAGS)}) require("node:v8").setFlagsFromString(flag);
require("node:module").enableCompileCache(require("node:path").join(__dirname, "${COMPILE_CACHE}"));
require(require("node:path").join(__dirname, process.argv[2])).role.run();
`;

export interface BundleOptions {
  readonly root: string;
  /** The composition root. */
  readonly entry: string;
  readonly to: string;
}

/** Bundles the source into a directory: main.js, cli.js and what they share, and one file for each service. */
export async function bundle(options: BundleOptions): Promise<void> {
  const { root, entry, to } = options;
  // Loaded here alone: 9 MB that a node which is already bundled never reads. From the package: a command that runs from a
  // bundle, which has just grown old, lies where no packages are.
  const { build } = createRequire(join(root, "package.json"))("esbuild") as { build: typeof Build };
  const shared: Settings = {
    absWorkingDir: root,
    outdir: to,
    bundle: true,
    platform: "node",
    target: "node24",
    external: ["esbuild", "koffi"],
    legalComments: "none",
    logLevel: "silent",
  };
  const { metafile } = await build({
    ...shared,
    entryPoints: { main: entry, cli: join(root, "src/cli/main.ts") },
    splitting: true,
    format: "esm",
    chunkNames: "[name]-[hash]",
    plugins: [kit(root), leaveOut(UNUSED), byRequire, withNative(root)],
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
    metafile: true,
  });
  // One CommonJS file a service, and no more in it than the service needs: a hundred ES modules take a tenth longer to start.
  // Names stay, for stacks.
  const { metafile: made } = await build({
    ...shared,
    metafile: true,
    entryPoints: servicesOf(metafile, relative(root, entry)).map((path) => ({
      in: `role:${path}`,
      out: roleName(path),
    })),
    format: "cjs",
    outExtension: { ".js": ROLE_ENDING },
    minifyWhitespace: true,
    minifySyntax: true,
    plugins: [kit(root), leaveOut([...UNUSED, ...UNUSED_BY_SERVICES]), byRequire, withNative(root), roles(root)],
  });
  writeFileSync(join(to, SERVICE), serviceText(builtinsOfAll(made)));
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

/** What no service uses of what the libraries load: Fastify's listening by host name, pino's question whether it is a worker. */
const UNUSED_BY_SERVICES = ["worker_threads", "node:dns"];

/** How a service of somebody else's is bundled with the kit (guests/bundle.ts); it may use what ours do not. */
export const guestSettings = (root: string, to: string): Settings => ({
  absWorkingDir: root,
  outdir: to,
  bundle: true,
  platform: "node",
  target: "node24",
  format: "cjs",
  outExtension: { ".js": ".cjs" },
  external: ["esbuild", "koffi"],
  legalComments: "none",
  logLevel: "silent",
  plugins: [kit(root), leaveOut([...UNUSED, ...UNUSED_BY_SERVICES], OUR_LIBRARIES), byRequire],
});
/** Those that load what a service has no use for. */
const OUR_LIBRARIES = /\/node_modules\/(fastify|pino|@fastify|avvio|thread-stream|sonic-boom|pino-[a-z-]+)\//;

/** The modules of the services: what the composition root loads when it is asked for. */
function servicesOf(metafile: Metafile, entry: string): string[] {
  const loaded = metafile.inputs[entry]?.imports ?? [];
  return loaded.filter(({ kind }) => kind === "dynamic-import").map(({ path }) => path);
}

/** What of Node itself every one of these programs loads. */
function builtinsOfAll({ outputs }: Metafile): string[] {
  const each = Object.values(outputs).map(
    ({ imports }) => new Set(imports.filter(({ path }) => isBuiltin(path)).map(({ path }) => path)),
  );
  return [...each[0]].filter((name) => each.every((names) => names.has(name)));
}

/** `src/services/core-data/main.ts` is `services-core-data`. */
const roleName = (path: string): string =>
  dirname(path)
    .replace(/^src\//, "")
    .replaceAll("/", "-");

/** What a service of others imports by the package's name: in a clone the source, else what was built of it. */
const kit = (root: string): Plugin => ({
  name: "kit",
  setup(build) {
    build.onResolve({ filter: /^@holdfast\/edge\// }, ({ path }) => {
      const name = path.slice("@holdfast/edge/".length);
      const source = join(root, "src/kit", `${name}.ts`);
      return { path: existsSync(source) ? source : join(root, "kit", `${name}.js`) };
    });
  },
});

/** Makes the program of a service (role.ts) of its module. */
const roles = (root: string): Plugin => ({
  name: "roles",
  setup(build) {
    build.onResolve({ filter: /^role:/ }, ({ path }) => ({ path: path.slice("role:".length), namespace: "role" }));
    build.onLoad({ filter: /./, namespace: "role" }, ({ path }) => ({
      contents: `import { main } from "./${path}"; import { roleOf } from "./src/node/role.ts"; export const role = roleOf(main);`,
      loader: "ts",
      resolveDir: root,
    }));
  },
});

/** Puts something that throws when it is used in the place of these, where a library asks for them; our own code means it. */
function leaveOut(packages: readonly string[], importers = /\/node_modules\//): Plugin {
  const contents = `module.exports = () => () => () => { throw new Error("left out of the bundle: see node/bundle.ts"); };`;
  return {
    name: "leave-out",
    setup(build) {
      build.onResolve({ filter: /./ }, ({ path, importer }) =>
        packages.includes(path) && importers.test(importer) ? { path, namespace: "left-out" } : undefined,
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
