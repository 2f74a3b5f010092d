/** PostgreSQL as it comes: a table as a queue, over its Unix socket. */
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import type { Socket } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Server, otherThanRoot } from "./server.ts";
import { type Store, WINDOW } from "./store.ts";

const USER = "bench";

/** A message of the frontend: type, length, body. */
function message(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.write(type, 0, "latin1");
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

const text = (...words: readonly string[]): Buffer => Buffer.from(words.map((word) => `${word}\0`).join(""));
const int16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const int32 = (value: number): Buffer => {
  const buffer = Buffer.alloc(4);
  buffer.writeInt32BE(value);
  return buffer;
};

const SYNC = message("S");
const EXECUTE = message("E", text(""), int32(0));
const ALL_BINARY = Buffer.concat([int16(1), int16(1)]);

/** Binds values to a statement, in binary and for an answer in binary, and executes it. */
const execute = (statement: string, values: readonly Buffer[]): Buffer =>
  Buffer.concat([
    message(
      "B",
      text("", statement),
      ALL_BINARY,
      int16(values.length),
      ...values.flatMap((value) => [int32(value.length), value]),
      ALL_BINARY,
    ),
    EXECUTE,
  ]);

/** As much of protocol 3.0 as a queue needs: what is sent up to a sync is one transaction, in order. */
class Connection {
  readonly #socket: Socket;
  readonly #waiting: { resolve: (rows: number) => void; reject: (error: Error) => void }[] = [];
  #unread: Buffer = Buffer.alloc(0);
  #rows = 0;
  #error: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket.on("data", (chunk: Buffer) => {
      this.#unread = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
      this.#take();
    });
    socket.once("close", () => {
      for (const { reject } of this.#waiting) reject(this.#error ?? new Error("PostgreSQL has closed the connection"));
    });
  }

  static async open(socket: Socket, statements: Readonly<Record<string, string>>): Promise<Connection> {
    const connection = new Connection(socket);
    const body = Buffer.concat([int32(196_608), text("user", USER, "database", "postgres", "")]);
    await connection.send([Buffer.concat([int32(body.length + 4), body])]);
    for (const [name, sql] of Object.entries(statements))
      await connection.send([message("P", text(name, sql), int16(0)), SYNC]);
    return connection;
  }

  /** Sends messages that end with a sync; resolves with the number of rows that came. */
  send(messages: readonly Buffer[]): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#socket.write(Buffer.concat(messages));
    });
  }

  end(): void {
    this.#socket.destroy();
  }

  #take(): void {
    let at = 0;
    while (this.#unread.length - at >= 5) {
      const end = at + 1 + this.#unread.readInt32BE(at + 1);
      if (end > this.#unread.length) break;
      const type = this.#unread[at];
      if (type === 0x44) this.#rows++; // DataRow
      if (type === 0x45) this.#error = new Error(this.#unread.toString("utf8", at + 5, end)); // ErrorResponse
      if (type === 0x5a) this.#ready(); // ReadyForQuery
      at = end;
    }
    this.#unread = this.#unread.subarray(at);
  }

  #ready(): void {
    const [rows, error] = [this.#rows, this.#error];
    this.#rows = 0;
    this.#error = undefined;
    const waiting = this.#waiting.shift();
    if (error) waiting?.reject(error);
    else waiting?.resolve(rows);
  }
}

function programs(): string | undefined {
  const versions = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql") : [];
  const newest = versions.toSorted((a, b) => Number(b) - Number(a))[0];
  return newest && path.join("/usr/lib/postgresql", newest, "bin");
}

/** An array of bytea, in binary. */
const arrayOf = (values: readonly Buffer[]): Buffer =>
  Buffer.concat([
    int32(1),
    int32(0),
    int32(17),
    int32(values.length),
    int32(1),
    ...values.flatMap((value) => [int32(value.length), value]),
  ]);
const int64 = (value: number): Buffer => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigInt64BE(BigInt(value));
  return buffer;
};

async function startServer(directory: string, bin: string): Promise<Server> {
  const as = otherThanRoot("postgres", "nobody");
  const data = path.join(directory, "data");
  for (const folder of [directory, data]) {
    mkdirSync(folder, { recursive: true });
    if (as) chownSync(folder, as.uid, as.gid);
    chmodSync(folder, 0o700);
  }
  const made = spawnSync(path.join(bin, "initdb"), ["-D", data, "-U", USER, "--auth=trust"], {
    cwd: directory,
    encoding: "utf8",
    ...as,
  });
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`);
  const args = ["-D", data, "-k", directory, "-c", "listen_addresses=", "-c", "port=5432"];
  return Server.start(path.join(bin, "postgres"), args, path.join(directory, ".s.PGSQL.5432"), as);
}

const READY_MS_MAX = 20_000;
const CONNECTIONS = 4;
const STATEMENTS = {
  one: "INSERT INTO outbox (payload) VALUES ($1)",
  many: "INSERT INTO outbox (payload) SELECT unnest($1::bytea[])",
  // By number, and not the oldest there are: a search would step over all that was deleted and not yet vacuumed.
  take: "DELETE FROM outbox WHERE id > $1::bigint AND id <= $2::bigint RETURNING payload",
};

/** Opens the first connection: its socket is there before it has recovered, and it refuses until then. */
async function firstOf(server: Server): Promise<Connection> {
  const endMs = performance.now() + READY_MS_MAX;
  for (;;) {
    try {
      return await Connection.open(await server.open(), {});
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await sleep(50);
    }
  }
}

/** Starts it; undefined where it is not installed. */
export async function startPostgres(directory: string): Promise<Store | undefined> {
  const bin = programs();
  if (bin === undefined) return undefined;
  const server = await startServer(path.join(directory, "postgres"), bin);
  const first = await firstOf(server);
  const table = "CREATE TABLE outbox (id bigserial PRIMARY KEY, payload bytea NOT NULL)";
  await first.send([message("Q", text(table))]);
  first.end();
  const open = async () => Connection.open(await server.open(), STATEMENTS);
  const connections = await Promise.all(Array.from({ length: CONNECTIONS }, open));
  let [turn, taken] = [0, 0];
  const next = () => connections[turn++ % CONNECTIONS];
  return {
    name: "PostgreSQL",
    lanes: CONNECTIONS,
    pids: () => childrenOf(server.pid),
    async put(records) {
      await next().send([...records.map((record) => execute("one", [record])), SYNC]);
    },
    async putGroup(records) {
      await next().send([execute("many", [arrayOf(records)]), SYNC]);
    },
    async drain(count) {
      for (let left = count; left > 0;) {
        const rows = await connections[0].send([execute("take", [int64(taken), int64(taken + WINDOW)]), SYNC]);
        if (rows === 0) throw new Error(`PostgreSQL has lost ${left} records`);
        taken += rows;
        left -= rows;
      }
    },
    async end() {
      for (const connection of connections) connection.end();
      await server.end();
    },
  };
}

/** The processes of a server: a connection has one of its own. */
function childrenOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return [pid, ...children.split(" ").filter(Boolean).map(Number)];
}
