/** A wire between node and cloud that can be cut, be slow, fall silent, or break in the middle of an answer. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** A slow wire passes so many pieces a second. */
const PIECES_PER_S = 20;

/**
 * `cut`: refuses; `silent`: takes all and passes nothing; `deafAfter`: passes what the node says and breaks every answer after
 * so many bytes; `bytesPerS`: passes no more than that in either direction of each connection.
 */
export type WireMode = "pass" | "cut" | "silent" | { readonly deafAfter: number } | { readonly bytesPerS: number };

export class Wire {
  readonly port: number;
  /** Bytes that came from the node and from the cloud. */
  up = 0;
  down = 0;
  mode: WireMode = "pass";
  /** Where it leads. */
  to: number;
  /** Connections so far. */
  connections = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, to: number) {
    this.#server = server;
    this.to = to;
    this.port = (server.address() as AddressInfo).port;
    server.on("connection", (near) => this.#join(near));
  }

  static async open(to: number): Promise<Wire> {
    const server = createServer({ noDelay: true });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Wire(server, to);
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  /** Ends the connections there are. */
  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Forgets the connections there are, as a router that restarts: nobody is told, and nothing comes through them any more. */
  forget(): void {
    for (const socket of this.#sockets) {
      socket.removeAllListeners("data");
      socket.on("data", () => undefined);
    }
  }

  async close(): Promise<void> {
    this.drop();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(near: Socket): void {
    this.connections++;
    if (this.mode === "cut") return void near.destroy();
    const far = connect({ host: "127.0.0.1", port: this.to, noDelay: true });
    let down = 0;
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.once("close", () => {
        this.#sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.on("data", (chunk: Buffer) => {
      this.up += chunk.length;
      this.#pass(near, far, chunk);
    });
    far.on("data", (chunk: Buffer) => {
      this.down += chunk.length;
      down += chunk.length;
      if (typeof this.mode === "object" && "deafAfter" in this.mode && down > this.mode.deafAfter) near.destroy();
      else this.#pass(far, near, chunk);
    });
  }

  #pass(from: Socket, to: Socket, chunk: Buffer): void {
    if (this.mode === "silent") return;
    if (typeof this.mode !== "object" || !("bytesPerS" in this.mode)) return void to.write(chunk);
    from.pause();
    this.#trickle(from, to, chunk);
  }

  /** Passes a piece, and the rest a moment later; all of it as soon as the wire is not slow any more. */
  #trickle(from: Socket, to: Socket, chunk: Buffer): void {
    if (typeof this.mode !== "object" || !("bytesPerS" in this.mode)) {
      if (this.mode !== "silent") to.write(chunk);
      return void from.resume();
    }
    const { bytesPerS } = this.mode;
    const piece = chunk.subarray(0, Math.max(1, Math.floor(bytesPerS / PIECES_PER_S)));
    to.write(piece);
    const rest = chunk.subarray(piece.length);
    const goOn = () => {
      // One byte a second is one piece a second: a mended wire is looked at more often than that.
      if (performance.now() < dueMs && this.mode !== "pass") setTimeout(goOn, 1000 / PIECES_PER_S).unref();
      else if (rest.length > 0) this.#trickle(from, to, rest);
      else from.resume();
    };
    const dueMs = performance.now() + (piece.length * 1000) / bytesPerS;
    setTimeout(goOn, 1000 / PIECES_PER_S).unref();
  }
}
