/**
 * Request smuggling, as the literature has it (RFC 9112 11.2): each case is sent as it is over TLS, in front of a server that
 * notes every byte it gets. What could be read in two ways is refused, its connection closed, and that server hears nothing.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import fc from "fast-check";
import { type GatewayHouse, RawClient, startGateway } from "../../../test/houses/gateway.ts";

const ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok\r\n";
/** Begins a request; whoever behind us takes the name for a method has been smuggled something. */
const HIDDEN = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";

let house: GatewayHouse;
/** All that the server behind has got. */
let got = "";
const sockets = new Set<Socket>();
const behind = createServer((socket) => {
  sockets.add(socket.once("close", () => sockets.delete(socket)));
  let text = "";
  socket
    .on("error", () => socket.destroy())
    .on("data", (chunk: Buffer) => {
      got += chunk.toString("latin1");
      text += chunk.toString("latin1");
      // It reads as we frame: what is whole is answered, once each.
      for (let end = endOf(text); end > 0; end = endOf(text)) {
        text = text.slice(end);
        socket.write(ANSWER);
      }
    });
});

/** Where the first request of a text ends; 0 where it does not yet. */
function endOf(text: string): number {
  const head = text.indexOf("\r\n\r\n");
  if (head < 0) return 0;
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(0, head))?.[1] ?? 0);
  const chunked = /\r\ntransfer-encoding: chunked/i.test(text.slice(0, head));
  const last = chunked ? text.indexOf("0\r\n\r\n", head + 4) : 0;
  if (chunked) return last < 0 ? 0 : last + 5;
  return text.length >= head + 4 + length ? head + 4 + length : 0;
}

