/**
 * The C library, called from JavaScript: what confinement and listening need and Node does not offer. Loaded at the
 * first call, so a process that never confines anything (a service) never maps the foreign-function code.
 */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { getSystemErrorMap } from "node:util";
import type koffi from "koffi";

type Koffi = typeof koffi;
type KoffiFunction = ReturnType<ReturnType<Koffi["load"]>["func"]>;

/** The two machines that Holdfast runs on, by Node's names. */
export type Arch = "x64" | "arm64";

/** What a C function takes here: integers, NUL-terminated strings, and memory (a pointer to its first byte; null is NULL). */
export type Arg = number | bigint | string | Uint8Array | BigUint64Array | null;

/** A refused C call: which, with what errno, in words. */
export class LibcError extends Error {
  readonly call: string;
  readonly errno: number;
  /** The symbol of the errno, such as EACCES. */
  readonly symbol: string;

  constructor(name: string, errno: number) {
    const [symbol, words] = getSystemErrorMap().get(-errno) ?? [`errno ${errno}`, "unknown error"];
    super(`${name}: ${words} (${symbol})`);
    this.name = "LibcError";
    this.call = name;
    this.errno = errno;
    this.symbol = symbol;
  }
}

/** Says which of the two machines this is, or throws: the system call numbers of others are not known here. */
export function archOf(name: string = process.arch): Arch {
  if (name === "x64" || name === "arm64") return name;
  throw new Error(`confinement knows the machines x64 and arm64, not ${name}`);
}

/**
 * Finds koffi's native file for this machine and C library: beside this file (where a bundle carries it as `koffi.node`),
 * else in koffi's package. Not through koffi's own start-up code: that looks at every platform and takes 20 ms per process.
 */
export function koffiFile(): string {
  // A service's program is CommonJS, and has no place of its own: it lies where the script does that it was started with.
  const here = import.meta.dirname ?? dirname(process.argv[1] ?? "");
  const beside = join(here, "koffi.node");
  if (existsSync(beside)) return beside;
  const arch = archOf();
  // The loader that mapped this process tells the C library; looking for files of either would mislead where both are installed.
  const libc = readFileSync("/proc/self/maps", "latin1").includes("/ld-musl-") ? "musl" : "linux";
  // The package of the machine is a dependency of koffi, so it is resolved from there.
  const fromKoffi = createRequire(createRequire(import.meta.url).resolve("koffi"));
  return join(dirname(fromKoffi.resolve(`@koromix/koffi-linux-${arch}`)), `${libc}_${arch}`, "koffi.node");
}

let loaded: { koffi: Koffi; library: ReturnType<Koffi["load"]> } | undefined;
function native(): { koffi: Koffi; library: ReturnType<Koffi["load"]> } {
  if (loaded) return loaded;
  const module: { exports: unknown } = { exports: {} };
  process.dlopen(module, koffiFile());
  const koffi = module.exports as Koffi;
  // No name: the symbols of this process, so that glibc and musl need no telling apart.
  loaded = { koffi, library: koffi.load(null) };
  return loaded;
}

/** Gives the caller of native functions to those who load a library of their own (PKCS#11). */
export const loadKoffi = (): Koffi => native().koffi;

const bound = new Map<string, KoffiFunction>();
/** Binds `name` for arguments of these kinds. Every C function used here takes integers and pointers and returns int (syscall: long). */
function bind(name: string, args: readonly Arg[]): KoffiFunction {
  const kinds = args.map((arg) =>
    typeof arg === "number" || typeof arg === "bigint" ? "long" : typeof arg === "string" ? "str" : "void *",
  );
  const key = `${name}(${kinds.join()})`;
  const known = bound.get(key);
  if (known) return known;
  const made = native().library.func(name, name === "syscall" ? "long" : "int", kinds);
  bound.set(key, made);
  return made;
}

/** Calls a C function; answers its result, or the errno as a negative number where it failed. */
export function attempt(name: string, ...args: readonly Arg[]): number {
  const result = Number(bind(name, args)(...args));
  return result < 0 ? -native().koffi.errno() : result;
}

/** Calls a C function and answers its result. Throws LibcError; `words` name the offending thing in it. */
export function call(name: string, args: readonly Arg[], words: string = name): number {
  const result = attempt(name, ...args);
  if (result < 0) throw new LibcError(words, -result);
  return result;
}

/** Answers the address of memory, for structures that point to other memory; the caller keeps both alive. */
export const addressOf = (memory: Uint8Array): bigint => native().koffi.address(memory);

const PR_SET_DUMPABLE = 4;
const RLIMIT_CORE = 4;

/** A hard limit on core files of one byte: 0 would still feed a core to a piped core_pattern (systemd-coredump), 1 stops both. */
const CORE_BYTES = 1n;

/**
 * Shields this process's memory, and the keys in it, from others of the same uid and from core dumps: it can no longer be
 * traced, and /proc/PID/mem and environ belong to root. A later exec by this process undoes it for what is executed.
 */
export function shieldMemory(): void {
  call("prctl", [PR_SET_DUMPABLE, 0, 0, 0, 0], "prctl(PR_SET_DUMPABLE)");
  const { hard } = limitsOf(RLIMIT_CORE, "core");
  const least = hard < CORE_BYTES ? hard : CORE_BYTES;
  call("setrlimit", [RLIMIT_CORE, new BigUint64Array([least, least])], "setrlimit(core)");
}

/** Reads the limits of a resource. */
export function limitsOf(resource: number, words: string): { soft: bigint; hard: bigint } {
  const pair = Buffer.alloc(16);
  call("getrlimit", [resource, pair], `getrlimit(${words})`);
  return { soft: pair.readBigUInt64LE(0), hard: pair.readBigUInt64LE(8) };
}
