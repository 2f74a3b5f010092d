/** Bodies in three forms: the codec against the library and against whatever bytes come, Accept by its clauses, a real door. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { request } from "node:https";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { decode as libraryDecode, encode as libraryEncode } from "@msgpack/msgpack";
import fc from "fast-check";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { decodeCbor, encodeCbor } from "../../../kernel/cbor.ts";
import { Failure } from "../../../kernel/error.ts";
import { preferred } from "./media.ts";
import { decodeMsgpack } from "./msgpack-reader.ts";
import { encodeMsgpack } from "./msgpack-writer.ts";

const SEED = 20_260;
const OPTIONS = { useBigInt64: true };

const values = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.integer(),
    fc.double({ noNaN: true }),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }),
    fc.bigInt({ min: -(2n ** 63n), max: -(2n ** 53n) - 1n }),
    fc.string({ unit: "grapheme", maxLength: 300 }),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(fc.string(), tie("value"), { maxKeys: 20, noNullPrototype: true }),
  ),
})).value;

test("what is written in MessagePack is what was meant, to us and to the library; what it writes is read", () => {
  fc.assert(
    fc.property(values, (value) => {
      assert.deepEqual(decodeMsgpack(encodeMsgpack(value)), value);
      // The library gives 64-bit integers as bigint whatever they are, and refuses `__proto__`.
      const simple = decodeMsgpack(encodeMsgpack(value));
      if (JSON.stringify(value, (_, v: unknown) => (typeof v === "bigint" ? "" : v))?.includes("__proto__")) return;
      const theirs = libraryDecode(encodeMsgpack(simple), OPTIONS);
      assert.deepEqual(decodeMsgpack(libraryEncode(theirs, { ...OPTIONS, ignoreUndefined: false })), value);
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test("whatever bytes come, reading ends with a value or with a refusal, and a header asks for no memory", () => {
  const read = (bytes: Uint8Array) => {
    try {
      decodeMsgpack(bytes);
      return "read";
    } catch (error) {
      assert.ok(error instanceof Failure, String(error));
      return error.code;
    }
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void read(bytes)),
    { seed: SEED, numRuns: 3_000 },
  );
  // Arrays that announce four thousand million items each, one within the other.
  const bomb = Buffer.concat(new Array<Buffer>(100_000).fill(Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff])));
  const empty = process.memoryUsage().heapUsed;
  assert.equal(read(bomb), "INPUT_MALFORMED");
  assert.equal(read(Buffer.alloc(10_000, 0x91)), "INPUT_TOO_DEEP");
  assert.ok(process.memoryUsage().heapUsed - empty < 10_000_000);
  for (const bad of ["c1", "d40100", "82a16101a16102", "8101c0", "a1ff", "c0c0", ""])
    assert.equal(read(Buffer.from(bad, "hex")), "INPUT_MALFORMED", bad);
});

test("Accept decides by quality, then by how exactly a form is named, then by order (RFC 9110 12.5.1)", () => {
  const table: readonly (readonly [string | undefined, string | undefined])[] = [
    [undefined, "json"],
    ["", "json"],
    ["*/*", "json"],
    ["application/cbor", "cbor"],
    ["application/cbor, */*", "cbor"],
    ["*/*, application/msgpack", "msgpack"],
    ["application/cbor;q=0.5, application/json", "json"],
    ["application/cbor;q=0.5, application/json;q=0.4, application/x-msgpack;q=0.501", "msgpack"],
    ["application/json, application/cbor", "json"],
    ["application/cbor, application/json", "cbor"],
    ["application/json;q=0, */*", "cbor"],
    ["application/*;q=0.2, application/vnd.msgpack;q=0.3", "msgpack"],
    ["application/cbor;q=0", undefined],
    ["text/html", undefined],
    ["APPLICATION/CBOR; Q=1", "cbor"],
    ["application/cbor;q=7, application/json;q=0.9", "cbor"],
  ];
  for (const [accept, name] of table) assert.equal(preferred(accept), name, String(accept));
});

let house: GatewayHouse;
let auth = "";
const asked: { type?: string | undefined; accept?: string | undefined; body: Buffer }[] = [];
/** A server of others, which speaks JSON alone, and may be kept. */
const behind = createServer((incoming, response) => {
  const chunks: Buffer[] = [];
  incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
  incoming.on("end", () => {
    const { "content-type": type, accept } = incoming.headers;
    asked.push({ type, accept, body: Buffer.concat(chunks) });
    const kept = { "Content-Type": "application/json", "Cache-Control": "public, max-age=60", ETag: '"one"' };
    response.writeHead(200, kept);
    response.end('{"ns":18446744073709551615,"text":"é","half":0.5}');
  });
});

before(async () => {
  behind.listen(0, "127.0.0.1");
  await once(behind, "listening");
  house = await startGateway();
  await house.echo();
  auth = `Bearer ${await house.token()}`;
  const to = [{ upstream: "plant" }];
  house.routes({
    upstreams: { plant: { urls: [`http://127.0.0.1:${(behind.address() as AddressInfo).port}`] } },
    services: { echo: { operations: { all: { cache: { freshMs: 60_000 } } } } },
    routes: [
      { name: "plant", match: { path: "/plant" }, access: "public", to, speaks: "json", cache: {} },
      { name: "raw", match: { path: "/raw" }, access: "public", to },
    ],
  });
});
after(async () => {
  behind.closeAllConnections();
  behind.close();
  await house.stop();
});

