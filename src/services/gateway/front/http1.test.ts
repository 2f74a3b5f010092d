/** HTTP/1.1 over real sockets, before anybody behind it has looked at a request. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { systemClock } from "../../../kernel/clock.ts";
import type { Exchange } from "./exchange.ts";
import { Http1Front } from "./http1.ts";

const MS = 60_000;
const BODY = 32 * 1024 * 1024;
/** What the network, its buffers and ours take of a body that nobody reads. */
const TAKEN_MAX = BODY / 2;

test("a body waits outside until somebody reads it, and then all of it comes", async (t) => {
  const asked = Promise.withResolvers<Exchange>();
  const front = new Http1Front({
    clock: systemClock,
    limits: { headerBytesMax: 4_096, headersMs: MS, requestMs: MS, keepAliveMs: MS, stallMs: MS },
    pass: (exchange) => asked.resolve(exchange),
    refuse: ({ message }) => assert.fail(message),
  });
  const server = createServer((socket) => front.serve(socket)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  t.after(() => {
    client.destroy();
    front.drain(0);
    front.closeAll();
    server.close();
  });
  client.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${BODY}\r\n\r\n`);
  client.write(Buffer.alloc(BODY, 1));
  const exchange = await asked.promise;
  const [connection] = front.connections;
  // As long as it moves; then it stands still.
  for (let before = -1; connection.socket.bytesRead !== before;) {
    before = connection.socket.bytesRead;
    for (let n = 0; n < 1_000; n++) await turn();
  }
  assert.ok(connection.socket.bytesRead < TAKEN_MAX, `${connection.socket.bytesRead} bytes were taken in`);
  const size = await new Promise<number>((resolve, reject) => {
    let bytes = 0;
    exchange.read({
      data: (chunk) => void (bytes += chunk.length),
      end: () => resolve(bytes),
      broken: () => reject(new Error("it broke off")),
    });
  });
  assert.equal(size, BODY);
});
