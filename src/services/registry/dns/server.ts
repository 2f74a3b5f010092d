/** Serves the zone over UDP and TCP, on sockets that the supervisor opened (on loopback: it asks nobody who he is). */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import type { Log } from "../../../kernel/log.ts";
import type { ListenAt } from "../../../kernel/serve.ts";
import type { Listed } from "../instances.api.ts";
import { readQuery, TCP_BYTES_MAX, writeAnswer, writeRefusal } from "./message.ts";
import { answerOf } from "./zone.ts";

/** Connections at once; more are closed as they come. */
const CONNECTIONS_MAX = 64;
/** A connection that asks nothing for so long is closed (RFC 7766 6.2.3). */
const IDLE_MS = 10_000;
/** Answers that a connection has not read; then no more of it is read. */
const UNREAD_BYTES_MAX = 262_144;

export interface DnsOptions {
  /** Without dots at its ends, in lower case. */
  readonly zone: string;
  readonly listed: (service?: string) => Listed;
  readonly log: Log;
}

export class DnsServer {
  readonly #options: DnsOptions;
  readonly #connections = new Set<Socket>();
  #udp: UdpSocket | undefined;
  #tcp: Server | undefined;

  constructor(options: DnsOptions) {
    this.#options = options;
  }

  /** Listens; answers the ports. Rejects where that cannot be. */
  async listen(at: { readonly udp: ListenAt; readonly tcp: ListenAt }): Promise<{ udp: number; tcp: number }> {
    const { log } = this.#options;
    const tcp = (this.#tcp = createServer({ noDelay: true }, (socket) => this.#serve(socket)));
    tcp.maxConnections = CONNECTIONS_MAX;
    await new Promise<void>((resolve, reject) => {
      tcp.once("error", reject).listen("fd" in at.tcp ? { fd: at.tcp.fd } : at.tcp, resolve);
    });
    const udp = (this.#udp = createSocket("udp4"));
    await new Promise<void>((resolve, reject) => {
      udp.once("error", reject).once("listening", resolve);
      if ("fd" in at.udp) udp.bind({ fd: at.udp.fd });
      else if ("port" in at.udp) udp.bind(at.udp.port, at.udp.host);
    });
    // Node answers from the family that the socket was made for, and a descriptor does not tell it.
    if (udp.address().family !== "IPv4") throw new Error("the door 'dns' opens on an IPv4 address only (127.0.0.1)");
    udp.on("error", (error) => log.warn({ err: error }, "the DNS socket had an error"));
    udp.on("message", (packet, { address, port }) => {
      const answer = this.#answer(packet, "udp");
      // One that cannot be sent is asked for again.
      if (answer)
        udp.send(answer, port, address, (error) => error && log.debug({ err: error }, "an answer was not sent"));
    });
    const bound = tcp.address();
    return { udp: udp.address().port, tcp: typeof bound === "object" && bound ? bound.port : 0 };
  }

  async close(): Promise<void> {
    this.#udp?.close();
    for (const socket of this.#connections) socket.destroy();
    await new Promise((resolve) => (this.#tcp ? this.#tcp.close(resolve) : resolve(undefined)));
  }

  #answer(packet: Buffer, over: "udp" | "tcp"): Buffer | undefined {
    const read = readQuery(packet);
    if (!read) return undefined;
    if ("rcode" in read) return writeRefusal(read);
    const { zone, listed } = this.#options;
    return writeAnswer(read, answerOf(read, zone, listed), over === "udp" ? read.udpBytes : TCP_BYTES_MAX);
  }

  /** Each message is behind its length in two bytes (RFC 1035 4.2.2). */
  #serve(socket: Socket): void {
    this.#connections.add(socket);
    let held: Buffer = Buffer.alloc(0);
    const end = () => socket.destroy();
    socket.setTimeout(IDLE_MS, end);
    socket.once("error", end);
    socket.once("close", () => this.#connections.delete(socket));
    socket.on("drain", () => socket.resume());
    socket.on("data", (chunk: Buffer) => {
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
      for (; held.length >= 2;) {
        const length = held.readUInt16BE(0);
        if (held.length < 2 + length) break;
        const answer = this.#answer(held.subarray(2, 2 + length), "tcp");
        held = held.subarray(2 + length);
        if (!answer) {
          end();
          return;
        }
        const size = Buffer.alloc(2);
        size.writeUInt16BE(answer.length);
        socket.write(Buffer.concat([size, answer]));
      }
      if (socket.writableLength > UNREAD_BYTES_MAX) socket.pause();
    });
  }
}
