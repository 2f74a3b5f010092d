/** Tries to connect to ports of an address, and prints those that take it, as JSON: `bin/node scan.child.ts ADDRESS PORTS`. */
import { connect } from "node:net";

const [host, list] = process.argv.slice(2);
const ports = JSON.parse(list) as number[];
/** At once: a port that nobody has says so at once. */
const RUNNING_MAX = 256;
const CONNECT_MS = 2_000;

const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host, port, timeout: CONNECT_MS });
    const end = (found: boolean) => {
      socket.destroy();
      resolve(found);
    };
    socket
      .once("connect", () => end(true))
      .once("error", () => end(false))
      .once("timeout", () => end(false));
  });

const open: number[] = [];
async function scan(): Promise<void> {
  for (let port = ports.pop(); port !== undefined; port = ports.pop()) if (await isOpen(port)) open.push(port);
}

await Promise.all(Array.from({ length: RUNNING_MAX }, scan));
process.stdout.write(JSON.stringify(open.sort((a, b) => a - b)));
