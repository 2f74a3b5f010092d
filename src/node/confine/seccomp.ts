/**
 * The system call filter: classic BPF, written here so that no compiler and no library is needed. It refuses with EPERM
 * (Landlock refuses with EACCES: so a log tells which wall was hit), kills on calls of another machine's ABI, and leaves
 * the rest alone. What it always allows costs nothing: the kernel answers those from a bitmap without running the filter.
 */
import type { Arch } from "./libc.ts";
import { JUDGED, numberOf, REFUSED, UNKNOWN_FROM } from "./syscalls.ts";

export interface FilterInput {
  arch: Arch;
  /** The pid of the service: the only one that it may signal or limit. An exec does not change it. */
  pid: number;
  /** The descriptor that execveat may use; must be one that the process can never make again (privileges.ts, beyondReach). */
  execFd: number;
  udp: boolean;
  unixSockets: boolean;
  /** Whether bind() is needed at all. Inherited listening sockets need none. */
  bind: boolean;
  /** Without `bind`: the descriptors that listen() may be called on. */
  listenFds: readonly number[];
}

// linux/filter.h and linux/seccomp.h.
const LD_W_ABS = 0x20;
const JA = 0x05;
const JEQ = 0x15;
const JGE = 0x35;
const JSET = 0x45;
const AND = 0x54;
const RET = 0x06;
const RET_KILL_PROCESS = 0x8000_0000;
const RET_ALLOW = 0x7fff_0000;
const RET_ERRNO = 0x0005_0000;
const EPERM = 1;
const ENOSYS = 38;
const AUDIT_ARCH: Record<Arch, number> = { x64: 0xc000_003e, arm64: 0xc000_00b7 };
/** On x86-64 the calls of the x32 ABI carry this bit: the same calls under other numbers. */
const X32_BIT = 0x4000_0000;
/** Offsets in struct seccomp_data. Arguments are 64 bits wide; each one judged here is 32 bits to the kernel, so the low word decides. */
const AT_NR = 0;
const AT_ARCH = 4;
const argument = (index: number): number => 16 + index * 8;

const CLONE_THREAD = 0x0001_0000;
/** NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const CLONE_NAMESPACES = 0x7e02_0000;
const AT_EMPTY_PATH = 0x1000;
const AF = { unix: 1, inet: 2, inet6: 10 };
const SOCK_TYPE_MASK = 0xf;
const SOCK = { stream: 1, dgram: 2 };
const IPPROTO = { any: 0, tcp: 6, udp: 17 };
/** Memory shared with nobody yet, which the limit on memory does not count (MAP_SHARED and MAP_ANONYMOUS): nobody here forks. */
const MAP_UNCOUNTED = 0x21;
/** Connects while sending, unseen by Landlock's rule on connect. */
const MSG_FASTOPEN = 0x2000_0000;
/** TIOCSTI, TIOCLINUX, TIOCSETD: types into the terminal that the node was started from; an inherited descriptor passes by Landlock. */
const TERMINAL_INJECTION = [0x5412, 0x541c, 0x5423];
/** PR_SET_DUMPABLE and PR_SET_PTRACER: would open the memory that the launcher shielded. */
const UNSHIELD = [4, 0x5961_6d61];

/** One instruction whose jumps name labels, or (a string) the label of the next one. The labels allow and refuse end every block. */
type Step = string | readonly [op: number, k: number, yes?: string, no?: string];
type Instruction = readonly [op: number, yes: number, no: number, k: number];

/** Turns labels into distances. What falls off the end is refused. */
function assemble(steps: readonly Step[], errno: number = EPERM): Instruction[] {
  const all: Step[] = [...steps, "refuse", [RET, RET_ERRNO | errno], "allow", [RET, RET_ALLOW]];
  const places = new Map<string, number>();
  const code: Exclude<Step, string>[] = [];
  for (const step of all) {
    if (typeof step === "string") places.set(step, code.length);
    else code.push(step);
  }
  return code.map(([op, k, yes, no], at) => {
    const distance = (label: string | undefined): number =>
      label === undefined ? 0 : (places.get(label) ?? Number.NaN) - at - 1;
    return [op, distance(yes), distance(no), k];
  });
}

const allowOneOf = (index: number, values: readonly number[]): Step[] => [
  [LD_W_ABS, argument(index)],
  ...values.map((value): Step => [JEQ, value, "allow"]),
];
const refuseOneOf = (index: number, values: readonly number[]): Step[] => [
  [LD_W_ABS, argument(index)],
  ...values.map((value): Step => [JEQ, value, "refuse"]),
  [RET, RET_ALLOW],
];
const refuseBits = (index: number, mask: number): Step[] => [
  [LD_W_ABS, argument(index)],
  [JSET, mask, "refuse", "allow"],
];

