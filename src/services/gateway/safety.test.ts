/** What strangers send: over raw TLS sockets, byte for byte, each refused with a clear error and never forwarded. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { RawClient } from "../../../test/houses/gateway.ts";
import { codeOf, REFUSED, SAY, Stranger } from "../../../test/houses/stranger.ts";

const stranger = new Stranger();

test("a request with both Content-Length and Transfer-Encoding is refused and its connection closed", async () => {
  await stranger.refused(
    stranger.write("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", `0\r\n\r\n${stranger.smuggled}`),
  );
  await stranger.refused(
    stranger.write("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", `0\r\n\r\n${stranger.smuggled}`),
  );
});

test("a request with two lengths, a signed or listed one, or one that is no number is refused", async () => {
  for (const fields of [
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: \r\n",
    "Content-Length: 99999999999999999999\r\n",
  ])
    await stranger.refused(stranger.write(fields, `{"a":${stranger.smuggled}`));
});

test("a transfer coding that is not 'chunked', once and in HTTP/1.1, is refused", async () => {
  for (const coding of [
    "gzip, chunked",
    "chunked, chunked",
    "identity",
    "chunked, identity",
    "xchunked",
    "\x0bchunked",
    "chunked\x0b",
    '"chunked"',
  ])
    await stranger.refused(stranger.write(`Transfer-Encoding: ${coding}\r\n`, `0\r\n\r\n${stranger.smuggled}`));
  await stranger.refused(
    stranger.write("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", `0\r\n\r\n${stranger.smuggled}`),
  );
  await stranger.refused(
    stranger.write("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", `0\r\n\r\n${stranger.smuggled}`),
  );
  await stranger.refused(
    `POST /echo/api/v3/write HTTP/1.0\r\n${stranger.auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${stranger.smuggled}`,
  );
});

test("obs-fold, a bare LF, a bare CR, a space before the colon and a NUL in the head are refused", async () => {
  for (const head of [
    `${SAY}Host: x\r\nX-Fold: a\r\n b\r\n\r\n`,
    `${SAY}Host: x\r\n\tfolded: a\r\n\r\n`,
    `${SAY}Host: x\nX-A: b\r\n\r\n`,
    `GET / HTTP/1.1\nHost: x\n\n`,
    `${SAY}Host: x\r\nX-A: a\rb\r\n\r\n`,
    `${SAY}Host : x\r\n\r\n`,
    `${SAY}Host: x\r\nX-A: a\0b\r\n\r\n`,
    `${SAY}Host: x\r\nX\0A: a\r\n\r\n`,
    `${SAY}Host: x\r\n: empty\r\n\r\n`,
    `${SAY}Host: x\r\nno colon\r\n\r\n`,
    `GET / HTTP/9.9\r\nHost: x\r\n\r\n`,
    `\x16\x03\x01\r\n\r\n`,
  ])
    await stranger.refused(head);
});

test("a bad chunk size, a chunk that is longer than it says and a bare LF between chunks are refused", async () => {
  for (const body of [
    "zz\r\n",
    "-5\r\n",
    "0x5\r\nabcde\r\n0\r\n\r\n",
    "ffffffffffffffffff\r\n",
    "5 \r\nabcde\r\n0\r\n\r\n",
    "5\r\nabcdefg\r\n0\r\n\r\n",
    "5\nabcde\r\n0\r\n\r\n",
    "5\r\nabcde\n0\r\n\r\n",
    "5;a\nb\r\nabcde\r\n0\r\n\r\n",
  ])
    await stranger.refused(stranger.write("Transfer-Encoding: chunked\r\n", `${body}${stranger.smuggled}`));
});

test("a request without Host, with two, or with one that is no host is refused", async () => {
  for (const head of [
    `${SAY}${stranger.auth}\r\n`,
    `${SAY}Host: a\r\nHost: b\r\n${stranger.auth}\r\n`,
    `${SAY}Host: a\r\nHost: a\r\n${stranger.auth}\r\n`,
    `${SAY}Host: a, b\r\n${stranger.auth}\r\n`,
    `${SAY}Host: a/b\r\n${stranger.auth}\r\n`,
    `${SAY}Host: user@a\r\n${stranger.auth}\r\n`,
    `${SAY}Host: a:b\r\n${stranger.auth}\r\n`,
    `${SAY}Host: a b\r\n${stranger.auth}\r\n`,
  ])
    await stranger.refused(head, REFUSED, false);
});

test("the absolute form is taken where it names the host that the Host header names, and refused where not", async () => {
  const line = (target: string, host: string) => `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n${stranger.auth}\r\n`;
  assert.equal((await stranger.ask(line("https://LocalHost/echo/api/v3/say/hi?times=2", "localhost"))).status, 200);
  stranger.forget();
  for (const [target, host] of [
    ["https://other/echo/api/v3/say/hi", "localhost"],
    ["http://localhost/echo/api/v3/say/hi", "localhost"],
    ["https://a@localhost/echo/api/v3/say/hi", "localhost"],
    ["ftp://localhost/", "localhost"],
    ["*", "localhost"],
    ["localhost", "localhost"],
  ] as const)
    await stranger.refused(line(target, host), REFUSED, false);
});

test("dot segments are refused, plain, encoded, encoded twice, and hidden behind an encoded slash", async () => {
  for (const path of [
    "/echo/../identity/keys",
    "/echo/api/v3/say/..",
    "/echo/./api/v3/say/x",
    "/echo/%2e%2e/identity/keys",
    "/echo/%2E%2e/x",
    "/echo/.%2e/x",
    "/echo/%2e/x",
    "/echo/%252e%252e/identity/keys",
    "/echo/api/v3/say/%25252e%25252e",
    "/echo/..%2fidentity/keys",
    "/echo/api/v3/say/a%2f..%2f..%2fb",
    "/echo/api/v3/say/a%5c..%5cb",
    "/echo/api/v3/say/..%252fb",
    "/..",
    "/%2e%2e",
  ])
    await stranger.refused(`GET ${path} HTTP/1.1\r\nHost: x\r\n${stranger.auth}\r\n`, REFUSED, false);
});

test("an encoded NUL or line break in the path, a percent sign that encodes nothing and bytes that are no UTF-8 are refused", async () => {
  for (const path of [
    "/echo/api/v3/say/a%00b",
    "/echo/api/v3/say/a%0d%0aSet-Cookie:%20a=b",
    "/echo/api/v3/say/a%0ab",
    "/echo/api/v3/say/%7f",
    "/echo/api/v3/say/%",
    "/echo/api/v3/say/%2",
    "/echo/api/v3/say/%zz",
    "/echo/api/v3/say/%c0%ae%c0%ae",
    "/echo/api/v3/say/%ff",
    "/echo/api/v3/say/a%250d%250aX:%20y",
    "/echo/api/v3/say/a\\b",
    "/echo/api/v3/say/a|b",
    '/echo/api/v3/say/a"b',
    "/echo/api/v3/say/a?times=%00",
    "/echo/api/v3/say/a?times=%f",
    "/echo/api/v3/say/a?<script>",
    "/echo/api/v3/say/h\xe9",
  ])
    await stranger.refused(`GET ${path} HTTP/1.1\r\nHost: x\r\n${stranger.auth}\r\n`, REFUSED, false);
});

test("an encoded line break in the query is data: it becomes no header of any answer", async () => {
  const answer = await stranger.ask(
    `GET /echo/api/v3/say/a?times=%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: x\r\n${stranger.auth}\r\n`,
  );
  assert.equal(answer.status, 400);
  assert.equal(answer.headers["set-cookie"], undefined);
});

test("too long a URL, too many or too large headers and too large a body are refused with their own codes", async () => {
  await stranger.refused(
    `GET /echo/api/v3/say/${"a".repeat(8_200)} HTTP/1.1\r\nHost: x\r\n${stranger.auth}\r\n`,
    [413, "GATEWAY_URL_TOO_LONG"],
    false,
  );
  await stranger.refused(`${SAY}Host: x\r\nX-Long: ${"a".repeat(15_000)}\r\n\r\n`, [431, "GATEWAY_HEADERS_TOO_LARGE"]);
  await stranger.refused(
    `${SAY}Host: x\r\n${stranger.auth}${"X-A: b\r\n".repeat(120)}\r\n`,
    [431, "GATEWAY_HEADERS_TOO_LARGE"],
    false,
  );
  const large = JSON.stringify({ text: "a".repeat(3_000) });
  await stranger.refused(stranger.write(`Content-Length: ${large.length}\r\n`, large), [413, "INPUT_TOO_LARGE"], false);
  await stranger.refused(stranger.write("Content-Length: 999999999999\r\n", "a".repeat(5_000)), [
    413,
    "INPUT_TOO_LARGE",
  ]);
  const chunk = `800\r\n${"a".repeat(2_048)}\r\n`;
  await stranger.refused(stranger.write("Transfer-Encoding: chunked\r\n", chunk + chunk), [413, "INPUT_TOO_LARGE"]);
});

test("a client that waits for 100 Continue is refused before it sends its body, and told to go on where it may", async () => {
  await stranger.refused(stranger.write("Expect: 100-continue\r\nContent-Length: 5000\r\n", ""), [
    413,
    "INPUT_TOO_LARGE",
  ]);
  const client = await RawClient.open(stranger.house);
  client.send(stranger.write("Expect: 100-continue\r\nContent-Length: 12\r\n", ""));
  assert.equal((await client.answer()).status, 100);
  assert.equal((await client.send('{"text":"a"}').answer()).status, 201);
  client.socket.destroy();
});

test("a body on a request that has none is refused", async () => {
  await stranger.refused(`${SAY}Host: x\r\n${stranger.auth}Content-Length: 3\r\n\r\nabc`, REFUSED, false);
  await stranger.refused(`GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc`, REFUSED, false);
});

test("headers that come too slowly, and a body that does, are answered with 408, and an idle stranger is cut off", async () => {
  const [head, body, silent] = await Promise.all([
    RawClient.open(stranger.house),
    RawClient.open(stranger.house),
    RawClient.open(stranger.house),
  ]);
  head.send(`${SAY}Host: x\r\nX-A: `);
  body.send(stranger.write("Content-Length: 12\r\n", '{"text":'));
  const [first, second] = await Promise.all([head.answer(), body.answer()]);
  assert.deepEqual([first.status, codeOf(first)], [408, "GATEWAY_REQUEST_SLOW"]);
  assert.deepEqual([second.status, codeOf(second)], [408, "GATEWAY_REQUEST_SLOW"]);
  await Promise.all([head.end(), body.end(), silent.end()]);
  stranger.assertNotForwarded();
});

test("a body that breaks off never reaches the service", async () => {
  const client = await RawClient.open(stranger.house);
  client.send(stranger.write("Content-Length: 100\r\n", '{"text":"abc'));
  // So that the gateway has begun to read it.
  await sleep(20);
  client.socket.destroy();
  const noted = () =>
    stranger.house.lines.some((l) => l["operation"] === "write" && (l["status"] === 400 || l["status"] === 499));
  for (let i = 0; i < 200 && !noted(); i++) await sleep(5);
  assert.ok(noted());
  stranger.assertNotForwarded();
  const good = await stranger.ask(stranger.write("Content-Length: 12\r\n", '{"text":"a"}'));
  assert.equal(good.status, 201);
});

test("CONNECT, TRACE and methods nobody knows are refused; OPTIONS tells what there is", async () => {
  const line = (method: string, target: string) => `${method} ${target} HTTP/1.1\r\nHost: x\r\n\r\n`;
  await stranger.refused(line("CONNECT", "example.org:443"), [405, "GATEWAY_METHOD_REFUSED"]);
  await stranger.refused(line("TRACE", "/"), [405, "GATEWAY_METHOD_REFUSED"], false);
  await stranger.refused(line("PROPFIND", "/"), [405, "GATEWAY_METHOD_REFUSED"], false);
  await stranger.refused(line("GETX", "/"), REFUSED);
  assert.equal((await stranger.ask(line("OPTIONS", "*"))).status, 204);
  assert.equal((await stranger.ask(line("OPTIONS", "/echo/api/v3/say/all"))).headers["allow"], "GET, HEAD, OPTIONS");
});

test("a forged subject, instance, time, trace or forwarding header ends at the door, in any spelling", async () => {
  const forged = Buffer.from(JSON.stringify({ name: "root", scopes: ["*"] })).toString("base64url");
  const viewer = await stranger.house.token("viewer");
  const answer = await stranger.ask(
    `${SAY}Host: x\r\nAuthorization: Bearer ${viewer}\r\nx-holdfast-subject: ${forged}\r\nX_Holdfast_Subject: ${forged}\r\nX-Holdfast-Instance: other\r\n` +
      `X-Holdfast-Timeout-Ms: 900000\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nX-Request-ID: 3f0c4b9e-0000-4000-8000-000000000001\r\n` +
      `X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nConnection: keep-alive, content-type\r\n\r\n`,
  );
  assert.equal(answer.status, 200, answer.text);
  const said = JSON.parse(answer.body) as { subject: string; requestId: string; leftMs: number };
  assert.equal(said.subject, "a viewer");
  assert.equal(said.requestId, answer.headers["x-request-id"]);
  assert.notEqual(said.requestId, "0af76519-16cd-43dd-8448-eb211c80319c");
  assert.ok(said.leftMs <= 2_000);
});

test("requests that follow each other without waiting are answered in order, and a malformed one ends it", async () => {
  const client = await RawClient.open(stranger.house);
  const say = (word: string) => `GET /echo/api/v3/say/${word} HTTP/1.1\r\nHost: x\r\n${stranger.auth}\r\n`;
  client.send(say("one") + say("two") + say("three"));
  for (const word of ["one", "two", "three"])
    assert.equal((JSON.parse((await client.answer()).body) as { words: string }).words, word);
  client.send(`${say("four")}GET bad\r\n\r\n`);
  const rest = await client.end();
  assert.ok(!rest.includes("smuggled"));
});

test("nothing of the inside is told by an error that no service meant", async () => {
  const answer = await stranger.ask(`GET /echo/api/v3/break/badly HTTP/1.1\r\nHost: x\r\n${stranger.auth}\r\n`);
  assert.deepEqual([answer.status, codeOf(answer)], [500, "KERNEL_INTERNAL"]);
  assert.doesNotMatch(answer.text, /hunter2|\/var\/lib/);
  for (const name of ["server", "x-powered-by", "x-holdfast-instance"]) assert.equal(answer.headers[name], undefined);
});
