/** Runs inside the confinement, for the tests: does what a service does, tries what an intruder would, tells, and serves https. */
import { spawnSync } from "node:child_process";
import { closeSync, constants, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { createServer } from "node:https";
import { connect, createServer as createTcp } from "node:net";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { addressOf, archOf, attempt, LibcError } from "./libc.ts";
import { JUDGED, numberOf, REFUSED } from "./syscalls.ts";

export interface ProbeInput {
  key: string;
  cert: string;
  stateDir: string;
  neighbourFile: string;
  allowedPort: number;
  otherPort: number;
  filesMax: number;
}
/** By name: "ok", or the symbol of what it met. */
export type Outcomes = Record<string, string>;

const outcomes: Outcomes = {};
const input = JSON.parse(readFileSync(4, "utf8")) as ProbeInput;
const symbolOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);

function tryOut(name: string, action: () => unknown): void {
  try {
    action();
    outcomes[name] = "ok";
  } catch (error) {
    outcomes[name] = error instanceof LibcError ? error.symbol : symbolOf(error);
  }
}
/** Makes a C call of which the test expects a refusal. */
const tryCall = (
  name: string,
  call: string,
  ...args: Parameters<typeof attempt> extends [string, ...infer Rest] ? Rest : never
): void =>
  tryOut(name, () => {
    const result = attempt(call, ...args);
    if (result < 0) throw new LibcError(name, -result);
  });
const numbers = { ...REFUSED, ...JUDGED };
const trySystemCall = (name: keyof typeof numbers, ...args: (number | string | null)[]): void => {
  const number = numberOf<number | null>(numbers[name], archOf());
  if (number !== null) tryCall(name, "syscall", number, ...args);
};

function work(): void {
  tryOut("write own state", () => writeFileSync(`${input.stateDir}/note`, "kept"));
  tryOut("read own state", () => readFileSync(`${input.stateDir}/note`));
  tryOut("memory usage", () => process.memoryUsage().rss);
  tryOut("processors", () => availableParallelism());
  tryOut("signal itself", () => process.kill(process.pid, 0));
  tryOut("write /dev/null", () => writeFileSync("/dev/null", "x"));
  tryOut("own status", () => readFileSync("/proc/self/status"));
}

async function database(): Promise<void> {
  const { default: Database } = await import("better-sqlite3-multiple-ciphers");
  tryOut("encrypted database", () => {
    const db = new Database(`${input.stateDir}/store.db`);
    for (const pragma of [
      "cipher='chacha20'",
      "key='a secret'",
      "temp_store=MEMORY",
      "journal_mode=WAL",
      "synchronous=FULL",
    ])
      db.pragma(pragma);
    db.exec("create table t(a); insert into t values('canary')");
    db.close();
    if (readFileSync(`${input.stateDir}/store.db`).includes("canary")) throw new Error("in plain text");
  });
}
/** Lays out strings as C wants argv and envp: an array of pointers that ends in NULL. Keep `strings` alive as long as `array`. */
function stringArray(values: readonly string[]): { array: Buffer; strings: Buffer[] } {
  const strings = values.map((value) => Buffer.from(`${value}\0`));
  const array = Buffer.alloc((values.length + 1) * 8);
  strings.forEach((text, at) => array.writeBigUInt64LE(addressOf(text), at * 8));
  return { array, strings };
}

function execution(): void {
  const { array, strings } = stringArray(["node", "--version"]);
  const none = stringArray([]);
  tryOut("child_process", () => {
    const { error } = spawnSync(process.execPath, ["--version"]);
    if (error) throw error;
  });
  for (const path of ["/bin/true", process.execPath, "/proc/self/exe"])
    tryCall(`execve ${path === process.execPath ? "node" : path}`, "execve", path, array, none.array);
  const node = openSync(process.execPath, "r");
  tryCall("fexecve node", "fexecve", node, array, none.array);
  trySystemCall("execveat", node, "", null, null, 0x1000);
  // The filter lets one descriptor's number pass. It must be out of reach for ever.
  tryCall("dup to the number that may be executed", "dup2", node, input.filesMax);
  tryCall("fcntl to the number that may be executed", "fcntl", node, 0, input.filesMax);
  tryCall(
    "execveat of that number",
    "syscall",
    numberOf(JUDGED.execveat, archOf()),
    input.filesMax,
    "",
    array,
    none.array,
    0x1000,
  );
  const raised = Buffer.alloc(16, 0xff);
  tryCall("raise the limit on files", "setrlimit", 7, raised);
  closeSync(node);
  tryCall("fork", "fork");
  outcomes["arguments kept"] = String(strings.length);
}

