/**
 * The steps by which a process becomes a confined service, as a script for the launcher: it gives up everything the plan
 * does not name and then executes Node, so that nothing of its own powers is left inside. Afterwards every exec fails, that of
 * Node's own binary too. The order matters: what needs root first, then the drop, then the rules that the rest must still
 * pass, the filter last.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import {
  ABI_PORTS,
  ABI_SCOPES,
  allowPath,
  allowPort,
  enforce,
  landlockAbi,
  makeRuleset,
  openPlace,
} from "./landlock.ts";
import type { Ruleset } from "./landlock.ts";
import { SAID_BYTES, SCRIPT_FD } from "./launcher.ts";
import { archOf, attempt, LibcError } from "./libc.ts";
import { type MountWay, privateMounts, TEMPORARY } from "./mounts.ts";
import { type Plan, PROCESSES_MAX } from "./plan.ts";
import {
  becomeUser,
  beyondReach,
  dropBounding,
  dropCapabilities,
  gainNothing,
  setLimits,
  shieldLauncher,
} from "./privileges.ts";
import { type Result, Script } from "./script.ts";
import { filterOf } from "./seccomp.ts";
import { MADE, numberOf } from "./syscalls.ts";

const F_SETFD = 2;
const FD_CLOEXEC = 1;
const AT_EMPTY_PATH = 0x1000;
const CLOSE_RANGE_CLOEXEC = 4;
const FD_MAX = 0xffff_ffff;
/** Where the kernel cannot mark a range: so many are marked one by one. Node opens all of its own close-on-exec anyway. */
const OLD_FD_MAX = 255;
const SECCOMP_SET_MODE_FILTER = 1;
/** The loader answers within milliseconds; past it the start fails, and is tried again. */
const LOADER_TIMEOUT_MS = 10_000;
/** Standard input, output and error reach the service as they are. */
const STDIO = [0, 1, 2];

/** What this kernel has of the walls. */
export interface Kernel {
  /** 0: no Landlock. */
  landlockAbi: number;
  seccomp: boolean;
  /** Whether descriptors can be marked close-on-exec by range: Linux 5.11. */
  closeRange: boolean;
  /** How a service gets a file system of its own; undefined: not at all (`mountWayOf`, spawn.ts). */
  mounts?: MountWay | undefined;
}

/** Something that this machine cannot give, and what that costs. */
export interface Missing {
  what: string;
  costs: string;
}

/** A plan as a script, with what the plan wants and this machine does not have. */
export interface Steps {
  script: Script;
  missing: Missing[];
  absent: string[];
}

/** Asks the kernel what it has; changes nothing. */
export function kernelOf(): Kernel {
  const number = (name: "seccomp" | "close_range"): number => numberOf(MADE[name], archOf());
  // A filter of no program: refused with EFAULT where there are filters.
  const refusal = new LibcError("seccomp", -attempt("syscall", number("seccomp"), SECCOMP_SET_MODE_FILTER, 0, null));
  return {
    landlockAbi: landlockAbi(),
    seccomp: refusal.symbol !== "ENOSYS",
    closeRange: attempt("syscall", number("close_range"), FD_MAX, FD_MAX, CLOSE_RANGE_CLOEXEC) >= 0,
  };
}

/** Writes down how the process `pid` becomes the plan's service. Throws where the plan cannot be carried out at all. */
export function stepsOf(plan: Plan, pid: number, kernel: Kernel): Steps {
  const node = plan.argv[0];
  if (node === undefined) throw new Error("the plan's argv is empty");
  const script = new Script(archOf());
  const { execFd, move } = beyondReach(plan.filesMax);
  if (kernel.mounts) privateMounts(script, plan, kernel.mounts);
  setLimits(script, { ...plan, ...threadsIn(kernel) });
  const opened = openPlace(script, node);
  const { rules, absent } = writeRules(script, plan, node, kernel);
  if (plan.uid !== undefined || process.geteuid?.() === 0 || kernel.mounts) dropBounding(script);
  if (plan.uid !== undefined)
    becomeUser(script, plan.uid, plan.gid ?? plan.uid, plan.launchGid ?? plan.gid ?? plan.uid);
  dropCapabilities(script);
  gainNothing(script);
  shieldLauncher(script);
  keepDescriptors(script, [...STDIO, ...plan.keepFds, ...(rules?.pins ?? [])], kernel);
  move(script, opened);
  if (rules) enforce(rules);
  if (kernel.seccomp) filterCalls(script, plan, { pid, execFd });
  // All walls stand: said by zeros, since no call lies at address 0.
  script.call("write", [SCRIPT_FD, script.memory(Buffer.alloc(SAID_BYTES)), SAID_BYTES]);
  const [argv, envp] = [
    script.texts(plan.argv),
    script.texts(Object.entries(plan.env).map(([name, value]) => `${name}=${value}`)),
  ];
  script.call("execveat", [execFd, script.text(""), argv, envp, AT_EMPTY_PATH], `execveat(${node})`);
  return { script, missing: shortOf(kernel, plan), absent };
}

/** A user namespace counts its own threads, since Linux 5.14, so that they can be limited without an own uid. */
const threadsIn = ({ mounts, landlockAbi: abi }: Kernel) =>
  mounts === "user" && abi >= ABI_COUNTED ? { processesMax: PROCESSES_MAX } : {};
