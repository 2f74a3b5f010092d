/** What this machine can give to confinement and to the keys, said plainly: for `holdfast doctor` and the start page. */
import { existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { attempt } from "./libc.ts";
import { ABI_PORTS, ABI_SCOPES, landlockAbi } from "./landlock.ts";
import { UID_BASE, UIDS_MAX, uidsTaken } from "./uids.ts";

/** One fact; `costs` says in words what is lost where the machine does not have it. */
export interface Fact<T> {
  value: T;
  costs?: string;
}

export interface ConfinementFacts {
  kernel: Fact<string>;
  landlockAbi: Fact<number>;
  landlockPorts: Fact<boolean>;
  landlockScopes: Fact<boolean>;
  seccomp: Fact<boolean>;
  root: Fact<boolean>;
  uidRange: Fact<string>;
  ptraceScope: Fact<number>;
  userNamespaces: Fact<boolean>;
  swap: Fact<string[]>;
  coreDumps: Fact<string>;
  tpm: Fact<string | undefined>;
}

const PR_GET_SECCOMP = 21;
const CAP_SETGID = 6;
const CAP_SETUID = 7;

/** Looks at the machine; takes a few milliseconds and changes nothing. */
export function confinementFacts(uidBase: number = UID_BASE): ConfinementFacts {
  const abi = landlockAbi();
  const root = maySwitchUser();
  const taken = uidsTaken(uidBase);
  const range = `${uidBase}-${uidBase + UIDS_MAX - 1}`;
  const seccomp = attempt("prctl", PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
  const swap = linesOf("/proc/swaps")
    .slice(1)
    .map((line) => line.split(/\s+/)[0] ?? "");
  const ptraceScope = Number(textOf("/proc/sys/kernel/yama/ptrace_scope") || 0);
  const pattern = textOf("/proc/sys/kernel/core_pattern");
  const tpm = ["/dev/tpmrm0", "/dev/tpm0"].find((path) => existsSync(path));
  return {
    kernel: fact(release(), undefined),
    ...landlockFacts(abi),
    seccomp: fact(
      seccomp,
      seccomp
        ? undefined
        : "no system call filter: a service that is broken into can execute programs and reach all of the kernel.",
    ),
    root: fact(
      root,
      root
        ? undefined
        : "not started as root: all services run as one user. Landlock keeps them out of each other's files and memory, but other programs of this user can read both.",
    ),
    uidRange: fact(
      range,
      taken.length > 0 ? `the services' user ids are not free: ${taken.join(", ")}. Choose another base.` : undefined,
    ),
    ptraceScope: fact(
      ptraceScope,
      root || ptraceScope > 0
        ? undefined
        : "kernel.yama.ptrace_scope is 0: any program of this user can read the services' memory, and the keys in it.",
    ),
    userNamespaces: fact(userNamespaces(), undefined),
    swap: fact(
      swap,
      swap.length > 0
        ? `swap is on (${swap.join(", ")}): keys in memory can reach the disk, unless the swap is encrypted or zram.`
        : undefined,
    ),
    // Said, but no cost: every service has a core limit of one byte, which stops files and pipes alike.
    coreDumps: fact(pattern, undefined),
    tpm: fact(
      tpm,
      tpm === undefined
        ? "no TPM: the key that opens all others lies in a file or comes from a passphrase; a stolen disk with its key file is readable."
        : undefined,
    ),
  };
}

const landlockFacts = (abi: number) => ({
  landlockAbi: fact(
    abi,
    abi > 0
      ? undefined
      : "no Landlock: services' files are guarded by owner and mode alone. Linux 5.13 or newer has it; 'landlock' must be in the kernel's lsm= list.",
  ),
  landlockPorts: fact(
    abi >= ABI_PORTS,
    abi >= ABI_PORTS
      ? undefined
      : `no port rules (Landlock ABI ${abi}, they need ${ABI_PORTS}, Linux 6.7): a service that is broken into may connect to any TCP port. It still cannot listen.`,
  ),
  landlockScopes: fact(
    abi >= ABI_SCOPES,
    abi >= ABI_SCOPES
      ? undefined
      : `no Landlock scopes (ABI ${abi}, they need ${ABI_SCOPES}, Linux 6.12): signals and Unix sockets are held back by the system call filter alone.`,
  ),
});

/** Lists only what is missing, each as one sentence for people. */
export const whatIsMissing = (facts: ConfinementFacts): string[] =>
  Object.values(facts).flatMap(({ costs }: Fact<unknown>) => costs ?? []);

const fact = <T>(value: T, costs: string | undefined): Fact<T> => (costs === undefined ? { value } : { value, costs });

/** Whether services can be given their own uids: root in a container may lack the capabilities for it. */
export function maySwitchUser(): boolean {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(textOf("/proc/self/status"))?.[1] ?? "0"}`);
  const wanted = (1n << BigInt(CAP_SETUID)) | (1n << BigInt(CAP_SETGID));
  return (effective & wanted) === wanted;
}

function userNamespaces(): boolean {
  const debian = textOf("/proc/sys/kernel/unprivileged_userns_clone");
  return Number(textOf("/proc/sys/user/max_user_namespaces") || 0) > 0 && debian !== "0";
}

const linesOf = (path: string): string[] =>
  textOf(path)
    .split("\n")
    .filter((line) => line !== "");

/** Reads a small file of the kernel; "" where this kernel does not have it or does not show it. */
function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "EACCES")) return "";
    throw error;
  }
}
