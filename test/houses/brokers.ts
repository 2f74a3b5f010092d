/** Real servers of others for tests: Mosquitto, nats-server and etcd, each on a port of its own, killed when the test ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findCommand } from "../need.ts";
import { freePort } from "./ports.ts";

const READY_MS_MAX = 10_000;
/** What a broker said last, for when it does not come up. */
const SAID_MAX = 2_000;

export interface BrokerTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface Broker {
  readonly port: number;
  readonly pid: number;
  /** kill -9. */
  kill(): Promise<void>;
  /** Starts it again, on the same port. */
  start(): Promise<void>;
  signal(name: NodeJS.Signals): void;
}

interface After {
  after(work: () => unknown): void;
}

async function answers(port: number, process: ChildProcess): Promise<void> {
  const endMs = performance.now() + READY_MS_MAX;
  for (;;) {
    const socket = connect(port, "127.0.0.1");
    const isUp = await Promise.race([
      once(socket, "connect").then(
        () => true,
        () => false,
      ),
      sleep(1_000, false),
    ]);
    socket.destroy();
    if (isUp) return;
    if (process.exitCode !== null) throw new Error(`the broker ended with status ${process.exitCode}`);
    if (performance.now() > endMs) throw new Error("the broker does not come up");
    await sleep(20);
  }
}

async function run(t: After, command: string, args: (port: number) => string[]): Promise<Broker> {
  const path = findCommand(command);
  if (path === undefined) throw new Error(`${command} is not here`);
  const port = freePort();
  let child: ChildProcess;
  const start = async () => {
    child = spawn(path, args(port), { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const output of [child.stdout, child.stderr])
      output?.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-SAID_MAX)));
    await answers(port, child).catch((cause: unknown) => Promise.reject(new Error(`${command}: ${said}`, { cause })));
  };
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };
  await start();
  t.after(kill);
  return {
    port,
    get pid() {
      return child.pid ?? 0;
    },
    kill,
    start,
    signal(name) {
      child.kill(name);
      // It is delivered when the kernel gets to it: an answer may be given until then.
      if (name === "SIGSTOP") while (!isStopped(child.pid!));
    },
  };
}

/** True where each of its threads stands still. */
const isStopped = (pid: number): boolean =>
  readdirSync(`/proc/${pid}/task`).every((thread) =>
    / T /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8").split(")")[1]),
  );

/** Starts Mosquitto; `lines` go into its config (`max_packet_size 10000`). */
export function startMosquitto(
  t: After,
  directory: string,
  { tls, lines = [] }: { tls?: BrokerTls; lines?: readonly string[] } = {},
): Promise<Broker> {
  return run(t, "mosquitto", (port) => {
    const file = join(directory, "mosquitto.conf");
    const secure = tls
      ? [`cafile ${tls.ca}`, `certfile ${tls.cert}`, `keyfile ${tls.key}`, "require_certificate true"]
      : [];
    // As root it would become a user of its own, who may not read the test's key.
    const text = [`listener ${port} 127.0.0.1`, "allow_anonymous true", "user root", ...secure, ...lines, ""];
    writeFileSync(file, text.join("\n"));
    return ["-c", file];
  });
}

/** Starts nats-server with JetStream; `lines` go into its config. */
export function startNats(
  t: After,
  directory: string,
  { tls, lines = [] }: { tls?: BrokerTls; lines?: readonly string[] } = {},
): Promise<Broker> {
  return run(t, "nats-server", (port) => {
    const file = join(directory, "nats.conf");
    mkdirSync(join(directory, "nats"), { recursive: true });
    const secure = tls
      ? [`tls { cert_file: "${tls.cert}", key_file: "${tls.key}", ca_file: "${tls.ca}", verify: true }`]
      : [];
    const store = `jetstream { store_dir: "${join(directory, "nats")}" }`;
    writeFileSync(file, [`listen: 127.0.0.1:${port}`, store, ...secure, ...lines, ""].join("\n"));
    return ["-c", file];
  });
}

/** Starts the members of an etcd cluster; one member is a cluster, too. */
export async function startEtcd(t: After, directory: string, members = 1): Promise<Broker[]> {
  const peers = Array.from({ length: members }, () => `http://127.0.0.1:${freePort()}`);
  const cluster = peers.map((peer, n) => `m${n}=${peer}`).join(",");
  const started = peers.map((peer, n) =>
    run(t, "etcd", (port) => [
      `--name=m${n}`,
      `--data-dir=${join(directory, `etcd-${n}`)}`,
      "--log-level=error",
      `--listen-client-urls=http://127.0.0.1:${port}`,
      `--advertise-client-urls=http://127.0.0.1:${port}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=${cluster}`,
    ]),
  );
  return Promise.all(started);
}
