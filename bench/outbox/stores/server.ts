/** A server of a peer on a Unix socket in a temporary directory, as somebody else than root where it insists on that. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const READY_MS_MAX = 20_000;
const SAID_MAX = 4_000;

export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

/** Finds whom a server runs as that refuses root: one of these users; nothing where this process is not root. */
export function otherThanRoot(...names: readonly string[]): Identity | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  const line = names.map((name) => lines.find((one) => one.startsWith(`${name}:`))).find((one) => one !== undefined);
  if (line === undefined) throw new Error(`none of the users ${names.join(", ")} exists`);
  const [, , uid, gid] = line.split(":");
  return { uid: Number(uid), gid: Number(gid) };
}

export class Server {
  readonly socketPath: string;
  readonly #child: ChildProcess;
  #said = "";

  private constructor(child: ChildProcess, socketPath: string) {
    this.#child = child;
    this.socketPath = socketPath;
    for (const output of [child.stdout, child.stderr])
      output?.on("data", (chunk: Buffer) => (this.#said = (this.#said + chunk.toString()).slice(-SAID_MAX)));
  }

  /** Starts it and waits until its socket answers. */
  static async start(command: string, args: readonly string[], socketPath: string, as?: Identity): Promise<Server> {
    const server = new Server(spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...as }), socketPath);
    const endMs = performance.now() + READY_MS_MAX;
    for (;;) {
      const socket = await server.open().catch(() => undefined);
      socket?.destroy();
      if (socket) return server;
      if (server.#child.exitCode !== null || performance.now() > endMs)
        throw new Error(`${command} does not come up: ${server.#said}`);
      await sleep(20);
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async open(): Promise<Socket> {
    const socket = connect(this.socketPath);
    await once(socket, "connect");
    return socket;
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    // To postgres: end at once, in order. Redis takes it for the same.
    this.#child.kill("SIGINT");
    await ended;
  }
}