async function ask(path: string, headers: Record<string, string>, body?: Uint8Array) {
  const sent = request({
    host: "127.0.0.1",
    port: house.port,
    ca: house.caPem,
    servername: "localhost",
    path,
    method: body ? "POST" : "GET",
    headers: { authorization: auth, ...headers },
  });
  sent.end(body);
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) };
}

const NS = { ns: 18446744073709551615n, text: "é", half: 0.5 };

test("who says the same again on one connection is answered the same: what a step changes is its request's alone", async () => {
  const raw = await RawClient.open(house);
  const types: (string | undefined)[] = [];
  for (let i = 0; i < 3; i++) {
    raw.send(`GET /plant HTTP/1.1\r\nHost: localhost\r\nAccept: application/cbor\r\nAuthorization: ${auth}\r\n\r\n`);
    types.push((await raw.answer()).headers["content-type"]);
  }
  assert.deepEqual(types, ["application/cbor", "application/cbor", "application/cbor"]);
  raw.socket.destroy();
});

test("a server of JSON answers in the form that is asked for; a cache before it asks it once for all of them", async () => {
  asked.length = 0;
  const json = await ask("/plant", {});
  assert.equal(json.headers["content-type"], "application/json");
  assert.match(String(json.headers.vary), /Accept/);
  const cbor = await ask("/plant", { accept: "application/cbor", range: "bytes=0-3" });
  assert.deepEqual([cbor.status, cbor.headers["content-type"]], [200, "application/cbor"]);
  assert.deepEqual(decodeCbor(cbor.body), NS);
  assert.deepEqual([cbor.headers.etag, cbor.headers.vary], ['W/"one"', "Accept"]);
  const packed = await ask("/plant", { accept: "application/x-msgpack" });
  assert.equal(packed.headers["content-type"], "application/x-msgpack");
  assert.deepEqual(decodeMsgpack(packed.body), NS);
  assert.equal(asked.length, 1);
  const known = await ask("/plant", { accept: "application/cbor", "if-none-match": 'W/"one"' });
  assert.equal(known.status, 304);
});

test("a route of others that does not say what it speaks is left alone", async () => {
  asked.length = 0;
  const answer = await ask("/raw", { accept: "application/cbor", "content-type": "application/cbor" }, encodeCbor(1));
  assert.equal(answer.headers["content-type"], "application/json");
  assert.deepEqual(asked[0], { type: "application/cbor", accept: "application/cbor", body: Buffer.from([1]) });
});

test("a body in CBOR or MessagePack comes to a server of JSON as JSON: large integers exact, bytes as base64", async () => {
  for (const [type, encode] of [
    ["application/cbor", encodeCbor],
    ["application/msgpack", encodeMsgpack],
  ] as const) {
    asked.length = 0;
    const value = { ns: 18446744073709551615n, bytes: new Uint8Array([255, 0]), none: undefined, not: Number.NaN };
    await ask("/plant", { "content-type": type, accept: "application/json" }, encode(value));
    assert.equal(asked[0].type, "application/json");
    const text = asked[0].body.toString();
    assert.match(text, /^\{"ns":18446744073709551615,"bytes":"\/wA=",("none":null,)?"not":null\}$/);
  }
  const bad = await ask("/plant", { "content-type": "application/msgpack" }, Buffer.from([0xc1]));
  assert.equal(bad.status, 400);
});

test("a service of this node is asked in CBOR for MessagePack, and its refusals come in the form that was asked for", async () => {
  const written = await ask(
    "/echo/api/v3/write",
    { "content-type": "application/msgpack", accept: "application/msgpack" },
    encodeMsgpack({ text: "four" }),
  );
  assert.equal(written.status, 201, written.body.toString());
  assert.deepEqual((decodeMsgpack(written.body) as { length: number }).length, 4);
  const refused = await ask("/echo/api/v3/break/known", { accept: "application/msgpack" });
  assert.deepEqual([refused.status, (decodeMsgpack(refused.body) as { code: string }).code], [500, "ECHO_FAILED"]);
  const unknown = await ask("/echo/api/v3/say/x", { accept: "application/cbor", authorization: "Bearer no" });
  assert.deepEqual([unknown.status, (decodeCbor(unknown.body) as { statusCode: number }).statusCode], [401, 401]);
});

test("what is kept of a service of this node is kept by form", async () => {
  const all = "/echo/api/v3/say/all";
  const told: unknown[] = [];
  for (const accept of ["application/json", "application/cbor", "application/msgpack", "application/json;q=0.9"]) {
    const answer = await ask(all, { accept });
    const hit = String(answer.headers["cache-status"]).includes("hit");
    told.push([answer.headers["content-type"]?.split(";")[0], hit]);
  }
  assert.deepEqual(told, [
    ["application/json", false],
    ["application/cbor", false],
    ["application/msgpack", true],
    ["application/json", true],
  ]);
});
