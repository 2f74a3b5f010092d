/** The grammar of HTTP/1.1, clause by clause: over raw TLS sockets, byte for byte, each refused and never forwarded. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { type GatewayHouse, RawClient, type RawAnswer, startGateway } from "../../../test/houses/gateway.ts";

let house: GatewayHouse;
let token = "";
/** What the service behind the gateway was asked so far, as its traces tell. */
const asked = () =>
  house.lines.filter((l) => l["service"] === "gateway" && l["upstream"] === "echo" && (l["status"] as number) < 300)
    .length;
let former = 0;

before(async () => {
  house = await startGateway({ headersTimeoutMs: 500, requestTimeoutMs: 900, bodyBytesMax: 2_000 });
  await house.echo();
  token = await house.token();
});
after(() => house.stop());
beforeEach(() => (former = asked()));

const auth = () => `Authorization: Bearer ${token}\r\n`;
const json = "Content-Type: application/json\r\n";

/** Sends bytes on a new connection and gives the answer. */
async function ask(bytes: string): Promise<RawAnswer> {
  const client = await RawClient.open(house);
  const answer = await client.send(bytes).answer();
  client.socket.destroy();
  return answer;
}

/** The answer's stable code; every refusal has the one shape. */
function codeOf(answer: RawAnswer): string {
  assert.match(answer.headers["content-type"] ?? "", /^application\/json(;|$)/, answer.text);
  const body = JSON.parse(answer.body) as {
    code: string;
    statusCode: number;
    requestId: string;
    message: string;
    todo: string;
  };
  assert.equal(body.statusCode, answer.status);
  assert.equal(body.requestId, answer.headers["x-request-id"]);
  assert.ok(body.message && body.todo);
  return body.code;
}

const REFUSED = [400, "GATEWAY_REQUEST_REFUSED"] as const;

/** Sends bytes, expects a refusal, and that the connection is closed where more could be made of what follows. */
async function refused(
  bytes: string,
  [status, code]: readonly [number, string] = REFUSED,
  closes = true,
): Promise<RawAnswer> {
  const client = await RawClient.open(house);
  const answer = await client.send(bytes).answer();
  assert.deepEqual(
    [answer.status, answer.status && codeOf(answer)],
    [status, code],
    JSON.stringify(bytes.slice(0, 200)),
  );
  if (closes) assert.equal((await client.end()).includes("HTTP/1.1 2"), false, "nothing else was answered");
  client.socket.destroy();
  assert.equal(asked(), former, "nothing was forwarded");
  return answer;
}

const SAY = "GET /echo/api/v3/say/hello HTTP/1.1\r\n";
const smuggled = () => `GET /echo/api/v3/say/smuggled HTTP/1.1\r\nHost: x\r\n${auth()}\r\n`;
const write = (fields: string, body: string) =>
  `POST /echo/api/v3/write HTTP/1.1\r\nHost: x\r\n${auth()}${json}${fields}\r\n${body}`;

test("RFC 9112 2.2, 3: an odd start line is refused; an empty line before it is taken", async () => {
  assert.equal((await ask(`\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n`)).status, 200);
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
    await refused(`${line}\r\nHost: x\r\n\r\n${smuggled()}`, REFUSED, false);
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
    await refused(`${SAY}${field}\r\n${auth()}\r\n${smuggled()}`);
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
    await refused(write(`${field}\r\n`, `0\r\n\r\n${smuggled()}`), REFUSED, false);
  // RFC 9110 5.1: a name with an underscore is another name, and ends here nevertheless; the body is as long as it says.
  const answer = await ask(write("Transfer_Encoding: chunked\r\nContent-Length: 12\r\n", '{"text":"a"}'));
  assert.equal(answer.status, 201);
});

test("RFC 9112 7.1.1: extensions of chunks are left out, and endless ones refused", async () => {
  const good = await ask(write("Transfer-Encoding: chunked\r\n", 'c;a=b;c="d e"\r\n{"text":"a"}\r\n0;last\r\n\r\n'));
  assert.equal(good.status, 201);
  former = asked();
  const client = await RawClient.open(house);
  const answer = await client.send(write("Transfer-Encoding: chunked\r\n", `c;${"a".repeat(20_000)}\r\n`)).answer();
  assert.ok([400, 413, 431].includes(answer.status), answer.text);
  await client.end();
  assert.equal(asked(), former);
});

test("RFC 9112 7.1.2: a trailer is no header: what it names does not count", async () => {
  const chunks = 'c\r\n{"text":"a"}\r\n0\r\n';
  const trailed = write("Transfer-Encoding: chunked\r\nTrailer: X-Holdfast-Subject\r\n", chunks);
  assert.equal((await ask(`${trailed}X-Holdfast-Subject: root\r\n\r\n`)).status, 201);
  former = asked();
  await refused(`${trailed}Content-Length: 1\r\n\r\n`);
});

test("RFC 9110 7.6.1, 7.8: Connection cannot name away what the door relies on, and an upgrade to HTTP/2 is ignored", async () => {
  const headers =
    "Connection: authorization, host, content-length, upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
  const answer = await ask(`${SAY}Host: x\r\n${auth()}${headers}\r\n`);
  assert.deepEqual([answer.status, answer.headers["upgrade"]], [200, undefined]);
  former = asked();
  await refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED);
});

test("RFC 9110 10.1.1: an expectation nobody knows is ignored; HTTP/1.0 needs no Host and is closed after its answer", async () => {
  assert.equal((await ask(`${SAY}Host: x\r\n${auth()}Expect: a-miracle\r\n\r\n`)).status, 200);
  const client = await RawClient.open(house);
  const text = await client.send(`GET /healthz HTTP/1.0\r\n\r\n`).end();
  assert.match(text, /^HTTP\/1\.1 200 /);
});