before(async () => {
  behind.listen(0, "127.0.0.1");
  await once(behind, "listening");
  house = await startGateway({ headersTimeoutMs: 500, requestTimeoutMs: 900 });
  const url = `http://127.0.0.1:${(behind.address() as AddressInfo).port}`;
  house.routes({
    upstreams: { behind: { urls: [url] } },
    routes: [
      { name: "all", match: { path: "/**", methods: ["GET", "POST"] }, access: "public", to: [{ upstream: "behind" }] },
    ],
  });
  assert.equal((await talk("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).slice(0, 12), "HTTP/1.1 200");
});
after(async () => {
  await house.stop();
  for (const socket of sockets) socket.destroy();
  behind.close();
});
beforeEach(() => {
  got = "";
});

/** Longer than the door waits for a head or a body. */
const OPEN_MS_MAX = 4_000;
/** Stands for a connection that nobody closes. */
const OPEN = "\r\nHTTP/1.1 299 still open";

/** Sends bytes on a connection of their own, and gives all that comes until it is closed. */
async function talk(bytes: string): Promise<string> {
  const client = await RawClient.open(house);
  let open = "";
  const cut = setTimeout(() => {
    open = OPEN;
    client.socket.destroy();
  }, OPEN_MS_MAX);
  const text = await client.send(bytes).end();
  clearTimeout(cut);
  return text + open;
}

const statuses = (text: string): string[] => [...text.matchAll(/^HTTP\/1\.1 (\d{3})/gm)].map((match) => match[1]);

const post = (fields: string, body: string): string => `POST /a HTTP/1.1\r\nHost: x\r\n${fields}\r\n\r\n${body}`;
const chunked = (body: string): string => post("Transfer-Encoding: chunked", body);
const get = (fields: string, line = "GET /a HTTP/1.1"): string => `${line}\r\n${fields}\r\n\r\n${HIDDEN}`;
/** For those who believe the length it is one body, for those who believe the chunks its end and another request. */
const BOTH = `0\r\n\r\n${HIDDEN}`;
const LENGTH = `Content-Length: ${BOTH.length}`;

/** Spellings of a transfer coding that somebody, somewhere, takes for `chunked` and somebody else does not. */
const CODINGS = [
  "Transfer-Encoding: chunked",
  "transfer-encoding:chunked",
  "Transfer-Encoding:\tchunked",
  "Transfer-Encoding: chunked\t",
  "Transfer-Encoding : chunked",
  "Transfer-Encoding\t: chunked",
  " Transfer-Encoding: chunked",
  "Transfer-Encoding: CHUNKED",
  "Transfer-Encoding: xchunked",
  "Transfer-Encoding: chunked-x",
  "Transfer-Encoding: chunk",
  "Transfer-Encoding: x chunked",
  "Transfer-Encoding: \x0bchunked",
  "Transfer-Encoding: \x0cchunked",
  "Transfer-Encoding: chunked\x0b",
  "Transfer-Encoding: chunked\0",
  "Transfer-Encoding\0: chunked",
  "Transfer-Encoding: \xa0chunked",
  "Transfer-Encoding: \xffchunked",
  "Transfer-Encoding: 'chunked'",
  'Transfer-Encoding: "chunked"',
  "Transfer-Encoding: chunked;q=1",
  "Transfer-Encoding: chunked,",
  "Transfer-Encoding: ,chunked",
  "Transfer-Encoding: , ,chunked",
  "Transfer-Encoding: identity",
  "Transfer-Encoding: identity, chunked",
  "Transfer-Encoding: chunked, identity",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding: chunked, chunked",
  "Transfer-Encoding:",
  "Transfer-Encoding:\r\n chunked",
  "Transfer-Encoding: chu\r\n nked",
  "Transfer-Encoding\r\n: chunked",
  "Transfer-Encoding\n: chunked",
  "Transfer-Encoding chunked",
  "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
  "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding: x\r\nTransfer-encoding: chunked",
  "X: y\nTransfer-Encoding: chunked",
  "X: y\rTransfer-Encoding: chunked",
  "X: y\r\rTransfer-Encoding: chunked",
  "X: y\r\n\rTransfer-Encoding: chunked",
  "\rTransfer-Encoding: chunked",
  "X\0: y\r\nTransfer-Encoding: chunked",
  "\x01Transfer-Encoding: chunked",
  "Transfer\xadEncoding: chunked\r\nTransfer-Encoding: chunked",
];

/** Lengths that one reader takes for a number and another one does not. */
const LENGTHS = [
  "Content-Length: 5\r\nContent-Length: 50",
  "Content-Length: 5\r\nContent-Length: 5",
  "Content-Length: 5, 50",
  "Content-Length: 5,5",
  "Content-Length: +5",
  "Content-Length: -5",
  "Content-Length: --5",
  "Content-Length: 0x5",
  "Content-Length: 5x",
  "Content-Length: 5_0",
  "Content-Length: 5 0",
  "Content-Length: 5.0",
  "Content-Length: 5e0",
  "Content-Length: 5;x",
  "Content-Length: '5'",
  'Content-Length: "5"',
  "Content-Length:",
  "Content-Length: ,5",
  "Content-Length : 5",
  "Content-Length\t: 5",
  " Content-Length: 5",
  "Content-Length:\r\n 5",
  "Content-Length: 5\r\n 0",
  "Content-Length: \x0b5",
  "Content-Length: 5\0",
  "Content-Length: \xb2",
  "Content-Length: 18446744073709551621",
  "Content-Length: 4294967301000000000",
  "Content-Length: 0000000000000000000005",
  "X: y\nContent-Length: 5",
  "X: y\rContent-Length: 5",
  "Content-Length\n: 5",
];

/** Chunks that one reader takes for a body's end, or for longer than another one does. */
const CHUNKS = [
  `0x5\r\nhello\r\n${BOTH}`,
  `+5\r\nhello\r\n${BOTH}`,
  `-5\r\nhello\r\n${BOTH}`,
  `5_\r\nhello\r\n${BOTH}`,
  `5 \r\nhello\r\n${BOTH}`,
  ` 5\r\nhello\r\n${BOTH}`,
  `5\t;a\r\nhello\r\n${BOTH}`,
  `\r\n5\r\nhello\r\n${BOTH}`,
  `\r\n${BOTH}`,
  `;a=b\r\nhello\r\n${BOTH}`,
  `g\r\nhello\r\n${BOTH}`,
  `5,5\r\nhello\r\n${BOTH}`,
  `100000005\r\nhello\r\n${BOTH}`,
  `10000000000000005\r\nhello\r\n${BOTH}`,
  `0000000000000005\r\nhello\r\n${BOTH}`,
  `5\nhello\r\n${BOTH}`,
  `5\rhello\r\n${BOTH}`,
  `5;a\nhello\r\n${BOTH}`,
  `5;\rhello\r\n${BOTH}`,
  `5;a=\0\r\nhello\r\n${BOTH}`,
  `2;\nxx\r\n3\r\nabc\r\n${BOTH}`,
  `2;\n\r\nxx\r\n${BOTH}`,
  `5\r\nhello\n${BOTH}`,
  `5\r\nhello\r${BOTH}`,
  `5\r\nhelloXX${BOTH}`,
  `5\r\nhello0\r\n\r\n${HIDDEN}`,
  `5\r\nhello!\r\n${BOTH}`,
  `4\r\nhello\r\n${BOTH}`,
  `5\r\nhello\r\n0\n\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\n\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\n\r${HIDDEN}`,
  `5\r\nhello\r\n0 \r\n\r\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\nHost: y\r\n\r\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\nX : y\r\n\r\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\n X: y\r\n\r\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\nX: y\nZ: a\r\n\r\n${HIDDEN}`,
  `5\r\nhello\r\n0\r\n${HIDDEN}`,
];

/** Heads that one reader takes for another request than the next one does. */
const HEADS = [
  get("Host: x\r\nX: y\r\n folded"),
  get("Host: x\r\n\tfolded: y"),
  get(" Host: x"),
  get("Host: x\nX: y"),
  get("Host: x\r\n\nX: y"),
  get("Host: x\r\r\nX: y"),
  get("Host: x\r\nX: y\0z"),
  get("Host: x\r\nX: y\x7fz\x01"),
  get("Host: x\r\n: y"),
  get("Host: x\r\nX"),
  get("Host: x\r\nX y: z"),
  get("Host: x\r\n[X]: y"),
  get("X: y"),
  get("Host: x\r\nHost: y"),
  get("Host: x\r\nHost: x"),
  get("Host: x\r\nhost: y"),
  get("Host: x, y"),
  get("Host: x y"),
  get("Host: x\ty"),
  get("Host: x@y"),
  get("Host: x/y"),
  get("Host: x?y"),
  get("Host: x#y"),
  get("Host: x\\y"),
  get("Host: x:y"),
  get("Host: x:80:80"),
  get("Host: [x"),
  get("Host: x%00y"),
  get("Host: \xff"),
  get("Host : x"),
  get("Host: x\r\nHost : y"),
  get("Host: x\r\n Host: y"),
  get("Host: x", "GET https://y/a HTTP/1.1"),
  get("Host: x", "GET http://x/a HTTP/1.1"),
  get("Host: x", "GET https://z@x/a HTTP/1.1"),
  get("Host: x", "GET https:///a HTTP/1.1"),
  get("Host: x", "GET a HTTP/1.1"),
  get("Host: x", "GET x:443 HTTP/1.1"),
  get("Host: x", "GET * HTTP/1.1"),
  get("Host: x", "GET  /a HTTP/1.1"),
  get("Host: x", "GET /a  HTTP/1.1"),
  get("Host: x", "GET /a HTTP/1.1 "),
  get("Host: x", " GET /a HTTP/1.1"),
  get("Host: x", "\nGET /a HTTP/1.1"),
  get("Host: x", "\rGET /a HTTP/1.1"),
  get("Host: x", "GET\t/a HTTP/1.1"),
  get("Host: x", "GET /a\tHTTP/1.1"),
  get("Host: x", "GET /a HTTP/1.1\rX: y"),
  get("Host: x", "GET /a HTTP/1.1\nX: y"),
  get("Host: x", "GET /a\0 HTTP/1.1"),
  get("Host: x", "GET /a\x0b HTTP/1.1"),
  get("Host: x", "GET /a#b HTTP/1.1"),
  get("Host: x", "GET /a HTTP/1.1 HTTP/1.1"),
  get("Host: x", "GET /a"),
  get("Host: x", "GET /a HTTP/0.9"),
  get("Host: x", "GET /a HTTP/1.2"),
  get("Host: x", "GET /a HTTP/11.1"),
  get("Host: x", "GET /a HTTP/2.0"),
  get("Host: x", "GET /a http/1.1"),
  get("Host: x", "GET /a HTTP/1.1\\r"),
  get("Host: x", "get /a HTTP/1.1"),
  get("Host: x", "G\0ET /a HTTP/1.1"),
  get("Host: x", "GET\x00 /a HTTP/1.1"),
  get("Host: x", "PRI * HTTP/2.0"),
  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  `POST /a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${BOTH}`,
  `GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
  `GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n${BOTH}`,
  `CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n${HIDDEN}`,
];

/** Each is refused with 4xx or 5xx or nothing at all, its connection ends there, and nobody behind hears of it. */
async function allRefused(cases: readonly string[]): Promise<void> {
  const wrong: string[] = [];
  // A few at once: most of the time is the handshake's.
  for (let from = 0; from < cases.length; from += 8)
    await Promise.all(
      cases.slice(from, from + 8).map(async (bytes) => {
        const found = statuses(await talk(bytes));
        if (found.length > 1 || (found[0] !== undefined && found[0] < "400"))
          wrong.push(`${found.join()} for ${JSON.stringify(bytes)}`);
      }),
    );
  assert.deepEqual(wrong, []);
  assert.equal(got, "", "nothing was forwarded");
}

test("a length beside any spelling of a transfer coding is refused (RFC 9112 6.1, 6.3)", () =>
  allRefused(
    CODINGS.flatMap((coding) => [post(`${LENGTH}\r\n${coding}`, BOTH), post(`${coding}\r\n${LENGTH}`, BOTH)]),
  ));

test("a length that is not one number in digits is refused (RFC 9112 6.3)", () =>
  allRefused(LENGTHS.map((length) => post(length, `hello${HIDDEN}`))));

test("chunks that do not say in one way where they end are refused (RFC 9112 7.1)", () =>
  allRefused(CHUNKS.map(chunked)));

test("heads that are none, or for two hosts, are refused (RFC 9112 2.2, 3, 3.2, 5)", () => allRefused(HEADS));

/** Odd, but of one meaning: it is one request, framed anew, and what follows is the next one or nothing. */
const ONE: readonly (readonly [what: string, bytes: string, body: string])[] = [
  ["7.1.1: extensions", chunked('5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n'), "hello"],
  ["7.1.2: a trailer", chunked("5\r\nhello\r\n0\r\nX: y\r\n\r\n"), "hello"],
  ["a body that looks like a request", post(`Content-Length: ${HIDDEN.length}`, HIDDEN), HIDDEN],
  ["an underscore makes another name", post("Transfer_Encoding: chunked\r\nContent-Length: 5", "hello"), "hello"],
  ["another one", post("Content_Length: 50\r\nContent-Length: 5", "hello"), "hello"],
  [
    "RFC 9110 7.8: an upgrade to HTTP/2",
    post(
      "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 5",
      "hello",
    ),
    "hello",
  ],
  [
    "RFC 9110 7.6.1: Connection names the length",
    post("Connection: content-length, close\r\nContent-Length: 5", "hello"),
    "hello",
  ],
  ["RFC 9110 10.1.1: an expectation of nobody", post("Expect: y 100-continue\r\nContent-Length: 5", "hello"), "hello"],
  ["3.2.2: the absolute form", `POST https://X/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello`, "hello"],
  ["2.2: an empty line before", `\r\n${post("Content-Length: 5", "hello")}`, "hello"],
];

test("what is odd and yet has one meaning is one request behind, framed anew, with nothing in it that framed it before", async () => {
  for (const [what, bytes, body] of ONE) {
    got = "";
    const client = await RawClient.open(house);
    const answer = await client.send(bytes).answer();
    assert.equal(answer.status, 200, `${what}: ${answer.text}`);
    client.socket.destroy();
    const [head = "", ...rest] = got.split("\r\n\r\n");
    assert.match(head, /^POST \/a HTTP\/1\.1\r\n/, what);
    assert.doesNotMatch(head, /transfer_encoding|content_length|upgrade|expect|http2-settings|trailer|^x: /im, what);
    const said = rest.join("\r\n\r\n");
    const framed = /\r\ncontent-length: (\d+)/i.exec(head);
    if (framed) assert.deepEqual([Number(framed[1]), said], [body.length, body], what);
    else assert.equal(said.replaceAll(/(?:^|\r\n)[0-9a-f]+\r\n/g, "").trim(), body.trim(), what);
    assert.equal([...got.matchAll(/^(?:GET|POST) /gm)].length, body === HIDDEN ? 2 : 1, what);
  }
});

/** Every piece ends where somebody who reads differently from us might begin another request. */
const PIECES = [
  "Content-Length: 5",
  "Content-Length: 40",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: identity",
  "\r\n",
  "\n",
  "\r",
  " ",
  "\t",
  "\0",
  "0",
  "5",
  ";a",
  "hello",
  "X: y",
  "Host: x",
  "Host: y",
  "POST /a HTTP/1.1",
  HIDDEN,
  ":",
  ",",
];

test("whatever pieces make a request, behind us it is what our framing says, request by request", async () => {
  const pieces = fc.array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 8 }).map((parts) => parts.join(""));
  await fc.assert(
    fc.asyncProperty(pieces, pieces, async (fields, body) => {
      got = "";
      const sent = post(`Connection: close\r\n${fields}`, body);
      const found = statuses(await talk(`${sent}\r\n\r\n`));
      let rest = got;
      let requests = 0;
      for (let end = endOf(rest); end > 0; end = endOf(rest), requests++) rest = rest.slice(end);
      assert.equal(rest, "", "what went on has an end");
      assert.equal(requests, found.filter((status) => status === "200").length, JSON.stringify(sent));
      assert.ok(requests <= 1, JSON.stringify(sent));
    }),
    { seed: 13, numRuns: 150 },
  );
});
