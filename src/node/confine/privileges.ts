/** Giving up privileges for good: identity, capabilities, the ways to get either back, and what others may do to this process. */
import { limitsOf } from "./libc.ts";
import type { Result, Script } from "./script.ts";

// linux/prctl.h, linux/securebits.h, linux/capability.h, asm-generic/resource.h.
const PR = { setDumpable: 4, capBsetDrop: 24, setSecurebits: 28, setNoNewPrivs: 38, capAmbient: 47 };
const PR_CAP_AMBIENT_CLEAR_ALL = 4;
/** NOROOT, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE, each locked: uid 0 without capabilities stays without. */
const SECUREBITS = 0x1 | 0x2 | 0x20 | 0x40 | 0x80;
const CAPABILITY_VERSION_3 = 0x2008_0522;
/** Capabilities are numbered from 0; 41 are known (Linux 6.x), the kernel refuses numbers past its last. */
const CAPABILITIES_MAX = 63;
const CAP_SETPCAP = 8;
const O_CLOEXEC = 0x8_0000;
const RLIMIT = { fileSize: 1, data: 2, core: 4, processes: 6, files: 7 };
/** Not 0: a core_pattern that is a pipe ignores 0, but not 1 (fs/coredump.c). */
const CORE_BYTES = 1n;

/** What the kernel counts for a Node that does nothing (575 MB measured): stacks of its threads and arenas, nearly all never touched. */
const NODE_DATA_BYTES = 640 * 1024 * 1024;

export interface Limits {
  /** Open files; the service may have descriptors 0 to filesMax - 1. */
  filesMax: number;
  /** Private writable memory (heap, buffers) besides what a bare Node sets apart: past it allocations fail, or V8 ends the process. */
  memoryBytesMax?: number;
  /** Threads of the uid, all its processes together; only counts where the uid is the service's own. */
  processesMax?: number;
  /** The largest file; past it writes fail with EFBIG. */
  fileBytesMax?: number;
}

/** Sets the limits but that on open files, which comes last (steps.ts). They are hard: nothing inside raises them. */
export function setLimits(script: Script, limits: Limits): void {
  limit(script, "core", CORE_BYTES);
  if (limits.memoryBytesMax !== undefined) limit(script, "data", BigInt(limits.memoryBytesMax + NODE_DATA_BYTES));
  if (limits.processesMax !== undefined) limit(script, "processes", BigInt(limits.processesMax));
  if (limits.fileBytesMax !== undefined) limit(script, "fileSize", BigInt(limits.fileBytesMax));
}

/** Sets the soft and the hard limit of a resource; one above this process's hard limit, which a child inherits, is cut to it. */
function limit(script: Script, resource: keyof typeof RLIMIT, value: bigint): void {
  const { hard } = limitsOf(RLIMIT[resource], resource);
  const least = value < hard ? value : hard;
  const pair = script.memory([least, least]);
  script.call("prlimit64", [0, RLIMIT[resource], pair, 0], `prlimit64(${resource}, ${least})`);
}

/**
 * Lowers the limit on open files and moves `fd` to a number past it. There it stays usable, but once it is closed (at the
 * exec) the process can never have a descriptor of that number again: so the one exec that the filter lets pass is the last.
 * Answers the number, and the calls that do it.
 */
export function beyondReach(filesMax: number): { execFd: number; move: (script: Script, fd: Result) => void } {
  const { hard } = limitsOf(RLIMIT.files, "files");
  const files = BigInt(filesMax) < hard ? BigInt(filesMax) : hard - 1n;
  const move = (script: Script, fd: Result): void => {
    limit(script, "files", files + 1n);
    script.call("dup3", [fd, files, O_CLOEXEC], `dup3(${files})`);
    limit(script, "files", files);
    script.call("close", [fd]);
  };
  return { execFd: Number(files), move };
}

/**
 * Becomes `uid` and `gid` for good, without other groups and capabilities. The effective gid is `launchGid`, and that for a
 * reason: an exec with an effective gid that is not the real one leaves the new program shielded (not dumpable), and
 * nothing else can do that from outside. Linux before 6.16 makes `gid` the effective one again in the same exec
 * (no_new_privs), later ones keep `launchGid`: so both have to be the service's own.
 */
export function becomeUser(script: Script, uid: number, gid: number, launchGid: number): void {
  script.call("setgroups", [0, 0]);
  script.call("setresgid", [gid, launchGid, gid], `setresgid(${gid}, ${launchGid})`);
  script.call("setresuid", [uid, uid, uid], `setresuid(${uid})`);
}

/** Empties the capability sets. */
export function dropCapabilities(script: Script): void {
  script.attempt("prctl", [PR.capAmbient, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0]);
  script.call("capset", [script.memory([CAPABILITY_VERSION_3, 0]), script.memory([0, 0, 0])]);
}

/**
 * Empties the bounding set and locks the rules by which uid 0 or a file would get capabilities. Only root can; it needs
 * CAP_SETPCAP, which goes last.
 */
export function dropBounding(script: Script): void {
  script.attempt("prctl", [PR.setSecurebits, SECUREBITS, 0, 0, 0]);
  for (let capability = 0; capability <= CAPABILITIES_MAX; capability++)
    if (capability !== CAP_SETPCAP) script.attempt("prctl", [PR.capBsetDrop, capability, 0, 0, 0]);
  script.attempt("prctl", [PR.capBsetDrop, CAP_SETPCAP, 0, 0, 0]);
}

/** From here on no exec gains anything by set-user-id bits or file capabilities. */
export const gainNothing = (script: Script): Result =>
  script.call("prctl", [PR.setNoNewPrivs, 1, 0, 0, 0], "prctl(PR_SET_NO_NEW_PRIVS)");

/** Keeps neighbours out of the launcher's own memory while it works. */
export const shieldLauncher = (script: Script): Result =>
  script.call("prctl", [PR.setDumpable, 0, 0, 0, 0], "prctl(PR_SET_DUMPABLE)");
