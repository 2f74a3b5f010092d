/** The machine: its kernel, its Node, its memory, its clock. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import type { ConfinementFacts, Fact } from "../../node/confine/facts.ts";
import { moment, size } from "../units.ts";
import { fine, type Finding, lacks, stops } from "./finding.ts";

/** Below this the services as processes of their own leave little for anything else. */
const MEMORY_BYTES_FEW = 700_000_000;
/** Holdfast is younger than any clock that is right. */
const CLOCK_MS_MIN = Date.UTC(2026, 0, 1);
const CLOCK_AHEAD_MS = 86_400_000;
/** What programs that set the clock leave behind while they agree with their servers. */
const SYNCHRONIZED = [
  "/run/systemd/timesync/synchronized",
  "/run/chrony/chronyd.pid",
  "/run/ntpd.pid",
  "/run/ntpsec/ntpd.pid",
];

/** Looks at the Node that this runs on; `carried` is the one that the package brings. */
export function runtimeFinding(carried: string | undefined): Finding {
  const { node } = process.versions;
  const major = Number(node.split(".")[0]);
  if (carried === undefined || node === carried) return fine("node", `Node ${node}, the one that Holdfast carries`);
  const says = `Node ${node} runs this, not ${carried}, which Holdfast carries`;
  const todo = "Call bin/holdfast, or npx holdfast: they take the right one.";
  if (major < Number(carried.split(".")[0])) return stops("node", says, todo);
  return lacks("node", says, "nobody tested Holdfast with it.", todo);
}

/** What to do about what the kernel lacks; the facts say what it costs. */
const TODOS: { readonly [fact in keyof ConfinementFacts]?: string } = {
  landlockAbi: "Use Linux 5.13 or newer with 'landlock' in its list of security modules (/sys/kernel/security/lsm).",
  landlockPorts: "Use Linux 6.7 or newer where services may be attacked.",
  landlockScopes: "Nothing needs to be done; Linux 6.12 or newer has them.",
  seccomp: "Use a kernel with CONFIG_SECCOMP_FILTER, as every distribution has it.",
  root: "Start it as root (a systemd unit does): each service then gets a user of its own, and none has root's rights.",
  uidRange: "Choose other user ids with node.uidBase in the config.",
  ptraceScope: "sysctl kernel.yama.ptrace_scope=1",
  swap: "Turn it off (swapoff -a), encrypt it, or use zram.",
  tpm: "Seal the keys with a passphrase (node.keys.provider in the config), or keep the key file on a medium of its own (node.keyFile).",
};
const WORDS: { readonly [fact in keyof ConfinementFacts]: (value: never) => string } = {
  kernel: (release: string) => `Linux ${release}`,
  landlockAbi: (abi: number) => `Landlock ${abi > 0 ? `version ${abi}` : "is not there"}`,
  landlockPorts: (has: boolean) => `Landlock's rules on ports ${there(has)}`,
  landlockScopes: (has: boolean) => `Landlock's rules on signals and sockets ${there(has)}`,
  seccomp: (has: boolean) => `the filter on system calls is ${has ? "" : "not "}there`,
  root: (is: boolean) => (is ? "root: each service gets a user of its own" : "not root"),
  uidRange: (range: string) => `user ids ${range} for the services`,
  ptraceScope: (scope: number) => `kernel.yama.ptrace_scope is ${scope}`,
  userNamespaces: (has: boolean) => `user namespaces ${has ? "are there" : "are not there (and not needed)"}`,
  swap: (on: string[]) => (on.length === 0 ? "no swap" : `swap on ${on.join(", ")}`),
  coreDumps: (pattern: string) =>
    `core dumps are off in every service (the machine's pattern: ${pattern === "" ? "none" : pattern})`,
  tpm: (path: string | undefined) => (path === undefined ? "no TPM" : `a TPM at ${path}`),
};
const there = (has: boolean): string => (has ? "are there" : "are not there");

/** Words what the machine gives to confinement and to the keys. */
export function kernelFindings(facts: ConfinementFacts): Finding[] {
  return (Object.entries(facts) as [keyof ConfinementFacts, Fact<never>][]).map(([name, { value, costs }]) => {
    if (costs === undefined) return fine(name, WORDS[name](value));
    // The facts say what is missing, a colon, and what that costs.
    const at = costs.indexOf(": ");
    return lacks(name, costs.slice(0, at), costs.slice(at + 2), TODOS[name]);
  });
}

export function memoryFinding(bytes = totalmem()): Finding {
  if (bytes >= MEMORY_BYTES_FEW) return fine("memory", `${size(bytes)} of memory`);
  return lacks(
    "memory",
    `${size(bytes)} of memory`,
    "a process for each service takes more than half of it.",
    "Start with --compact: all services in one process.",
  );
}

/** Judges the wall clock; `writtenMs` is when the node last wrote something. */
export function clockFindings(options: {
  nowMs: number;
  writtenMs: number | undefined;
  rtc?: boolean;
  synchronized?: boolean;
}): Finding[] {
  const {
    nowMs,
    writtenMs,
    rtc = existsSync("/dev/rtc0") || existsSync("/dev/rtc"),
    synchronized = SYNCHRONIZED.some((path) => existsSync(path)),
  } = options;
  const says = `the clock shows ${moment(nowMs)}`;
  const wrong =
    nowMs < CLOCK_MS_MIN
      ? "before Holdfast was written"
      : writtenMs !== undefined && writtenMs - nowMs > CLOCK_AHEAD_MS
        ? `before the node last ran (${moment(writtenMs)})`
        : undefined;
  const clock =
    wrong === undefined
      ? fine("clock", says)
      : lacks(
          "clock",
          `${says}, ${wrong}`,
          "readings are stamped with it, and certificates are refused elsewhere.",
          "Set it (timedatectl set-time), or let a time server do it.",
        );
  return [
    clock,
    synchronized
      ? fine("time-server", "a program keeps the clock with a time server")
      : lacks(
          "time-server",
          "no sign of a program that keeps the clock with a time server",
          "the clock drifts by seconds a day, and readings with it.",
          "Install systemd-timesyncd or chrony.",
        ),
    rtc
      ? fine("clock-chip", "a clock chip keeps the time without power")
      : lacks(
          "clock-chip",
          "no clock chip",
          "after a power cut the clock is wrong until a time server is reached.",
          "Add one, or let a time server be near.",
        ),
  ];
}

/** Tells which Node the package carries. */
export function carriedNode(root: string): string | undefined {
  try {
    const { optionalDependencies = {} } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      optionalDependencies?: { [name: string]: string };
    };
    return optionalDependencies[`node-linux-${process.arch}`];
  } catch {
    // A package without its package.json is not one of ours; what it carries is not known.
    return undefined;
  }
}

/** Tells when the node last wrote into its state directory; undefined where that cannot be seen. */
export function lastWritten(state: string): number | undefined {
  const at = ["node.json", "lock", join("node", "keyring.json")].map(
    (name) => statSync(join(state, name), { throwIfNoEntry: false })?.mtimeMs ?? 0,
  );
  const newest = Math.max(...at);
  return newest > 0 ? newest : undefined;
}