function files(): void {
  const { supervisor, shadow } = { supervisor: `/proc/${process.ppid}/environ`, shadow: "/etc/shadow" };
  for (const path of [input.neighbourFile, shadow, "/proc/1/environ", supervisor, "/etc/passwd"])
    tryOut(
      `read ${path === supervisor ? "the supervisor's environ" : path === input.neighbourFile ? "the neighbour's file" : path}`,
      () => readFileSync(path),
    );
  tryOut("list /", () => readdirSync("/"));
  tryOut("write outside", () => writeFileSync(`${input.neighbourFile}.made`, ""));
  tryOut("write the neighbour's file", () => writeFileSync(input.neighbourFile, ""));
  tryCall("truncate the neighbour's file", "truncate", input.neighbourFile, 0);
  tryCall("chmod the neighbour's file", "chmod", input.neighbourFile, 0o777);
  tryOut("write its own code", () => closeSync(openSync(process.argv[1] ?? "", constants.O_WRONLY)));
}

function kernel(): void {
  const parent = process.ppid;
  tryOut("signal the supervisor", () => process.kill(parent, 0));
  tryCall("ptrace", "ptrace", 16, parent, 0, 0);
  for (const name of [
    "process_vm_readv",
    "pidfd_open",
    "setns",
    "mount",
    "bpf",
    "perf_event_open",
    "io_uring_setup",
    "userfaultfd",
    "keyctl",
    "add_key",
    "open_by_handle_at",
    "personality",
    "kexec_load",
    "init_module",
    "chroot",
    "setgroups",
    "capset",
    "shmget",
  ] as const)
    trySystemCall(name, 0, 0, 0, 0);
  trySystemCall("unshare", 0x1000_0000);
  trySystemCall("clone", 0x1000_0011, 0, 0, 0);
  trySystemCall("clone3", null, 0);
  trySystemCall("memfd_create", "x", 0);
  tryCall("setuid 0", "setuid", 0);
  tryCall("setresuid 0", "setresuid", 0, 0, 0);
  tryCall("make its memory readable", "prctl", 4, 1, 0, 0, 0);
  tryCall("limit the supervisor", "prlimit", parent, 7, null, null);
  tryCall("type into the terminal", "ioctl", 0, 0x5412, " ");
  tryCall("a call of the future", "syscall", 600);
  if (archOf() === "x64") tryCall("a call of x32", "syscall", 0x4000_0000 + 39);
}

function sockets(): void {
  const [unix, inet, inet6, netlink, packet, vsock] = [1, 2, 10, 16, 17, 40];
  const [stream, dgram, raw] = [1, 2, 3];
  const kinds = {
    "tcp socket": [inet, stream, 0],
    "udp socket": [inet, dgram, 0],
    "udp6 socket": [inet6, dgram, 17],
    "icmp socket": [inet, dgram, 1],
    "raw socket": [inet, raw, 1],
    "netlink socket": [netlink, raw, 0],
    "packet socket": [packet, raw, 0],
    "vsock socket": [vsock, stream, 0],
    "unix socket": [unix, stream, 0],
    "mptcp socket": [inet, stream, 262],
  } as const;
  for (const [name, args] of Object.entries(kinds)) tryCall(name, "socket", ...args);
  tryCall("socketpair", "socketpair", unix, dgram, 0, Buffer.alloc(8));
  tryCall("listen without an address", "listen", attempt("socket", inet, stream, 0), 1);
  tryCall("connect by sending", "sendto", attempt("socket", inet, stream, 0), "x", 1, 0x2000_0000, null, 0);
}

const told = (
  name: string,
  emitter: { once(event: string, listener: (value?: unknown) => void): unknown },
  good: string,
): Promise<void> =>
  new Promise((resolve) => {
    const tell = (outcome: string): void => {
      outcomes[name] = outcome;
      resolve();
    };
    emitter.once(good, () => tell("ok"));
    emitter.once("error", (error) => tell(symbolOf(error)));
  });

work();
execution();
files();
kernel();
sockets();
await database();
await told("worker thread", new Worker("0", { eval: true }), "exit");
await told("listen on a port", createTcp().listen(0, "127.0.0.1"), "listening");
await told("connect to a port of the plan", connect(input.allowedPort, "127.0.0.1"), "connect");
await told("connect to another port", connect(input.otherPort, "127.0.0.1"), "connect");
const server = createServer({ key: input.key, cert: input.cert, minVersion: "TLSv1.3" }, (_request, response) =>
  response.end("held"),
);
server.listen({ fd: 3 }, () => writeSync(1, JSON.stringify(outcomes)));
