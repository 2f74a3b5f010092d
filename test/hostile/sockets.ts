/** Attempts on the network: to be reached, and to reach, elsewhere than the contract says. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { type Attempt, call, FILTER } from "./attempt.ts";

const AF = { unix: 1, inet: 2, netlink: 16, packet: 17, vsock: 40 };
const SOCK = { stream: 1, dgram: 2, raw: 3 };
const MSG_FASTOPEN = 0x2000_0000;

async function reaches(options: { port: number } | { path: string }): Promise<string> {
  const socket = connect({ host: "127.0.0.1", ...options });
  await once(socket, "connect");
  socket.destroy();
  return "connected";
}
async function listens(options: { port: number } | { path: string }): Promise<string> {
  const server = createServer().listen(options);
  await once(server, "listening");
  server.close();
  return "listening";
}
async function sends(): Promise<string> {
  const socket = createSocket("udp4");
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.send("x", 9, "127.0.0.1", (error) => (error ? reject(error) : resolve()));
    });
    return "sent";
  } finally {
    socket.close();
  }
}
const opens =
  (family: number, type: number, protocol = 0) =>
  () =>
    `${call("socket", family, type, protocol)} is open`;

export const sockets: readonly Attempt[] = [
  {
    name: "connect to a service that it does not need",
    refused: /EACCES/,
    run: ({ target }) => reaches({ port: target.otherServicePort }),
  },
  { name: "connect to a stranger", refused: /EACCES/, run: ({ target }) => reaches({ port: target.strangePort }) },
  {
    name: "command the node over its control socket",
    refused: /EPERM|EACCES|ENOENT/,
    run: ({ target }) => reaches({ path: target.controlSocket }),
  },
  { name: "listen on a port", refused: /EPERM|EACCES/, run: () => listens({ port: 0 }) },
  {
    name: "listen for the machine's programs",
    refused: /EPERM|EACCES/,
    run: () => listens({ path: "\0holdfast-hostile" }),
  },
  { name: "send a datagram", refused: FILTER, run: sends },
  { name: "open a raw socket", refused: FILTER, run: opens(AF.inet, SOCK.raw, 1) },
  { name: "ask the kernel about the network", refused: FILTER, run: opens(AF.netlink, SOCK.raw) },
  { name: "listen to the wire", refused: FILTER, run: opens(AF.packet, SOCK.raw) },
  {
    name: "speak to the machine's host",
    refused: /EPERM|EAFNOSUPPORT/,
    control: false,
    run: opens(AF.vsock, SOCK.stream),
  },
  {
    name: "open a socket that Landlock does not rule",
    refused: /EPERM|EPROTONOSUPPORT/,
    control: false,
    run: opens(AF.inet, SOCK.stream, 262),
  },
  {
    name: "connect by sending",
    refused: FILTER,
    control: false,
    run: () => call("sendto", call("socket", AF.inet, SOCK.stream, 0), "x", 1, MSG_FASTOPEN, null, 0),
  },
  { name: "talk to programs over a Unix socket", refused: FILTER, run: opens(AF.unix, SOCK.stream) },
];
