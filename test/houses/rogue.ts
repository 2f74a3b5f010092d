/** A far side that is the cloud by its certificate and behaves as none: what a proxy, a broken release or an attacker answers. */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import type { TlsIdentity } from "../../src/kernel/identity/tls.ts";

const html = (status: string, ...headers: string[]): string => {
  const body = `<html><body>${status}</body></html>`;
  return [`HTTP/1.1 ${status}`, "content-type: text/html", `content-length: ${body.length}`, ...headers, "", body].join(
    "\r\n",
  );
};
const OK = "HTTP/1.1 200 OK\r\ncontent-type: application/cbor\r\n";
/** Bytes at a time of an answer without end. */
const FLOOD_BYTES = 1_048_576;
const TRICKLE_MS = 250;

/** What it does to each request; 429 asks for two seconds. */
export const MANNERS = {
  silence: () => undefined,
  "500": (socket) => void socket.write(html("500 Internal Server Error")),
  "429": (socket) => void socket.write(html("429 Too Many Requests", "retry-after: 2")),
  noise: (socket) => void socket.end(Buffer.from(Array.from({ length: 500 }, (_, i) => (i * 89 + 7) & 0xff))),
  nonsense: (socket) => void socket.write(`${OK}content-length: 9\r\n\r\nnot CBOR.`),
  half: (socket) => void socket.end(`${OK}content-length: 1000\r\n\r\nhalf`),
  endless(socket) {
    socket.write(`${OK}transfer-encoding: chunked\r\n\r\n`);
    const chunk = `${FLOOD_BYTES.toString(16)}\r\n${"x".repeat(FLOOD_BYTES)}\r\n`;
    // A write after the client's end fails at once, and its callback would write again, for ever.
    const flood = (error?: Error | null): void => void (!error && !socket.destroyed && socket.write(chunk, flood));
    flood();
  },
  trickle(socket) {
    socket.write("HTTP/1.1 200 OK\r\n");
    const timer = setInterval(() => socket.write("x-wait: a moment\r\n"), TRICKLE_MS);
    socket.once("close", () => clearInterval(timer));
  },
} as const satisfies Record<string, (socket: TLSSocket) => void>;
export type Manner = keyof typeof MANNERS;

export interface Rogue {
  readonly port: number;
  manner: Manner;
  /** When it was asked something, on its own monotonic clock. */
  readonly askedAtMs: number[];
}

/** Listens with the cloud's certificate; ends with its process. */
export async function openRogue(identity: TlsIdentity): Promise<Rogue> {
  const server = createServer(identity.serverOptions(), (socket) => {
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      // The head of a request; bodies that come behind it need no answer.
      if (!/^(GET|POST) \//.test(chunk.toString("latin1", 0, 6))) return;
      rogue.askedAtMs.push(performance.now());
      MANNERS[rogue.manner](socket);
    });
  });
  server.on("tlsClientError", () => undefined);
  server.listen(0, "127.0.0.1").unref();
  await once(server, "listening");
  const rogue: Rogue = { port: (server.address() as AddressInfo).port, manner: "silence", askedAtMs: [] };
  return rogue;
}
