/** WebSockets through the door: a real server behind it, a real client before it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { ROUTES_MESSAGE } from "../routes.api.ts";

let house: GatewayHouse;
let token = "";
const behind = createServer((_request, response) => void response.writeHead(200).end("no"));
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: true });
let asked: { url?: string | undefined; subject?: unknown; forwarded?: unknown } = {};

before(async () => {
  behind.on("upgrade", (request, socket, head) => {
    if (request.url === "/liar") {
      socket.end("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: abc\r\n\r\n");
      return;
    }
    asked = {
      url: request.url,
      subject: request.headers["authorization"],
      forwarded: request.headers["x-forwarded-proto"],
    };
    sockets.handleUpgrade(request, socket, head, (ws) => {
      ws.send("hello");
      ws.on("message", (data, binary) => (String(data) === "bye" ? ws.close(4001, "done") : ws.send(data, { binary })));
    });
  });
  behind.listen(0, "127.0.0.1");
  await once(behind, "listening");
  house = await startGateway();
  token = await house.token();
  const to = [{ upstream: "chat" }];
  house.house.tell("gateway", ROUTES_MESSAGE, {
    file: "routes.yaml",
    value: {
      upstreams: { chat: { urls: [`http://127.0.0.1:${(behind.address() as AddressInfo).port}`] } },
      routes: [
        { name: "chat", match: { path: "/chat/{room}" }, access: { scope: "event:read" }, to, websocket: {} },
        { name: "short", match: { path: "/short" }, access: "public", to, websocket: { idleMs: 150 } },
        { name: "liar", match: { path: "/liar" }, access: "public", to, websocket: {} },
        { name: "plain", match: { path: "/plain" }, access: "public", to },
      ],
    },
  });
});
after(async () => {
  for (const ws of sockets.clients) ws.terminate();
  behind.closeAllConnections();
  behind.close();
  await house.stop();
});

const open = (path: string, headers: Record<string, string> = {}, options: object = {}) =>
  new WebSocket(`wss://localhost:${house.port}${path}`, ["a", "b"], { ca: house.caPem, headers, ...options });

const refusedWith = async (ws: WebSocket): Promise<number> => {
  ws.on("error", () => undefined);
  const [, response] = (await once(ws, "unexpected-response")) as [unknown, { statusCode: number }];
  return response.statusCode;
};

test("frames pass both ways as they are: text, binary, compressed and large, and the code of the close", async () => {
  const ws = open("/chat/one?since=2", { authorization: `Bearer ${token}` });
  const first = once(ws, "message");
  await once(ws, "open");
  assert.equal(String((await first)[0]), "hello");
  assert.deepEqual(asked, { url: "/chat/one?since=2", subject: undefined, forwarded: "https" });
  assert.equal(ws.protocol, "a");
  assert.match(ws.extensions, /permessage-deflate/);
  for (const data of ["text", Buffer.from([0, 1, 255]), "x".repeat(2_000_000)]) {
    const answer = once(ws, "message");
    ws.send(data);
    const [got, binary] = (await answer) as [Buffer, boolean];
    assert.ok(got.equals(Buffer.from(data)));
    assert.equal(binary, Buffer.isBuffer(data));
  }
  const closed = once(ws, "close");
  ws.send("bye");
  assert.equal((await closed)[0], 4001);
  const line = house.lines.find((l) => l["operation"] === "chat");
  assert.deepEqual([line?.["status"], line?.["subject"]], [101, "a admin"]);
});

test("who may not, a page of strangers and what is no handshake are refused before anybody is asked", async () => {
  asked = {};
  assert.equal(await refusedWith(open("/chat/one")), 401);
  assert.equal(await refusedWith(open("/short", { origin: "https://evil.example" })), 403);
  assert.equal(await refusedWith(open("/short", {}, { protocolVersion: 8 })), 426);
  const client = await RawClient.open(house);
  const plain = await client.send("GET /short HTTP/1.1\r\nHost: x\r\n\r\n").answer();
  assert.deepEqual([plain.status, plain.headers["sec-websocket-version"]], [426, "13"]);
  client.socket.destroy();
  assert.deepEqual(asked, {});
  const own = open("/short", { origin: `https://localhost:${house.port}` });
  await once(own, "open");
  own.close();
});

test("a service whose handshake is wrong is 502; a route that is no WebSocket answers as ever", async () => {
  assert.equal(await refusedWith(open("/liar")), 502);
  assert.equal(await refusedWith(open("/plain")), 200);
});

test("one that is silent for too long is cut, and the end of one side is the other's", async () => {
  const ws = open("/short");
  await once(ws, "open");
  const gone = [...sockets.clients].map((client) => once(client, "close"));
  assert.equal((await once(ws, "close"))[0], 1006);
  await Promise.all(gone);
  const other = open("/chat/two", { authorization: `Bearer ${token}` });
  await once(other, "open");
  const end = Promise.all([...sockets.clients].map((client) => once(client, "close")));
  other.terminate();
  await end;
});
