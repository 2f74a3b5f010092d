import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { Type } from "typebox";
import { makeCall } from "../call.ts";
import { systemClock } from "../clock.ts";
import { connect } from "../connect.ts";
import { contract, get, post } from "../contract.ts";
import { createAuthority } from "../identity/authority.ts";
import { makeKeyAndRequest } from "../identity/request.ts";
import { TlsIdentity } from "../identity/tls.ts";
import { CBOR_TYPE, encodeBody } from "../wire.ts";

const BYTES_MAX = 1_000;
const WAIT_MS = 5_000;
const PATIENCE_MS = 60_000;
const TOGETHER = 150;

const talker = contract("talker", {
  say: get("/say/:how", {
    input: { how: Type.String() },
    output: Type.Unknown(),
    answerBytesMax: BYTES_MAX,
    timeoutMs: PATIENCE_MS,
  }),
  tell: post("/tell", { input: { body: Type.Object({ text: Type.String() }) }, output: Type.Integer() }),
});

const authority = await createAuthority({ node: "edge-1", clock: systemClock });
async function identityOf(service: string): Promise<TlsIdentity> {
  const name = `spiffe://edge-1/service/${service}`;
  const { keyPem, csrPem } = await makeKeyAndRequest(name);
  const asked = { dns: ["localhost"], ips: ["127.0.0.1"], lifetimeMs: 3_600_000, client: true, server: true };
  const { certPem } = await authority.issue({ csrPem, name, ...asked });
  const identity = new TlsIdentity({ node: "edge-1", service, caPem: authority.certPem });
  identity.update({ certPem, keyPem });
  return identity;
}

const identity = await identityOf("bus");
let connections = 0;
const server = createServer((await identityOf("talker")).serverOptions(), (request, response) => {
  const how = request.url!.split("/").at(-1)!;
  if (how === "tell") {
    let sizeBytes = 0;
    request.on("data", (part: Buffer) => (sizeBytes += part.length));
    return void request.on("end", () =>
      response.writeHead(200, { "content-type": CBOR_TYPE }).end(encodeBody(sizeBytes, CBOR_TYPE)),
    );
  }
  if (how === "never") return undefined;
  if (how === "half")
    return void response.writeHead(200, { "content-length": 500 }).write("x", () => request.socket.destroy());
  if (how === "refuse") return void response.writeHead(418).end("x".repeat(1_000_000));
  const body = encodeBody("x".repeat(Number.parseInt(how)), CBOR_TYPE) as Uint8Array;
  response.writeHead(200, { "content-type": CBOR_TYPE, ...(how.endsWith("last") ? { connection: "close" } : {}) });
  // Without a length: in chunks.
  response.write(body.subarray(0, 1));
  return void response.end(body.subarray(1));
}).on("secureConnection", () => connections++);
await once(server.listen(0, "127.0.0.1"), "listening");
after(() => {
  identity.close();
  server.closeAllConnections();
  server.close();
});

const target = (service: string) => ({
  host: "127.0.0.1",
  port: (server.address() as AddressInfo).port,
  agent: identity.agent(service),
  secure: true,
});
const client = connect(talker, { resolver: { pick: () => target("talker"), failed: () => undefined } });
const call = (timeoutMs = WAIT_MS) => makeCall({ caller: "bus", timeoutMs });

test("calls one after another share a connection, until an answer says that it is the last", async () => {
  const before = connections;
  for (const how of ["1", "900", "0"]) assert.equal(await client.say({ how }, call()), "x".repeat(Number(how)));
  assert.equal(await client.tell({ body: { text: "y".repeat(100_000) } }, call()), 100_008 + 3);
  assert.equal(connections, before + 1);
  assert.equal(await client.say({ how: "3last" }, call()), "xxx");
  assert.equal(await client.say({ how: "4" }, call()), "xxxx");
  assert.equal(connections, before + 2);
});

test("more calls at once than there may be connections wait for one, and each gets its own answer", async () => {
  const before = connections;
  const answers = await Promise.all(
    Array.from({ length: TOGETHER }, (_, n) => client.say({ how: String(n) }, call(PATIENCE_MS))),
  );
  for (const [n, answer] of answers.entries()) assert.equal(answer, "x".repeat(n));
  assert.ok(connections - before <= 128, String(connections - before));
});

test("an answer that is too long is refused, of a failure that is the status is told, and the next call is none the worse", async () => {
  await assert.rejects(client.say({ how: "5000" }, call()), { code: "ANSWER_TOO_LARGE" });
  await assert.rejects(client.say({ how: "refuse" }, call()), { code: "HTTP_418" });
  assert.equal(await client.say({ how: "2" }, call()), "xx");
});

test("what is not answered in time, is given up, or breaks off, fails in words, and takes no other call's answer", async () => {
  await assert.rejects(client.say({ how: "never" }, call(50)), { code: "DEADLINE" });
  const ended = new AbortController();
  const given = client.say({ how: "never" }, makeCall({ caller: "bus", timeoutMs: WAIT_MS, signal: ended.signal }));
  ended.abort();
  await assert.rejects(given, { code: "DEADLINE" });
  await assert.rejects(client.say({ how: "half" }, call()), { code: "UNAVAILABLE" });
  assert.equal(await client.say({ how: "7" }, call()), "x".repeat(7));
});

test("nothing is said to another than who was meant", async () => {
  const other = connect(talker, { resolver: { pick: () => target("core-data"), failed: () => undefined } });
  await assert.rejects(other.tell({ body: { text: "secret" } }, call()), { code: "IDENTITY_PEER_OTHER" });
});
