/** What a service may do: the plan, which `spawnConfined` carries out (spawn.ts). */
import { readFileSync } from "node:fs";

export interface Plan {
  service: string;
  /** The service's own identity; without it the service keeps that of the supervisor. */
  uid?: number;
  gid?: number;
  /** A second group of this service alone, the effective one at the exec (privileges.ts, becomeUser). */
  launchGid?: number;
  /** Files, and directories with all below them. What does not exist is reported, and stays forbidden. */
  read: string[];
  write: string[];
  /** The service: Node's path first, then its flags, the script, the script's arguments. */
  argv: string[];
  /** TCP ports it may connect to, on any address; undefined: all. */
  connectPorts?: number[];
  /** TCP ports it may bind. Inherited listening sockets need none. */
  bindPorts: number[];
  /** Whether it may open UDP sockets, to any port. Resolving names needs it. */
  udp: boolean;
  unixSockets: boolean;
  filesMax: number;
  memoryBytesMax?: number;
  processesMax?: number;
  fileBytesMax?: number;
  /** The whole environment of the service. */
  env: Record<string, string>;
  /** Descriptors from 3 on that the service is handed, besides standard input, output and error. */
  keepFds: number[];
}

/** What Node itself reads, with the reason. The shared libraries are asked of the loader (steps.ts). */
export const basics: { path: string; why: string; write?: true }[] = [
  { path: "/etc/ld.so.cache", why: "the loader finds the shared libraries in it" },
  { path: "/etc/ssl/openssl.cnf", why: "OpenSSL ends the process if the file is there and cannot be read" },
  { path: "/etc/localtime", why: "the time zone of the machine" },
  { path: "/dev/null", why: "programs and libraries throw output away there", write: true },
  { path: "/dev/urandom", why: "randomness where a library does not use getrandom" },
  { path: "/proc/self", why: "its own memory use (process.memoryUsage, metrics) and its cgroup; of no other process" },
  { path: "/proc/meminfo", why: "V8 sizes its heap by the machine's memory" },
  { path: "/proc/stat", why: "os.cpus() and the processor figures of metrics" },
  { path: "/proc/cpuinfo", why: "os.cpus()" },
  { path: "/proc/uptime", why: "os.uptime()" },
  { path: "/proc/loadavg", why: "os.loadavg()" },
  { path: "/sys/devices/system/cpu", why: "how many processors there are: thread pools are sized by it" },
];

/** What resolving host names reads in addition, with getaddrinfo. */
export const nameBasics: { path: string; why: string }[] = [
  { path: "/etc/resolv.conf", why: "the name servers" },
  {
    path: "/run/systemd/resolve",
    why: "where resolv.conf points on machines with systemd-resolved; replaced as a file, so by directory",
  },
  { path: "/run/NetworkManager", why: "the same with NetworkManager" },
  { path: "/run/resolvconf", why: "the same with resolvconf" },
  { path: "/run/connman", why: "the same with ConnMan" },
  { path: "/etc/hosts", why: "names that need no server" },
  { path: "/etc/nsswitch.conf", why: "in what order to ask" },
  { path: "/etc/host.conf", why: "how to treat several addresses" },
  { path: "/etc/gai.conf", why: "which address to prefer" },
];

export interface ConfinementInput {
  service: string;
  uid?: number;
  gid?: number;
  launchGid?: number;
  nodePath: string;
  nodeFlags?: readonly string[];
  script: string;
  args?: readonly string[];
  /** The bundle and the native files that the service loads. */
  codeDirs: readonly string[];
  /** The service's own directory, the only place it may write; without it, it may write nowhere. */
  stateDir?: string;
  /** Further paths, such as a device's node or what device-host measures. */
  read?: readonly string[];
  write?: readonly string[];
  connectPorts?: readonly number[];
  bindPorts?: readonly number[];
  udp?: boolean;
  /** Whether it resolves host names; needs `udp`, which is the default. */
  names?: boolean;
  unixSockets?: boolean;
  filesMax?: number;
  memoryBytesMax?: number;
  processesMax?: number;
  fileBytesMax?: number;
  env?: Readonly<Record<string, string>>;
  keepFds?: readonly number[];
}

/** Open files of a service unless the plan says otherwise; the kernel answers EMFILE past it. Its table takes 8 bytes for each. */
const FILES_MAX = 4095;
/** Threads of an own uid: Node has about 12, workers 1 each and libuv up to 4 more; past it creating a thread fails. */
export const PROCESSES_MAX = 128;

/** Makes the plan of a service out of what is particular to it, adding what Node itself needs. */
export function confinementOf(input: ConfinementInput): Plan {
  const { service, uid, gid, launchGid, nodePath, script, connectPorts, udp = false, names = udp } = input;
  const processesMax = input.processesMax ?? (uid === undefined ? undefined : PROCESSES_MAX);
  return {
    service,
    ...(uid === undefined ? {} : { uid, gid: gid ?? uid, launchGid: launchGid ?? gid ?? uid }),
    read: [
      ...input.codeDirs,
      ...(input.read ?? []),
      ...basics.filter((it) => !it.write).map((it) => it.path),
      ...ownCgroups(),
      ...(names ? nameBasics.map((it) => it.path) : []),
    ],
    write: [
      ...(input.stateDir === undefined ? [] : [input.stateDir]),
      ...(input.write ?? []),
      ...basics.filter((it) => it.write).map((it) => it.path),
    ],
    argv: [nodePath, ...(input.nodeFlags ?? []), script, ...(input.args ?? [])],
    ...(connectPorts === undefined ? {} : { connectPorts: [...connectPorts] }),
    bindPorts: [...(input.bindPorts ?? [])],
    udp,
    unixSockets: input.unixSockets ?? false,
    filesMax: input.filesMax ?? FILES_MAX,
    ...(input.memoryBytesMax === undefined ? {} : { memoryBytesMax: input.memoryBytesMax }),
    ...(processesMax === undefined ? {} : { processesMax }),
    ...(input.fileBytesMax === undefined ? {} : { fileBytesMax: input.fileBytesMax }),
    env: { ...input.env },
    keepFds: [...(input.keepFds ?? [])],
  };
}

/** Finds the directories of this process's cgroups that hold a memory limit: Node sizes its heap by it. Children inherit them. */
function ownCgroups(): string[] {
  const lines = readFileSync("/proc/self/cgroup", "utf8").trim().split("\n");
  return lines.flatMap((line) => {
    const [, controllers = "", path = "/"] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    // A process outside of the cgroup namespace's root is shown with a path that climbs; that directory cannot be seen from here.
    if (path.startsWith("/..")) return [];
    if (controllers === "") return [`/sys/fs/cgroup${path}`];
    return controllers.split(",").includes("memory") ? [`/sys/fs/cgroup/memory${path}`] : [];
  });
}
