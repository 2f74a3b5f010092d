/** What idle TLS connections cost, beside those of a bare node:https server. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { type Row, rowOf } from "../table.ts";
import { memoryBytes } from "./machine.ts";
import { startOurs } from "./ours.ts";

const CONNECTIONS = 10_000;
const AT_ONCE = 50;
const REACH = 1.15;
/** Long enough for the garbage of 10,000 handshakes to be gone. */
const SETTLE_MS = 3_000;

interface Papers {
  readonly certFile: string;
  readonly keyFile: string;
}

/** Measures it. */
export async function idleMemory(directory: string): Promise<Row[]> {
  const papers = { certFile: path.join(directory, "cert.pem"), keyFile: path.join(directory, "key.pem") };
  const name = `memory of ${CONNECTIONS.toLocaleString("en")} idle TLS connections`;
  const bare = fork(import.meta.filename, [JSON.stringify(papers)]);
  const [port] = (await once(bare, "message")) as [number];
  const theirs = await grown(bare, bare.pid!, port);
  bare.kill("SIGKILL");
  const ours = await startOurs({ routes: { routes: [] }, logFile: path.join(directory, "idle.log"), logLevel: "warn" });
  const mine = await grown(ours.child, ours.pid, ours.port);
  await ours.stop();
  console.log(
    `an idle TLS connection: ${Math.round(mine / CONNECTIONS)} bytes, node:https ${Math.round(theirs / CONNECTIONS)}`,
  );
  return [rowOf(name, mine / theirs, "x node:https", REACH)];
}

/** How much larger a process is with the connections, each of which has asked once. */
async function grown(child: ChildProcess, pid: number, port: number): Promise<number> {
  const clients: TLSSocket[] = [];
  const open = async () => {
    const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
    socket.on("error", () => undefined);
    await once(socket, "secureConnect");
    socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    await once(socket, "data");
    clients.push(socket);
  };
  // What the first ones load is not theirs.
  await Promise.all(Array.from({ length: AT_ONCE }, open));
  const before = memoryBytes(pid);
  for (let opened = 0; opened < CONNECTIONS; opened += AT_ONCE)
    await Promise.all(Array.from({ length: AT_ONCE }, open));
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const bytes = memoryBytes(pid) - before;
  for (const socket of clients) socket.destroy();
  if (child.exitCode !== null) throw new Error("the server has ended");
  return bytes;
}

if (import.meta.main) {
  const { certFile, keyFile } = JSON.parse(process.argv[2] ?? "") as Papers;
  const options = { cert: readFileSync(certFile), key: readFileSync(keyFile), keepAliveTimeout: 600_000 };
  const server = createServer(options, (_request, response) => response.end("ok"));
  server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
  process.once("disconnect", () => process.exit());
}
