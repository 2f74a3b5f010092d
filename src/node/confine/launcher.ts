/**
 * The launcher: becomes one confined service. Started by `spawnConfined` as `node launcher.mjs PLAN`, it gives up
 * everything the plan does not name and then executes Node once more, in the same process, so that nothing of its own
 * powers (nor the foreign-function code) is left inside. Afterwards every exec fails, that of Node's own binary too.
 *
 * The order matters: what needs root first, then the drop, then the rules that the rest must still pass, the filter last.
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { addressOf, archOf, attempt, call, LibcError, stringArray } from "./libc.ts";
import {
  ABI_PORTS,
  ABI_SCOPES,
  allowPath,
  allowPort,
  enforce,
  landlockAbi,
  makeRuleset,
  type Ruleset,
} from "./landlock.ts";
import type { Missing, Plan, Report } from "./plan.ts";
import { becomeUser, dropCapabilities, gainNothing, moveBeyondReach, setLimits, shieldLauncher } from "./privileges.ts";
import { filterOf } from "./seccomp.ts";
import { MADE, numberOf } from "./syscalls.ts";

const O_PATH = 0x20_0000;
const F_SETFD = 2;
const AT_EMPTY_PATH = 0x1000;
const CLOSE_RANGE_CLOEXEC = 4;
const FD_MAX = 0xffff_ffff;
const SECCOMP_SET_MODE_FILTER = 1;
/** Puts the filter on Node's other threads too; they die at the exec, but not before. */
const SECCOMP_FILTER_FLAG_TSYNC = 1;
/** sysexits.h EX_OSERR: the supervisor tells it from the service's own exits by the report. */
const EXIT_NOT_CONFINED = 71;
/** Standard input, output and error reach the service as they are; Node marks them close-on-exec at its start. */
const STDIO = [0, 1, 2];

/** What this kernel cannot give, with what that costs. Never an error: an old kernel is confined as well as it can be. */
function shortOf(abi: number, plan: Plan): Missing[] {
  const missing: Missing[] = [];
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
  return missing;
}

/** Writes the Landlock rules of the plan, while every path can still be opened. */
function writeRules(plan: Plan, node: string, abi: number): { rules: Ruleset | undefined; absent: string[] } {
  const absent: string[] = [];
  const rules = makeRuleset({ connect: plan.connectPorts !== undefined, abi });
  if (!rules) return { rules, absent };
  const { loader, libraries } = librariesOf(readFileSync("/proc/self/maps", "latin1"));
  // The kernel executes two files: Node and the loader it names. Neither can be executed again: the filter refuses.
  for (const path of [node, loader]) if (path !== undefined) allowPath(rules, path, "run");
  for (const path of libraries) allowPath(rules, path, "read");
  for (const path of plan.read) if (!allowPath(rules, path, "read")) absent.push(path);
  for (const path of plan.write) if (!allowPath(rules, path, "write", plan.unixSockets)) absent.push(path);
  for (const port of plan.connectPorts ?? []) allowPort(rules, port, "connect");
  for (const port of plan.bindPorts) allowPort(rules, port, "bind");
  return { rules, absent };
}

/** Lists the loader (ld.so) and the shared libraries that map this process: the service is the same binary and opens the same. */
function librariesOf(maps: string): { loader: string | undefined; libraries: string[] } {
  const mapped = new Set(
    Array.from(maps.matchAll(/\s(\/\S*\/[^/\s]+\.so(?:\.[^/\s]*)?)$/gm), (match) => match[1] ?? ""),
  );
  const loader = [...mapped].find((path) => /\/ld-(?:linux|musl)[^/]*$/.test(path));
  return { loader, libraries: [...mapped] };
}

/** Leaves the service only the descriptors it was given; all others close at the exec. */
function keepDescriptors(keep: readonly number[]): void {
  if (attempt("syscall", numberOf(MADE.close_range, archOf()), 3, FD_MAX, CLOSE_RANGE_CLOEXEC) < 0)
    // Before Linux 5.11. Node opens its own close-on-exec, so only what was handed in is left, and that is what `keep` names.
    for (let fd = 3; fd < 256; fd++) attempt("fcntl", fd, F_SETFD, 1);
  for (const fd of [...STDIO, ...keep]) attempt("fcntl", fd, F_SETFD, 0);
}

