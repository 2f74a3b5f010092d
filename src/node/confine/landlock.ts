/**
 * Landlock: which files a process may reach, which TCP ports, whom it may signal. Rules hold for the process and all it
 * becomes, and can only be narrowed. Each kernel knows a version (ABI); this asks for all that the version has.
 */
import { statfsSync, statSync } from "node:fs";
import { archOf, attempt } from "./libc.ts";
import type { Result, Script } from "./script.ts";
import { MADE, numberOf } from "./syscalls.ts";

// uapi/linux/landlock.h.
const FS = {
  execute: 1n << 0n,
  writeFile: 1n << 1n,
  readFile: 1n << 2n,
  readDir: 1n << 3n,
  removeDir: 1n << 4n,
  removeFile: 1n << 5n,
  makeDir: 1n << 7n,
  makeReg: 1n << 8n,
  makeSock: 1n << 9n,
  refer: 1n << 13n,
  truncate: 1n << 14n,
  ioctlDev: 1n << 15n,
};
/** How many file rights the ABI of this index has (index 0: none). Later ABIs than the last are treated as the last. */
const FS_RIGHTS = [0, 13, 14, 15, 15, 16];
const handledBy = (abi: number): bigint => (1n << BigInt(FS_RIGHTS[Math.min(abi, FS_RIGHTS.length - 1)] ?? 0)) - 1n;
/** The first ABI with rules on TCP ports, and the first with scopes (signals, abstract Unix sockets). */
export const ABI_PORTS = 4;
export const ABI_SCOPES = 6;
const NET = { bind: 1n, connect: 2n };
const SCOPES = 3n;
const RULE = { path: 1, port: 2 };
const CREATE_RULESET_VERSION = 1;
const PROC_SUPER_MAGIC = 0x9fa0;
const O_PATH_CLOEXEC = 0x20_0000 | 0x8_0000;
const AT_FDCWD = -100;
/** Rights that mean anything on a file that is not a directory. */
const ON_FILES = FS.execute | FS.writeFile | FS.readFile | FS.truncate | FS.ioctlDev;

const rights = {
  run: FS.execute | FS.readFile,
  read: FS.readFile | FS.readDir,
  write:
    FS.readFile |
    FS.readDir |
    FS.writeFile |
    FS.truncate |
    FS.removeDir |
    FS.removeFile |
    FS.makeDir |
    FS.makeReg |
    FS.refer |
    FS.ioctlDev,
};
export type PathUse = keyof typeof rights;

/** Answers the kernel's Landlock ABI; 0 where it has none or has it switched off. */
export function landlockAbi(): number {
  const number = numberOf(MADE.landlock_create_ruleset, archOf());
  return Math.max(0, attempt("syscall", number, null, 0, CREATE_RULESET_VERSION));
}

/** The rules while a script writes them. */
export interface Ruleset {
  script: Script;
  abi: number;
  /** Whether ports are ruled at all; false below ABI 4. */
  ports: boolean;
  fd: Result;
  /** What stays open across the exec, see `allowPath`. */
  pins: Result[];
}

/** Opens the place, not what lies there: that needs no right to read it. */
export const openPlace = (script: Script, path: string): Result =>
  script.call("openat", [AT_FDCWD, script.text(path), O_PATH_CLOEXEC, 0], `openat(${path})`);

/**
 * Makes an empty set of rules: all is forbidden, but connecting where `connect` is false. Answers undefined where the
 * kernel has no Landlock.
 */
export function makeRuleset(script: Script, { connect, abi }: { connect: boolean; abi: number }): Ruleset | undefined {
  if (abi === 0) return undefined;
  const ports = abi >= ABI_PORTS;
  const attributes = script.memory([handledBy(abi), NET.bind | (connect ? NET.connect : 0n), SCOPES]);
  // Older kernels refuse a structure longer than theirs with bits set: give each what it knows.
  const sizeBytes = abi >= ABI_SCOPES ? 24 : ports ? 16 : 8;
  const fd = script.call("landlock_create_ruleset", [attributes, sizeBytes, 0]);
  return { script, abi, ports, fd, pins: [] };
}

/**
 * Allows a file or all below a directory. Answers false if there is nothing at `path`. A path in /proc is kept open for
 * good: /proc makes a new inode when its cache was emptied, a rule is tied to the inode, and an open file keeps it (measured).
 */
export function allowPath(rules: Ruleset, path: string, use: PathUse, makeSockets = false): boolean {
  const { script } = rules;
  const directory = isDirectory(path);
  if (directory === undefined) return false;
  let access = rights[use] | (makeSockets && use === "write" ? FS.makeSock : 0n);
  access &= directory ? ~FS.ioctlDev : ON_FILES;
  access &= handledBy(rules.abi);
  // The service's own process is what opens it: /proc/self is another place to everyone.
  const fd = openPlace(script, path);
  const rule = script.memory([access, fd]);
  script.call("landlock_add_rule", [rules.fd, RULE.path, rule, 0], `landlock_add_rule(${path})`);
  if (statfsSync(path).type === PROC_SUPER_MAGIC) rules.pins.push(fd);
  else script.call("close", [fd]);
  return true;
}

/** Tells what is at `path`; undefined if nothing is, or nothing for this user. */
function isDirectory(path: string): boolean | undefined {
  try {
    return statSync(path).isDirectory();
  } catch (error) {
    const symbol = error instanceof Error && "code" in error ? error.code : undefined;
    if (symbol === "ENOENT" || symbol === "ENOTDIR" || symbol === "EACCES") return undefined;
    throw error;
  }
}

/** Allows binding or connecting to a TCP port, on any address. Does nothing where ports are not ruled. */
export function allowPort({ script, ports, fd }: Ruleset, port: number, use: keyof typeof NET): void {
  if (!ports) return;
  const rule = script.memory([NET[use], port]);
  script.call("landlock_add_rule", [fd, RULE.port, rule, 0], `landlock_add_rule(port ${port})`);
}

/** Puts the rules into force for the process and what it executes; needs no_new_privs. */
export function enforce({ script, fd }: Ruleset): void {
  script.call("landlock_restrict_self", [fd, 0]);
  script.call("close", [fd]);
}