/** Landlock's second ABI came with Linux 5.19. */
const ABI_COUNTED = 2;

/** What this kernel cannot give, with what that costs. Never an error: an old kernel is confined as well as it can be. */
function shortOf({ landlockAbi: abi, seccomp, mounts }: Kernel, plan: Plan): Missing[] {
  const missing: Missing[] = [];
  if (!mounts)
    missing.push({
      what: "mount namespace",
      costs:
        "services see the machine's file system, not one of their own: no temporary files, and what they write could be loaded as code",
    });
  if (abi === 0)
    missing.push({ what: "landlock", costs: "files are guarded by their owner and mode alone, TCP ports not at all" });
  else if (abi < ABI_PORTS && plan.connectPorts !== undefined)
    missing.push({ what: "landlock ports", costs: "the service may connect to any TCP port" });
  if (abi > 0 && abi < 2) missing.push({ what: "landlock refer", costs: "files cannot be moved between directories" });
  if (abi > 0 && abi < ABI_SCOPES && plan.unixSockets)
    missing.push({ what: "landlock scopes", costs: "abstract Unix sockets of others can be reached" });
  if (plan.uid === undefined)
    missing.push({
      what: "own uid",
      costs:
        "processes of the same user that are not confined can read the service's memory; files of the user are guarded by Landlock alone",
    });
  if (!seccomp)
    missing.push({
      what: "seccomp",
      costs:
        "system calls are not filtered: the service can execute programs that Landlock lets it read, and open UDP and Unix sockets",
    });
  return missing;
}

/** Writes the Landlock rules of the plan, while every path can still be opened. */
function writeRules(
  script: Script,
  plan: Plan,
  node: string,
  { landlockAbi: abi, mounts }: Kernel,
): { rules: Ruleset | undefined; absent: string[] } {
  const absent: string[] = [];
  const rules = makeRuleset(script, { connect: plan.connectPorts !== undefined, abi });
  if (!rules) return { rules, absent };
  const { loader, libraries } = librariesOf(node);
  // The kernel executes two files: Node and the loader it names. Neither can be executed again: the filter refuses.
  for (const path of [node, loader]) if (path !== undefined) allowPath(rules, path, "run");
  for (const path of libraries) allowPath(rules, path, "read");
  for (const path of plan.read) if (!allowPath(rules, path, "read")) absent.push(path);
  for (const path of plan.write) if (!allowPath(rules, path, "write", plan.unixSockets)) absent.push(path);
  if (mounts) allowPath(rules, TEMPORARY, "write", plan.unixSockets);
  for (const port of plan.connectPorts ?? []) allowPort(rules, port, "connect");
  for (const port of plan.bindPorts) allowPort(rules, port, "bind");
  return { rules, absent };
}

interface Libraries {
  loader: string | undefined;
  libraries: string[];
}
const librariesKnown = new Map<string, Libraries>();

/**
 * Finds the loader (ld.so), which is this process's own, and asks it for the shared libraries of a program. Asked without an
 * environment, as the service will have none that says where libraries lie. Asked once: it takes some milliseconds.
 */
function librariesOf(program: string): Libraries {
  const known = librariesKnown.get(program);
  if (known) return known;
  const maps = readFileSync("/proc/self/maps", "latin1");
  const loader = /\s(\/\S*\/ld-(?:linux|musl)[^/\s]*)$/m.exec(maps)?.[1];
  const found = { loader, libraries: loader === undefined ? [] : listed(loader, program) };
  librariesKnown.set(program, found);
  return found;
}

/** Asks the loader; one that is asked about a program without shared libraries refuses, and then there are none. */
function listed(loader: string, program: string): string[] {
  const { error, stdout } = spawnSync(loader, ["--list", program], {
    env: {},
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    timeout: LOADER_TIMEOUT_MS,
  });
  if (error) throw error;
  return Array.from(stdout.matchAll(/(\/\S+) \(0x/g), (match) => match[1] ?? "");
}

/** Leaves the service only the descriptors it was given; all others close at the exec. */
function keepDescriptors(script: Script, keep: readonly (number | Result)[], { closeRange }: Kernel): void {
  if (closeRange) script.call("close_range", [3, FD_MAX, CLOSE_RANGE_CLOEXEC]);
  else for (let fd = 3; fd <= OLD_FD_MAX; fd++) script.attempt("fcntl", [fd, F_SETFD, FD_CLOEXEC]);
  for (const fd of keep) script.attempt("fcntl", [fd, F_SETFD, 0]);
}

/** Puts the system call filter into force. */
function filterCalls(script: Script, plan: Plan, { pid, execFd }: { pid: number; execFd: number }): void {
  const program = filterOf({
    arch: archOf(),
    pid,
    execFd,
    udp: plan.udp,
    unixSockets: plan.unixSockets,
    bind: plan.bindPorts.length > 0,
    listenFds: plan.keepFds,
  });
  // struct sock_fprog: how many instructions, and where.
  const header = script.memory([program.length / 8, script.memory(program)]);
  script.call("seccomp", [SECCOMP_SET_MODE_FILTER, 0, header], "seccomp(SET_MODE_FILTER)");
}
