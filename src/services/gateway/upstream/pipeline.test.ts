/** Requests that share a connection: each gets its own answer, whatever becomes of the others. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { after, before, test } from "node:test";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { asker, type Origin, startOrigin } from "../../../../test/houses/origin.ts";

let house: GatewayHouse;
let origin: Origin;
let client: ReturnType<typeof asker>;
const sockets = new Set<Socket>();
const held: ServerResponse[] = [];

before(async () => {
  house = await startGateway({ addressRequestsPerS: 1_000_000, addressBurst: 1_000_000 });
  origin = await startOrigin((asked, response) => {
    sockets.add(response.socket!);
    if (asked.url.startsWith("/quick/hold")) held.push(response);
    else response.end(asked.url.startsWith("/quick/large") ? asked.url.repeat(20_000) : asked.url);
  });
  const to = [{ upstream: "near" }];
  house.routes({
    upstreams: { near: { urls: [origin.url] } },
    routes: [
      // The machine that runs the tests may be in trouble itself.
      { name: "quick", match: { path: "/quick/**" }, access: "public", coalesce: true, priority: "high", to },
      { name: "late", match: { path: "/quick/hold-for-ever" }, access: "public", coalesce: true, timeoutMs: 400, to },
    ],
  });
  client = asker(house);
});
after(async () => {
  client.close();
  await origin.stop();
  await house.stop();
});

const get = async (path: string) => (await client.ask("GET", path)).body;

test("what comes at once goes over one connection, and each gets its own answer", async () => {
  await get("/quick/first");
  sockets.clear();
  const paths = Array.from({ length: 40 }, (_, i) => `/quick/${i}`);
  assert.deepEqual(await Promise.all(paths.map(get)), paths);
  assert.equal(sockets.size, 1);
  const mixed = Array.from({ length: 12 }, (_, i) => (i % 3 === 0 ? `/quick/large${i}` : `/quick/${i}`));
  const answers = await Promise.all(mixed.map(get));
  assert.deepEqual(
    answers,
    mixed.map((path, i) => (i % 3 === 0 ? path.repeat(20_000) : path)),
  );
  assert.equal(await client.ask("HEAD", "/quick/head").then(({ status, body }) => `${status}${body}`), "200");
  assert.equal(await get("/quick/after"), "/quick/after");
});

test("what is written goes by a connection of its own", async () => {
  await get("/quick/first");
  sockets.clear();
  await Promise.all([get("/quick/a"), client.ask("POST", "/quick/b", { body: "x" })]);
  assert.equal(sockets.size, 2);
});

test("who goes away takes nobody's answer along, and one that is too late lets the others go elsewhere", async () => {
  const leaving = await RawClient.open(house);
  leaving.send("GET /quick/hold HTTP/1.1\r\nHost: x\r\n\r\n");
  while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  const behind = ["/quick/x", "/quick/y"].map(get);
  leaving.socket.destroy();
  held.shift()!.end("nobody's");
  assert.deepEqual(await Promise.all(behind), ["/quick/x", "/quick/y"]);
  const late = client.ask("GET", "/quick/hold-for-ever");
  while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(await get("/quick/z"), "/quick/z");
  assert.equal((await late).status, 504);
});
