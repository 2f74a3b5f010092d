/** Clients that cost more than they bring: who reads nothing, who opens too many connections, who packs a lot into little. */
import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { setTimeout as sleep } from "node:timers/promises";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { asker, type Origin, startOrigin } from "../../../../test/houses/origin.ts";

/** More than the buffers of both kernels hold together. */
const LARGE_BYTES = 12_582_912;
const CONNECTIONS_MAX = 4;

let house: GatewayHouse;
let origin: Origin;
let client: ReturnType<typeof asker>;
let token = "";

before(async () => {
  house = await startGateway({ stallTimeoutMs: 300, connectionsPerAddressMax: CONNECTIONS_MAX });
  origin = await startOrigin({ headers: { "Cache-Control": "max-age=60" }, body: "x".repeat(LARGE_BYTES) });
  client = asker(house);
  token = await house.token();
  await house.echo();
  const to = [{ upstream: "origin" }];
  house.routes({
    upstreams: { origin: { urls: [origin.url] } },
    routes: [
      { name: "fresh", match: { path: "/fresh" }, access: "public", to },
      { name: "kept", match: { path: "/kept" }, access: "public", to, cache: { entryBytesMax: LARGE_BYTES } },
    ],
  });
});
after(async () => {
  client.close();
  await origin.stop();
  await house.stop();
});

async function noted(operation: string): Promise<Record<string, unknown>> {
  for (;;) {
    const line = house.lines.find((each) => each["operation"] === operation && each["code"] === "GATEWAY_CLIENT_GONE");
    if (line) return line;
    await sleep(10);
  }
}

test(
  "who takes nothing of an answer is cut off, whether it is on its way or all there",
  { timeout: 20_000 },
  async () => {
    assert.equal((await client.ask("GET", "/kept")).body.length, LARGE_BYTES);
    for (const name of ["fresh", "kept"]) {
      const reader = await RawClient.open(house);
      reader.socket.pause();
      reader.send(`GET /${name} HTTP/1.1\r\nHost: localhost:${house.port}\r\n\r\n`);
      const line = await noted(name);
      assert.ok((line["ms"] as number) < 10_000, JSON.stringify(line));
      reader.socket.destroy();
    }
  },
);

test("RFC 9113 10.5: so is who opens no window for it, and the connection goes on", { timeout: 20_000 }, async () => {
  const session = connectHttp2(`https://localhost:${house.port}`, { ca: house.caPem });
  const stream = session.request({ ":path": "/kept" });
  stream.on("error", () => undefined);
  // Node opens the window as it reads, and nobody reads.
  await new Promise((resolve) => stream.once("close", resolve));
  assert.equal(stream.rstCode, 11);
  await new Promise<void>((resolve, reject) => session.ping((error) => (error ? reject(error) : resolve())));
  session.destroy();
});

test("a service that is slow is no slow client: its answer is waited for", async () => {
  const path = "/echo/api/v3/rest/700";
  assert.equal((await client.ask("GET", path, { headers: { Authorization: `Bearer ${token}` } })).status, 200);
});

test("connections above those that an address may have are closed, and counted", async () => {
  const opened = await Promise.allSettled(Array.from({ length: CONNECTIONS_MAX + 3 }, () => RawClient.open(house)));
  const refused = opened.filter(({ status }) => status === "rejected").length;
  for (const each of opened) if (each.status === "fulfilled") each.value.socket.destroy();
  assert.ok(refused >= 3, String(refused));
  let text = "";
  for (let tries = 0; tries < 100 && text === ""; tries++) {
    const headers = { Authorization: `Bearer ${token}` };
    const got = await client.ask("GET", "/metrics", { headers }).catch(() => undefined);
    text = got?.body ?? "";
  }
  assert.match(text, new RegExp(`holdfast_gateway_connections_refused_total\\{[^}]*\\} ([${refused}-9]|\\d\\d)`));
  assert.match(text, /holdfast_gateway_cache_bytes\{[^}]*\} 1\d{7}/);
});

test("a body that is packed is not unpacked: what it would become is no concern of ours, nor of a service", async () => {
  const bomb = gzipSync(Buffer.alloc(4_000_000, 32));
  const raw = await RawClient.open(house);
  raw.send(
    `POST /echo/api/v3/write HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\n` +
      `Content-Encoding: gzip\r\nContent-Length: ${bomb.length}\r\n\r\n${bomb.toString("latin1")}`,
  );
  const answer = await raw.answer();
  assert.deepEqual(
    [answer.status, (JSON.parse(answer.body) as { code: string }).code],
    [415, "GATEWAY_ENCODING_REFUSED"],
  );
  assert.equal(answer.headers["accept-encoding"], "identity");
  raw.socket.destroy();
});
