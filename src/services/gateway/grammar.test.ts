/** The grammar of HTTP/1.1, clause by clause: over raw TLS sockets, byte for byte, each refused and never forwarded. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RawClient } from "../../../test/houses/gateway.ts";
import { REFUSED, SAY, Stranger } from "../../../test/houses/stranger.ts";

const stranger = new Stranger();

test("RFC 9112 2.2, 3: an odd start line is refused; an empty line before it is taken", async () => {
  assert.equal((await stranger.ask(`\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n`)).status, 200);
  for (const line of [
    "GET /healthz",
    "GET\t/healthz\tHTTP/1.1",
    "GET /healthz HTTP/1.1 ",
    "GET /heal thz HTTP/1.1",
    "get /healthz HTTP/1.1",
    "GET /healthz http/1.1",
    "GET /healthz HTTP/1.10",
    "GET /healthz HTTP/2.0",
    "GET /healthz HTTP/0.9",
    "GET /healthz HTTP/1,1",
    "GET /healthz#part HTTP/1.1",
  ])
    await stranger.refused(`${line}\r\nHost: x\r\n\r\n${stranger.smuggled}`, REFUSED, false);
});

test("RFC 9112 2.2, 5.1: white space before the first field, within a name, or before the colon is refused", async () => {
  for (const field of [
    " Host: x",
    "\tHost: x",
    "Host: x\r\nX-A : b",
    "Host: x\r\nX\tA: b",
    "Host: x\r\nX A: b",
    "Host: x\r\n\x0bX: b",
  ])
    await stranger.refused(`${SAY}${field}\r\n${stranger.auth}\r\n${stranger.smuggled}`);
});

test("RFC 9112 6.1, 6.3: every spelling of a transfer coding that another reader might take for one is refused", async () => {
  for (const field of [
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: chunked, ",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked;a=b",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding:",
    "Transfer-Encoding: chunked\r\n ",
    "X: y\rTransfer-Encoding: chunked",
    "Transfer-Encoding\r\n: chunked",
  ])
    await stranger.refused(stranger.write(`${field}\r\n`, `0\r\n\r\n${stranger.smuggled}`), REFUSED, false);
  // RFC 9110 5.1: a name with an underscore is another name, and ends here nevertheless; the body is as long as it says.
  const answer = await stranger.ask(
    stranger.write("Transfer_Encoding: chunked\r\nContent-Length: 12\r\n", '{"text":"a"}'),
  );
  assert.equal(answer.status, 201);
});

test("RFC 9112 7.1.1: extensions of chunks are left out, and endless ones refused", async () => {
  const good = await stranger.ask(
    stranger.write("Transfer-Encoding: chunked\r\n", 'c;a=b;c="d e"\r\n{"text":"a"}\r\n0;last\r\n\r\n'),
  );
  assert.equal(good.status, 201);
  stranger.forget();
  const client = await RawClient.open(stranger.house);
  const answer = await client
    .send(stranger.write("Transfer-Encoding: chunked\r\n", `c;${"a".repeat(20_000)}\r\n`))
    .answer();
  assert.ok([400, 413, 431].includes(answer.status), answer.text);
  await client.end();
  stranger.assertNotForwarded();
});

test("RFC 9112 7.1.2: a trailer is no header: what it names does not count", async () => {
  const chunks = 'c\r\n{"text":"a"}\r\n0\r\n';
  const trailed = stranger.write("Transfer-Encoding: chunked\r\nTrailer: X-Holdfast-Subject\r\n", chunks);
  assert.equal((await stranger.ask(`${trailed}X-Holdfast-Subject: root\r\n\r\n`)).status, 201);
  stranger.forget();
  await stranger.refused(`${trailed}Content-Length: 1\r\n\r\n`);
});

test("RFC 9110 7.6.1, 7.8: Connection cannot name away what the door relies on, and an upgrade to HTTP/2 is ignored", async () => {
  const headers =
    "Connection: authorization, host, content-length, upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
  const answer = await stranger.ask(`${SAY}Host: x\r\n${stranger.auth}${headers}\r\n`);
  assert.deepEqual([answer.status, answer.headers["upgrade"]], [200, undefined]);
  stranger.forget();
  await stranger.refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED);
});

test("RFC 9110 10.1.1: an expectation nobody knows is ignored; HTTP/1.0 needs no Host and is closed after its answer", async () => {
  assert.equal((await stranger.ask(`${SAY}Host: x\r\n${stranger.auth}Expect: a-miracle\r\n\r\n`)).status, 200);
  const client = await RawClient.open(stranger.house);
  const text = await client.send(`GET /healthz HTTP/1.0\r\n\r\n`).end();
  assert.match(text, /^HTTP\/1\.1 200 /);
});
