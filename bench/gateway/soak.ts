/** Clients that abort, clients that read slowly, services that fail: whether memory and sockets come back. */
import { readdirSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import { type Row, rowOf } from "../table.ts";
import { memoryBytes } from "./machine.ts";
import { startOurs } from "./ours.ts";

const SECONDS = Number(/--soak=(\d+)/.exec(process.argv.join(" "))?.[1] ?? 60);
const CLIENTS = 40;
const SETTLE_MS = 2_500;
const LARGE = Buffer.alloc(1_048_576, "x");
/** Of the memory after the first tenth. */
const GROWTH_MAX = 1.15;

/** Breaks off, is slow, refuses, or gives a megabyte. */
function answer(request: IncomingMessage, response: ServerResponse): void {
  const dice = Math.floor(Number(request.url?.slice(-1)));
  if (dice === 0) return void request.socket.destroy();
  if (dice === 1) return void response.writeHead(503).end();
  if (dice === 2) return void setTimeout(() => response.end("late"), 300);
  if (dice < 6) return void response.end(LARGE);
  response.end("fine");
}

/** One client after another: some hang up half-way, some read slowly. */
async function client(port: number, number: number, untilMs: number): Promise<void> {
  for (let i = number; performance.now() < untilMs; i++) {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
    socket.on("error", () => undefined);
    const closed = once(socket, "close").catch(() => undefined);
    socket.write(`GET /soak/${i % 10} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    if (i % 3 === 0) setTimeout(() => socket.destroy(), 5 + (i % 50));
    else if (i % 7 === 0) setTimeout(() => socket.resume(), 200);
    else socket.resume();
    await closed;
  }
}

/** Measures it. */
export async function soak(directory: string): Promise<Row[]> {
  const behind = createServer(answer).listen(0, "127.0.0.1");
  await once(behind, "listening");
  const urls = [`http://127.0.0.1:${(behind.address() as AddressInfo).port}`];
  const route = { name: "soak", match: { path: "/soak/{n}" }, access: "public", to: [{ upstream: "behind" }] };
  const routes = { upstreams: { behind: { urls } }, routes: [{ ...route, retry: { triesMax: 3, statuses: [503] } }] };
  const ours = await startOurs({ routes, logFile: path.join(directory, "soak.log"), logLevel: "warn" });
  const sockets = () => readdirSync(`/proc/${ours.pid}/fd`).length;
  const run = (seconds: number) => {
    const untilMs = performance.now() + seconds * 1_000;
    return Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(ours.port, i, untilMs)));
  };
  const before = sockets();
  await run(SECONDS / 10);
  await sleep(SETTLE_MS);
  const early = memoryBytes(ours.pid);
  await run((SECONDS * 9) / 10);
  await sleep(SETTLE_MS);
  const late = memoryBytes(ours.pid);
  // Kept connections to the service are no leak: the service ends them.
  behind.closeAllConnections();
  behind.close();
  await sleep(SETTLE_MS);
  const left = sockets() - before;
  await ours.stop();
  return [
    rowOf(`memory after a soak of ${SECONDS} s`, late / early, "x its start", GROWTH_MAX),
    rowOf("sockets left by it", left, "sockets", 1),
  ];
}