/** Puts the system call filter into force. Answers false where the kernel has none. */
function filterCalls(plan: Plan, execFd: number): boolean {
  const program = filterOf({
    arch: archOf(),
    pid: process.pid,
    execFd,
    udp: plan.udp,
    unixSockets: plan.unixSockets,
    bind: plan.bindPorts.length > 0,
    listenFds: plan.keepFds,
  });
  const header = Buffer.alloc(16);
  header.writeUInt16LE(program.length / 8, 0);
  header.writeBigUInt64LE(addressOf(program), 8);
  const result = attempt(
    "syscall",
    numberOf(MADE.seccomp, archOf()),
    SECCOMP_SET_MODE_FILTER,
    SECCOMP_FILTER_FLAG_TSYNC,
    header,
  );
  if (result >= 0) return true;
  const error = new LibcError("seccomp(SET_MODE_FILTER)", -result);
  if (error.symbol === "ENOSYS") return false;
  throw error;
}

/** Confines this process by the plan and becomes the service. Returns only by throwing. */
function launch(plan: Plan, report: (words: Report) => void): never {
  const node = plan.argv[0];
  if (node === undefined) throw new Error("the plan's argv is empty");
  const abi = Math.min(landlockAbi(), plan.landlockAbiMax ?? Number.POSITIVE_INFINITY);
  const missing = shortOf(abi, plan);
  setLimits(plan);
  const opened = openSync(node, O_PATH);
  const { rules, absent } = writeRules(plan, node, abi);
  if (plan.uid !== undefined) becomeUser(plan.uid, plan.gid ?? plan.uid, plan.launchGid ?? plan.gid ?? plan.uid);
  dropCapabilities();
  gainNothing();
  shieldLauncher();
  keepDescriptors([...plan.keepFds, ...(rules?.pins ?? [])]);
  const execFd = moveBeyondReach(opened, plan.filesMax);
  closeSync(opened);
  const path = Buffer.from("\0");
  const argv = stringArray(plan.argv);
  const envp = stringArray(Object.entries(plan.env).map(([name, value]) => `${name}=${value}`));
  if (rules) enforce(rules);
  if (!filterCalls(plan, execFd))
    missing.push({
      what: "seccomp",
      costs:
        "system calls are not filtered: the service can execute programs that Landlock lets it read, and open UDP and Unix sockets",
    });
  report({ service: plan.service, landlockAbi: abi, missing, absent });
  call(
    "syscall",
    [numberOf(MADE.execveat, archOf()), execFd, path, argv.array, envp.array, AT_EMPTY_PATH],
    `execveat(${node})`,
  );
  // Not reached; and the strings must outlive the call, which knows only their addresses.
  throw new Error(
    `execveat(${node}) answered, with ${argv.strings.length} arguments and ${envp.strings.length} variables`,
  );
}

/** Tells the supervisor how far it came, as one line of JSON; the descriptor closes at the exec. */
function tell(plan: Plan | undefined, report: Report): void {
  if (plan?.reportFd !== undefined) writeSync(plan.reportFd, `${JSON.stringify(report)}\n`);
}

if (import.meta.main) {
  let plan: Plan | undefined;
  try {
    const text = process.argv[2];
    if (text === undefined) throw new Error("started without a plan; the node starts this program, not people");
    plan = JSON.parse(text) as Plan;
    const known = plan;
    launch(known, (report) => tell(known, report));
  } catch (error) {
    const failed = error instanceof Error ? error.message : String(error);
    writeSync(2, `holdfast: ${plan?.service ?? "a service"} was not started, it could not be confined: ${failed}\n`);
    tell(plan, { service: plan?.service ?? "", landlockAbi: 0, missing: [], absent: [], failed });
    process.exit(EXIT_NOT_CONFINED);
  }
}