/** TCP; UDP and Unix where the plan says so; no raw, packet, netlink or vsock, and no MPTCP or SCTP: Landlock's port rules are TCP's alone. */
function socketSteps({ udp, unixSockets }: FilterInput): Step[] {
  return [
    [LD_W_ABS, argument(0)],
    ...(unixSockets ? [[JEQ, AF.unix, "allow"] as const] : []),
    [JEQ, AF.inet, "internet"],
    [JEQ, AF.inet6, "internet", "refuse"],
    "internet",
    [LD_W_ABS, argument(1)],
    [AND, SOCK_TYPE_MASK],
    [JEQ, SOCK.stream, "stream"],
    [JEQ, SOCK.dgram, udp ? "datagram" : "refuse", "refuse"],
    "datagram",
    [LD_W_ABS, argument(2)],
    [JEQ, IPPROTO.any, "allow"],
    [JEQ, IPPROTO.udp, "allow", "refuse"],
    "stream",
    ...allowOneOf(2, [IPPROTO.any, IPPROTO.tcp]),
  ];
}

/** Lists what is judged by its arguments, each as a block that sees the call's number only if it is its own. */
function judgements(input: FilterInput): [keyof typeof JUDGED, Instruction[]][] {
  const { pid, execFd, unixSockets, bind, listenFds, udp } = input;
  const self = [pid];
  const sockets = bind || udp || unixSockets;
  return [
    [
      "mmap",
      assemble([
        [LD_W_ABS, argument(3)],
        [AND, MAP_UNCOUNTED],
        [JEQ, MAP_UNCOUNTED, "refuse", "allow"],
      ]),
    ],
    // Threads only: a process that cannot exec has no use for children, and a fork bomb no fuse.
    [
      "clone",
      assemble([
        [LD_W_ABS, argument(0)],
        [JSET, CLONE_NAMESPACES, "refuse"],
        [JSET, CLONE_THREAD, "allow"],
      ]),
    ],
    // Its flags are in memory, where a filter cannot look. The C library falls back to clone.
    ["clone3", assemble([], ENOSYS)],
    [
      "execveat",
      assemble([[LD_W_ABS, argument(0)], [JEQ, execFd, undefined, "refuse"], ...allowOneOf(4, [AT_EMPTY_PATH])]),
    ],
    ["kill", assemble(allowOneOf(0, self))],
    ["tgkill", assemble(allowOneOf(0, self))],
    ["prlimit64", assemble(allowOneOf(0, [0, pid]))],
    ["prctl", assemble(refuseOneOf(0, UNSHIELD))],
    ["ioctl", assemble(refuseOneOf(1, TERMINAL_INJECTION))],
    ["socket", assemble(socketSteps(input))],
    ["socketpair", assemble(unixSockets ? allowOneOf(0, [AF.unix]) : [])],
    ["bind", assemble(sockets ? [[RET, RET_ALLOW]] : [])],
    // listen() on a socket without an address binds it to a port of the kernel's choice, unseen by Landlock's rule on bind.
    ["listen", assemble(sockets ? [[RET, RET_ALLOW]] : allowOneOf(0, listenFds))],
    ["sendto", assemble(refuseBits(3, MSG_FASTOPEN))],
    ["sendmsg", assemble(refuseBits(2, MSG_FASTOPEN))],
    ["sendmmsg", assemble(refuseBits(3, MSG_FASTOPEN))],
  ];
}

/** Makes the filter's program: instructions of eight bytes, as struct sock_filter. */
export function filterOf(input: FilterInput): Buffer {
  const { arch } = input;
  const code: Instruction[] = [
    [LD_W_ABS, 0, 0, AT_ARCH],
    [JEQ, 1, 0, AUDIT_ARCH[arch]],
    [RET, 0, 0, RET_KILL_PROCESS],
    [LD_W_ABS, 0, 0, AT_NR],
  ];
  if (arch === "x64") code.push([JGE, 0, 1, X32_BIT], [RET, 0, 0, RET_ERRNO | EPERM]);
  code.push([JGE, 0, 1, UNKNOWN_FROM], [RET, 0, 0, RET_ERRNO | ENOSYS]);
  // One refusal serves all of the list: a jump reaches 255 instructions ahead, and the list is half of that.
  const refused = Object.values(REFUSED)
    .map((pair) => numberOf<number | null>(pair, arch))
    .filter((number) => number !== null);
  refused.forEach((number, at) => code.push([JEQ, refused.length - at, 0, number]));
  code.push([JA, 0, 0, 1], [RET, 0, 0, RET_ERRNO | EPERM]);
  for (const [name, block] of judgements(input))
    code.push([JEQ, 0, block.length, numberOf(JUDGED[name], arch)], ...block);
  code.push([RET, 0, 0, RET_ALLOW]);

  const program = Buffer.alloc(code.length * 8);
  code.forEach(([op, yes, no, k], at) => {
    program.writeUInt16LE(op, at * 8);
    program.writeUInt8(yes, at * 8 + 2);
    program.writeUInt8(no, at * 8 + 3);
    program.writeUInt32LE(k >>> 0, at * 8 + 4);
  });
  return program;
}
