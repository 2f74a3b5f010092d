/** Attempts on other processes: their memory, their words, their lives; and on privileges. */
import { readdirSync, readFileSync } from "node:fs";
import { type Attempt, call, FILE, FILTER, systemCall } from "./attempt.ts";

const CLONE_NEWUSER = 0x1000_0000;
const CLONE_NEWNS = 0x0002_0000;
const VICTIMS = [
  ["the supervisor", "supervisorPid"],
  ["a neighbour", "neighbourPid"],
] as const;

const looks = VICTIMS.flatMap(([who, pid]) =>
  ["environ", "cmdline", "maps", "mem", "status", "fd"].map((file): Attempt => ({
    name: `read /proc of ${who}: ${file}`,
    refused: FILE,
    run({ target }) {
      const path = `/proc/${target[pid]}/${file}`;
      if (file === "fd") return `open: ${readdirSync(path).length}`;
      if (file === "mem") return call("close", call("open", path, 0)) + 1;
      return `${readFileSync(path).length + 1} bytes`;
    },
  })),
);

const deeds = VICTIMS.flatMap(([who, pid]): Attempt[] => [
  { name: `signal ${who}`, refused: FILTER, run: ({ target }) => `${process.kill(target[pid], 0)}` },
  {
    name: `signal ${who} by another call`,
    refused: FILTER,
    run: ({ target }) => `${systemCall("pidfd_open", target[pid], 0)}`,
  },
  { name: `trace ${who}`, refused: FILTER, control: false, run: ({ target }) => call("ptrace", 16, target[pid], 0, 0) },
  {
    name: `read the memory of ${who}`,
    refused: FILTER,
    control: false,
    run: ({ target }) => systemCall("process_vm_readv", target[pid], Buffer.alloc(16), 1, Buffer.alloc(16), 1, 0),
  },
  {
    name: `limit ${who}`,
    refused: FILTER,
    control: false, // Not every root may.
    run: ({ target }) => `${call("prlimit", target[pid], 7, null, Buffer.alloc(16))}`,
  },
  {
    name: `slow ${who} down`,
    refused: FILTER,
    run: ({ target }) => `${call("setpriority", 0, target[pid], 0)}`,
  },
]);

export const processes: readonly Attempt[] = [
  ...looks,
  ...deeds,
  { name: "signal everybody", refused: FILTER, run: () => `${process.kill(-1, 0)}` },
  { name: "become root", refused: FILTER, run: () => `${call("setuid", 0)}` },
  { name: "take root's group", refused: FILTER, run: () => `${call("setgid", 0)}` },
  { name: "take all groups", refused: FILTER, run: () => `${call("setgroups", 0, null)}` },
  {
    name: "take capabilities",
    refused: FILTER,
    control: false, // It is how they are given up, too, and the control needs them.
    run: () => `${systemCall("capset", Buffer.from([0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0]), Buffer.alloc(24))}`,
  },
  { name: "make a user namespace", refused: FILTER, control: false, run: () => systemCall("unshare", CLONE_NEWUSER) },
  { name: "make a mount namespace", refused: FILTER, run: () => `${systemCall("unshare", CLONE_NEWNS)}` },
  {
    name: "mount something",
    refused: FILTER,
    control: false,
    run: () => systemCall("mount", "none", "/tmp", "tmpfs", 0, null),
  },
  { name: "take a tree of files as a mount", refused: FILTER, run: () => `${systemCall("open_tree", -100, "/", 0)}` },
  {
    name: "enter the supervisor's namespaces",
    refused: FILTER,
    run: ({ target }) => `${call("setns", systemCall("pidfd_open", target.supervisorPid, 0), CLONE_NEWNS)}`,
  },
  { name: "open its memory to others", refused: FILTER, run: () => `${call("prctl", 4, 1, 0, 0, 0)}` },
  {
    name: "load a program into the kernel",
    refused: FILTER,
    control: false,
    run: () => systemCall("bpf", 0, Buffer.alloc(128), 128),
  },
  {
    name: "load a module into the kernel",
    refused: FILTER,
    control: false,
    run: () => systemCall("init_module", Buffer.alloc(64), 64, ""),
  },
  {
    name: "watch the processor's counters",
    refused: FILTER,
    control: false,
    run: () => systemCall("perf_event_open", Buffer.alloc(128), 0, -1, -1, 0),
  },
  {
    name: "queue calls past the filter",
    refused: FILTER,
    run: () => `${systemCall("io_uring_setup", 1, Buffer.alloc(120))}`,
  },
  { name: "read the kernel's keys", refused: FILTER, control: false, run: () => systemCall("keyctl", 0, -3, 0) },
  { name: "pause the kernel on a page", refused: FILTER, control: false, run: () => systemCall("userfaultfd", 0) },
  {
    name: "turn the clock",
    refused: FILTER,
    control: false,
    run: () => systemCall("clock_settime", 0, Buffer.alloc(16)),
  },
  { name: "restart the machine", refused: FILTER, control: false, run: () => systemCall("reboot", 0, 0, 0, null) },
  { name: "type into the terminal", refused: /EPERM/, control: false, run: () => call("ioctl", 0, 0x5412, " ") },
];
