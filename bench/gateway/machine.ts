/** Programs on a core of their own, what they cost, and wrk, which asks as fast as it is answered. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

/** What is measured runs on the first core; whoever asks and whoever answers behind it share the second. */
export const MEASURED_CORE = 0;
export const OTHER_CORE = 1;

const UP_MS = 10_000;

/** Finds a program of the machine. */
export const find = (name: string): string | undefined =>
  ["/usr/sbin", "/usr/bin", "/usr/local/bin"].map((directory) => `${directory}/${name}`).find(existsSync);

export interface Running {
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

/** Starts a program on one core. */
export function start(core: number, command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const child = spawn("taskset", ["-c", String(core), command, ...args], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, ...env },
  });
  const end = () => child.kill("SIGTERM");
  process.once("exit", end);
  return {
    child,
    async stop() {
      process.off("exit", end);
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 2_000);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** Nanoseconds on a core that a process, its threads and its children have had. */
export function cpuNs(pid: number): number {
  let sum = 0;
  for (const each of family(pid)) {
    for (const thread of readdirSync(`/proc/${each}/task`)) {
      const [ns] = readFileSync(`/proc/${each}/task/${thread}/schedstat`, "utf8").split(" ");
      sum += Number(ns);
    }
  }
  return sum;
}

function family(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
  return [pid, ...children.flatMap(family)];
}

/** Proportional memory of a process and its children, in bytes. */
export function memoryBytes(pid: number): number {
  const of = (each: number) => /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${each}/smaps_rollup`, "utf8"));
  return family(pid).reduce((sum, each) => sum + Number(of(each)?.[1] ?? 0) * 1024, 0);
}

/** Takes a port that nobody has. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Waits until somebody listens. */
export async function isUp(port: number): Promise<void> {
  const untilMs = performance.now() + UP_MS;
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const up = await Promise.race([
      once(socket, "connect").then(() => true),
      once(socket, "close").then(() => false),
    ]).catch(() => false);
    socket.destroy();
    if (up) return;
    if (performance.now() > untilMs) throw new Error(`nobody listens on port ${port}`);
    await sleep(20);
  }
}

export interface Target {
  readonly name: string;
  readonly url: string;
  readonly pid: number;
  readonly headers?: readonly string[];
}

export interface Saturated {
  readonly requestsPerS: number;
  readonly cpuUs: number;
}

/** Asks as fast as it is answered; tells the CPU a request. Throws where an answer is none of the expected. */
export async function saturate(target: Target, seconds: number, connections = 32): Promise<Saturated> {
  const { url, pid, headers = [] } = target;
  const beforeNs = cpuNs(pid);
  const { stdout } = await promisify(execFile)("taskset", [
    "-c",
    String(OTHER_CORE),
    "wrk",
    "-t1",
    `-c${connections}`,
    `-d${seconds}s`,
    ...headers.flatMap((header) => ["-H", header]),
    url,
  ]);
  const cpu = cpuNs(pid) - beforeNs;
  const count = Number(/(\d+) requests in/.exec(stdout)?.[1] ?? 0);
  if (count === 0 || /Non-2xx|(connect|read|write) [1-9]/.test(stdout))
    throw new Error(`${target.name} answered wrongly: ${stdout}`);
  return { requestsPerS: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]), cpuUs: cpu / count / 1_000 };
}
