/** etcd through its JSON gateway, as a peer of the registry's bench. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AnswerParser } from "../src/kernel/http/answer-parser.ts";
import { findCommand } from "../test/need.ts";

const START_MS_MAX = 20_000;

const coded = (text: string): string => Buffer.from(text).toString("base64");

export interface Etcd {
  readonly pid: number;
  post(path: string, body: object): Promise<Record<string, unknown>>;
  put(key: string, value: string, lease?: string): Promise<void>;
  /** Opens a connection for lookups, one at a time. */
  ranging(): Promise<(key: string) => Promise<Record<string, unknown>>>;
  /** Resolves once the watch stands; `deleted` resolves when the key is deleted. */
  watch(key: string): Promise<{ readonly deleted: Promise<void> }>;
  stop(): Promise<void>;
}

/** Starts an etcd of one member on loopback; undefined where the machine has none. */
export async function startEtcd(ports: readonly [client: number, peer: number]): Promise<Etcd | undefined> {
  const command = findCommand("etcd");
  if (command === undefined) return undefined;
  const directory = mkdtempSync(join(tmpdir(), "bench-etcd-"));
  const [clients, peers] = ports.map((port) => `http://127.0.0.1:${port}`);
  const child = spawn(
    command,
    [
      "--name=one",
      `--data-dir=${directory}`,
      "--log-level=error",
      `--listen-client-urls=${clients}`,
      `--advertise-client-urls=${clients}`,
      `--listen-peer-urls=${peers}`,
      `--initial-advertise-peer-urls=${peers}`,
      `--initial-cluster=one=${peers}`,
    ],
    { stdio: "ignore" },
  );
  const agent = new Agent({ keepAlive: true });
  const post = poster(ports[0], agent);
  const untilMs = performance.now() + START_MS_MAX;
  while (!(await post("/v3/kv/range", { key: coded("ready") }).catch(() => undefined))) {
    if (performance.now() > untilMs || child.exitCode !== null) throw new Error("etcd does not start");
    await sleep(50);
  }
  return {
    pid: child.pid!,
    post,
    put: async (key, value, lease) =>
      void (await post("/v3/kv/put", { key: coded(key), value: coded(value), ...(lease ? { lease } : {}) })),
    ranging: () => ranging(ports[0]),
    watch: (key) => watch(ports[0], key),
    stop: () => stop(child, agent, directory),
  };
}

/** Over one kept connection, with the codec that our own lookups have: what differs is what is compared. */
async function ranging(port: number): Promise<(key: string) => Promise<Record<string, unknown>>> {
  const socket = createConnection({ host: "127.0.0.1", port, noDelay: true });
  await once(socket, "connect");
  let answered: (answer: Record<string, unknown>) => void;
  const chunks: Buffer[] = [];
  const parser = new AnswerParser({
    said: (headers) => ({ headers }),
    interim: () => undefined,
    head: () => undefined,
    data: (chunk) => chunks.push(chunk),
    end: () => answered(JSON.parse(Buffer.concat(chunks.splice(0)).toString()) as Record<string, unknown>),
  });
  socket.on("data", (chunk: Buffer) => parser.feed(chunk)).unref();
  return (key) =>
    new Promise((resolve) => {
      answered = resolve;
      parser.begin();
      const body = JSON.stringify({ key: coded(key) });
      const head = `POST /v3/kv/range HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\ncontent-length: ${body.length}\r\n\r\n`;
      socket.write(head + body);
    });
}

const poster =
  (port: number, agent: Agent) =>
  (path: string, body: object): Promise<Record<string, unknown>> =>
    new Promise((resolve, reject) => {
      const sent = request({ host: "127.0.0.1", port, path, method: "POST", agent }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.once("end", () => resolve(JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>));
      });
      sent.once("error", reject);
      sent.end(JSON.stringify(body));
    });

function watch(port: number, key: string): Promise<{ deleted: Promise<void> }> {
  const deleted = Promise.withResolvers<void>();
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path: "/v3/watch", method: "POST", agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
        if (text.includes('"created":true')) resolve({ deleted: deleted.promise });
        if (text.includes('"DELETE"')) {
          deleted.resolve();
          response.destroy();
        }
      });
    });
    sent.once("error", reject);
    sent.end(JSON.stringify({ create_request: { key: coded(key) } }));
  });
}

async function stop(child: ChildProcess, agent: Agent, directory: string): Promise<void> {
  agent.destroy();
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
  rmSync(directory, { recursive: true });
}
