/** The line between the supervisor and a service's process: one JSON message a line, both ways, over one inherited socket. */
import type { Duplex } from "node:stream";
import type { FromChild, ToChild } from "./hello.ts";

/** A message: what it is, and what it says. */
export interface Message {
  readonly kind: string;
  readonly [field: string]: unknown;
}

/** Above this a message is no message of ours; the line is cut. Configs and keys are a few KiB. */
const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;

export interface Line {
  send(message: FromChild | ToChild): void;
  /** Resolves when the other side is gone. */
  readonly closed: Promise<void>;
  close(): void;
}

/** Speaks over a socket; `onMessage` is called in order. What is no JSON, or too long, cuts the line. */
export function openLine(socket: Duplex, onMessage: (message: Message) => void): Line {
  const closed = Promise.withResolvers<void>();
  let held = "";
  const take = (text: string): void => {
    const lines = (held + text).split("\n");
    held = lines.pop() ?? "";
    if (held.length > MESSAGE_BYTES_MAX) throw new Error("a message on the line is too long");
    for (const one of lines) if (one !== "") onMessage(JSON.parse(one) as Message);
  };
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    try {
      take(text);
    } catch (error) {
      socket.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  });
  // The end of the line is what an error of it means; who cares waits on `closed`.
  socket.on("error", () => socket.destroy());
  socket.on("end", () => socket.destroy());
  socket.on("close", () => closed.resolve());
  return {
    send: (message) => {
      if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
    },
    closed: closed.promise,
    close: () => socket.destroy(),
  };
}
