/** An open loop: requests begin when their time has come, whatever became of those before; in a process of its own. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { OTHER_CORE } from "./machine.ts";

export interface LoadOptions {
  readonly port: number;
  readonly tls: boolean;
  readonly path: string;
  readonly headers: string;
  readonly requestsPerS: number;
  readonly seconds: number;
  readonly connections: number;
}

export interface Loaded {
  /** Answers of status 200, a second. */
  readonly goodPerS: number;
  readonly refusedPerS: number;
  /** All connections waited for an answer: no client was left to ask. */
  readonly unsentPerS: number;
  /** Of answers of status 200, from the moment the request should have begun. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const TICK_MS = 1;

/** Sends the load from the other core. */
export async function load(options: LoadOptions): Promise<Loaded> {
  const child = fork(import.meta.filename, [], {
    execPath: "/usr/bin/taskset",
    execArgv: ["-c", String(OTHER_CORE), process.execPath],
  });
  child.send(options);
  const [loaded] = (await once(child, "message")) as [Loaded];
  child.disconnect();
  return loaded;
}

interface Lane {
  readonly socket: Socket;
  dueMs: number;
}

class Generator {
  readonly #o: LoadOptions;
  readonly #text: string;
  readonly #idle: Lane[] = [];
  readonly #latenciesMs: number[] = [];
  #refused = 0;
  #unsent = 0;

  constructor(options: LoadOptions) {
    this.#o = options;
    this.#text = `GET ${options.path} HTTP/1.1\r\nHost: localhost\r\n${options.headers}\r\n`;
  }

  async run(): Promise<Loaded> {
    const { connections, requestsPerS, seconds } = this.#o;
    await Promise.all(Array.from({ length: connections }, () => this.#open()));
    const startMs = performance.now();
    let sent = 0;
    await new Promise<void>((resolve) => {
      const ticking = setInterval(() => {
        const nowMs = performance.now() - startMs;
        if (nowMs > seconds * 1_000) {
          clearInterval(ticking);
          return resolve();
        }
        for (; sent < (nowMs / 1_000) * requestsPerS; sent++) this.#begin(startMs + (sent / requestsPerS) * 1_000);
      }, TICK_MS);
    });
    const sorted = this.#latenciesMs.toSorted((a, b) => a - b);
    const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
    const perS = { goodPerS: sorted.length / seconds, refusedPerS: this.#refused / seconds };
    return { ...perS, unsentPerS: this.#unsent / seconds, p50Ms: at(0.5), p99Ms: at(0.99) };
  }

  async #open(): Promise<void> {
    const { port, tls } = this.#o;
    const socket = tls
      ? connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false })
      : connectPlain({ host: "127.0.0.1", port });
    await once(socket, tls ? "secureConnect" : "connect");
    socket.setNoDelay(true);
    const lane: Lane = { socket, dueMs: 0 };
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      const head = text.indexOf("\r\n\r\n");
      const length = head < 0 ? Number.NaN : Number(/content-length: (\d+)/i.exec(text.slice(0, head))?.[1]);
      if (Number.isNaN(length) || text.length < head + 4 + length) return;
      this.#answered(lane, text.startsWith("HTTP/1.1 200"));
      text = "";
    });
    socket.on("error", () => undefined);
    this.#idle.push(lane);
  }

  #begin(dueMs: number): void {
    const lane = this.#idle.pop();
    if (!lane) return void this.#unsent++;
    lane.dueMs = dueMs;
    lane.socket.write(this.#text, "latin1");
  }

  #answered(lane: Lane, isGood: boolean): void {
    if (isGood) this.#latenciesMs.push(performance.now() - lane.dueMs);
    else this.#refused++;
    this.#idle.push(lane);
  }
}

if (import.meta.main) {
  process.once("message", (options: LoadOptions) => {
    void new Generator(options).run().then((loaded) => process.send?.(loaded));
  });
  process.once("disconnect", () => process.exit());
}
