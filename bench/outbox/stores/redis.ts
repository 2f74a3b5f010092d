/** Redis Streams with a consumer group, every write synced before it is answered. */
import type { Socket } from "node:net";
import path from "node:path";
import { findCommand } from "../../../test/need.ts";
import { Server } from "./server.ts";
import { type Store, WINDOW } from "./store.ts";

type Reply = string | number | null | Buffer | readonly Reply[];

/** As much of RESP 2 as streams need: commands out, replies in, in order. */
class Resp {
  readonly #socket: Socket;
  readonly #waiting: ((reply: Reply | Error) => void)[] = [];
  #unread: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(socket: Socket) {
    this.#socket = socket.on("data", (chunk: Buffer) => {
      this.#unread = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
      this.#take();
    });
  }

  /** Sends commands in one write; resolves with the last reply when all are there. */
  async send(commands: readonly (readonly (string | Buffer)[])[]): Promise<Reply> {
    const parts: Buffer[] = [];
    for (const words of commands) {
      let head = `*${words.length}\r\n`;
      for (const word of words) {
        head += `$${Buffer.byteLength(word)}\r\n`;
        if (typeof word === "string") head += `${word}\r\n`;
        else {
          parts.push(Buffer.from(head), word);
          head = "\r\n";
        }
      }
      parts.push(Buffer.from(head));
    }
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    let left = commands.length;
    const settle = (reply: Reply | Error) => {
      if (reply instanceof Error) reject(reply);
      else if (--left === 0) resolve(reply);
    };
    for (let i = 0; i < commands.length; i++) this.#waiting.push(settle);
    this.#socket.write(Buffer.concat(parts));
    return promise;
  }

  end(): void {
    this.#socket.destroy();
  }

  #take(): void {
    this.#at = 0;
    for (let start = 0; this.#at < this.#unread.length; start = this.#at) {
      const reply = this.#reply();
      if (reply === undefined) {
        this.#unread = this.#unread.subarray(start);
        return;
      }
      this.#waiting.shift()?.(reply);
    }
    this.#unread = Buffer.alloc(0);
  }

  /** Reads one reply; undefined where its end is not there yet. */
  #reply(): Reply | Error | undefined {
    const end = this.#unread.indexOf("\r\n", this.#at);
    if (end < 0) return undefined;
    const type = String.fromCharCode(this.#unread[this.#at]);
    const line = this.#unread.toString("latin1", this.#at + 1, end);
    this.#at = end + 2;
    if (type === "-") return new Error(line);
    if (type === ":") return Number(line);
    if (type === "+") return line;
    const length = Number(line);
    if (length < 0) return null;
    if (type === "$") {
      const from = this.#at;
      if (this.#unread.length < from + length + 2) return undefined;
      this.#at = from + length + 2;
      return this.#unread.subarray(from, from + length);
    }
    const items: Reply[] = [];
    for (let i = 0; i < length; i++) {
      const item = this.#reply();
      if (item === undefined || item instanceof Error) return item;
      items.push(item);
    }
    return items;
  }
}

// Redis reads 16 KiB of a connection in a turn and syncs once a turn: more connections, more records a sync.
const CONNECTIONS = 8;

/** Starts it; undefined where it is not installed. */
export async function startRedis(directory: string): Promise<Store | undefined> {
  const command = findCommand("redis-server");
  if (command === undefined) return undefined;
  const socketPath = path.join(directory, "redis.sock");
  const durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
  // What was drained is gone from memory; the file is not written anew while it is measured.
  const settings = [
    "--port",
    "0",
    "--unixsocket",
    socketPath,
    "--dir",
    directory,
    "--auto-aof-rewrite-percentage",
    "0",
  ];
  const server = await Server.start(command, [...durable, ...settings], socketPath);
  const open = async () => new Resp(await server.open());
  const connections = await Promise.all(Array.from({ length: CONNECTIONS }, open));
  await connections[0].send([["XGROUP", "CREATE", "outbox", "uplink", "0", "MKSTREAM"]]);
  let turn = 0;
  return {
    name: "Redis Streams, appendfsync always",
    lanes: CONNECTIONS,
    pids: () => [server.pid],
    async put(records) {
      const connection = connections[turn++ % CONNECTIONS];
      await connection.send(records.map((record) => ["XADD", "outbox", "*", "p", record]));
    },
    async drain(count) {
      const read = ["XREADGROUP", "GROUP", "uplink", "c", "COUNT", String(WINDOW), "STREAMS", "outbox", ">"];
      for (let left = count; left > 0;) {
        const [[, entries]] = (await connections[0].send([read])) as [[Buffer, [Buffer, Reply][]]];
        const ids = entries.map(([id]) => id);
        await connections[0].send([
          ["XACK", "outbox", "uplink", ...ids],
          ["XDEL", "outbox", ...ids],
        ]);
        left -= ids.length;
      }
    },
    async end() {
      for (const connection of connections) connection.end();
      await server.end();
    },
  };
}
