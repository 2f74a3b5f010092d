import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { createDecipheriv, createHmac } from "node:crypto";
import { gunzipSync, inflateSync, zstdDecompressSync } from "node:zlib";
import { decodeCbor } from "../../../kernel/cbor.ts";
import { decodeBlocks } from "../../../kernel/events/codec.ts";
import { Failure } from "../../../kernel/error.ts";
import { parseJson } from "../../../kernel/json.ts";
import { batchOf, LIVE, makeTlsFiles, never, senderOf, temporary } from "./fixture.ts";
import type { Sender } from "./sender.ts";

interface Got {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

type Answer = (response: ServerResponse, request: IncomingMessage, count: number) => void;

/** A server that keeps what it was sent, and answers as it is told (204 unless it is). */
async function serve(t: TestContext, make: (listener: (q: IncomingMessage, s: ServerResponse) => void) => Server) {
  const got: Got[] = [];
  const rig = {
    got,
    answer: ((response) => response.writeHead(204).end()) as Answer,
    port: 0,
    sockets: new Set<Socket>(),
  };
  const server = make((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      got.push({ method, path: url, headers, body: Buffer.concat(chunks) });
      rig.answer(response, request, got.length);
    });
  });
  server.on("connection", (socket: Socket) => {
    rig.sockets.add(socket);
    socket.on("error", () => undefined);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  rig.port = (server.address() as AddressInfo).port;
  t.after(() => {
    for (const socket of rig.sockets) socket.destroy();
    server.close();
  });
  return rig;
}

const serveHttp = (t: TestContext) => serve(t, (listener) => createHttp(listener));

async function open(t: TestContext, config: object, way = {}): Promise<Sender> {
  const sender = await senderOf({ kind: "https", ...config }, "there", way);
  t.after(() => sender.close());
  return sender;
}

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  const error: unknown = await work.then(
    () => assert.fail("it did not fail"),
    (e: unknown) => e,
  );
  assert.ok(error instanceof Failure, String(error));
  return error;
}

test("a batch arrives as EdgeX events, exact to the nanosecond, with an id that stays the same", async (t) => {
  const rig = await serveHttp(t);
  const sender = await open(t, { url: `http://127.0.0.1:${rig.port}/in?x=1`, headers: { "X-Site": "7" } });
  assert.deepEqual(await sender.send(LIVE, [batchOf(1), batchOf(2)], never), { durable: 2, refused: [] });
  assert.equal(rig.got.length, 2);
  const [{ method, path, headers, body }] = rig.got;
  assert.deepEqual(
    [method, path, headers["x-site"], headers["content-type"]],
    ["POST", "/in?x=1", "7", "application/json"],
  );
  assert.equal(headers["idempotency-key"], '"node-1.there.normal.5.1.0"');
  assert.match(String(headers["x-correlation-id"]), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$/);
  const events = parseJson(body) as { deviceName: string; origin: bigint; id: string; readings: { value: string }[] }[];
  assert.deepEqual(
    events.map(({ deviceName, origin, readings }) => [deviceName, origin, readings.map(({ value }) => value)]),
    [
      ["a", 1_700_000_000_000_000_011n, ["1.05e+01", "10"]],
      ["b", 1_700_000_000_000_000_012n, ["1.15e+01", "11"]],
    ],
  );
  assert.ok(sender.bytes.sent > 2 * body.length && sender.bytes.received > 0);
});

test("formats, shapes and compressions are what the config says", async (t) => {
  const rig = await serveHttp(t);
  const url = `http://127.0.0.1:${rig.port}`;
  const sent = async (config: object) => {
    rig.got.length = 0;
    const sender = await open(t, { url, ...config });
    await sender.send(LIVE, [batchOf(1, { events: 3 })], never);
    return rig.got;
  };
  const [columns] = await sent({ format: "columns" });
  assert.deepEqual(Buffer.from(columns.body), Buffer.from(batchOf(1, { events: 3 }).blocks));
  assert.equal(decodeBlocks(columns.body).length, 2);
  const [cbor] = await sent({ format: "cbor", compression: "gzip" });
  assert.equal(cbor.headers["content-encoding"], "gzip");
  const events = decodeCbor(gunzipSync(cbor.body)) as { origin: bigint }[];
  assert.deepEqual(
    events.map(({ origin }) => origin),
    [11n, 12n, 13n].map((n) => 1_700_000_000_000_000_000n + n),
  );
  const requests = await sent({ shape: "request", compression: "zlib" });
  assert.equal(requests.length, 3);
  assert.deepEqual(
    requests.map(({ headers }) => headers["idempotency-key"]),
    [0, 1, 2].map((n) => `"node-1.there.normal.5.1.${n}"`),
  );
  const request = parseJson(inflateSync(requests[2].body)) as { apiVersion: string; event: { deviceName: string } };
  assert.deepEqual([request.apiVersion, request.event.deviceName], ["v3", "a"]);
  const [xml] = await sent({ format: "xml", compression: "zstd" });
  assert.match(zstdDecompressSync(xml.body).toString(), /^<Events>(<Event>.*<\/Event>){3}<\/Events>$/);
  const cut = await sent({ messageBytesMax: 1_024 });
  assert.deepEqual(
    cut.map(({ body }) => (parseJson(body) as unknown[]).length),
    [1, 1, 1],
  );
});

test("encrypted messages can be read with the key alone, also those made as EdgeX makes them", async (t) => {
  const rig = await serveHttp(t);
  const directory = temporary(t);
  const url = `http://127.0.0.1:${rig.port}`;
  const key = Buffer.alloc(64, 7);
  const keyFile = join(directory, "export.key");
  writeFileSync(keyFile, `${key.toString("hex")}\n`);
  await (await open(t, { url, encryption: { algorithm: "aes256", keyFile } })).send(LIVE, [batchOf(1)], never);
  const bytes = Buffer.from(rig.got[0].body.toString(), "base64");
  const sealed = bytes.subarray(0, -32);
  const mac = createHmac("sha512", key.subarray(0, 32)).update(sealed).update(Buffer.alloc(8)).digest().subarray(0, 32);
  assert.deepEqual(bytes.subarray(-32), mac);
  const decipher = createDecipheriv("aes-256-cbc", key.subarray(32), sealed.subarray(0, 16));
  assert.equal(
    (parseJson(Buffer.concat([decipher.update(sealed.subarray(16)), decipher.final()])) as unknown[]).length,
    2,
  );
  assert.equal(rig.got[0].headers["content-type"], "text/plain");

  await assert.rejects(open(t, { url, encryption: { keyFile } }), {
    code: "PIPELINE_DESTINATION_INVALID",
    message: /64 hexadecimal digits/,
  });
  writeFileSync(keyFile, key.subarray(0, 32).toString("hex"));
  const sender = await open(t, { url, compression: "gzip", encryption: { keyFile } });
  await sender.send(LIVE, [batchOf(1)], never);
  const { body, headers } = rig.got[1];
  assert.deepEqual([headers["content-type"], headers["content-encoding"]], ["application/octet-stream", undefined]);
  const gcm = createDecipheriv("aes-256-gcm", key.subarray(0, 32), body.subarray(0, 12)).setAuthTag(body.subarray(-16));
  const plain = gunzipSync(Buffer.concat([gcm.update(body.subarray(12, -16)), gcm.final()]));
  assert.equal((parseJson(plain) as unknown[]).length, 2);
});

test("over TLS the authority is pinned, a certificate is shown, and secrets come from files", async (t) => {
  const directory = temporary(t);
  const files = await makeTlsFiles(directory);
  const rig = await serve(t, (listener) =>
    createHttps(
      {
        cert: readFileSync(files.cert),
        key: readFileSync(files.key),
        ca: readFileSync(files.ca),
        requestCert: true,
        minVersion: "TLSv1.3",
      },
      listener,
    ),
  );
  const token = join(directory, "token");
  writeFileSync(token, "Bearer s3cret\n");
  const url = `https://127.0.0.1:${rig.port}`;
  const tls = { caFile: files.ca, certFile: files.clientCert, keyFile: files.clientKey };
  const sender = await open(t, { url, tls, headerFiles: { Authorization: token } });
  await sender.send(LIVE, [batchOf(1)], never);
  await sender.send(LIVE, [batchOf(2)], never);
  assert.equal(rig.got[1].headers["authorization"], "Bearer s3cret");
  assert.equal(rig.sockets.size, 1, "one connection serves both");
  const [socket] = rig.sockets;
  assert.deepEqual(sender.bytes, { sent: socket.bytesRead, received: socket.bytesWritten });

  const stranger = await failureOf((await open(t, { url })).send(LIVE, [batchOf(1)], never));
  assert.match(stranger.message, /self-signed|unable to/);
  const other = await open(t, { url, tls: { ...tls, serverName: "other.example" } });
  assert.match((await failureOf(other.send(LIVE, [batchOf(1)], never))).message, /other\.example/);
});

test("without TLS only this machine is sent to, unless it is said to be meant", async () => {
  const refused = { code: "PIPELINE_DESTINATION_INVALID", message: /without TLS/ };
  await assert.rejects(senderOf({ kind: "https", url: "http://192.0.2.1/x" }), refused);
  await assert.rejects(senderOf({ kind: "mqtt", url: "mqtt://broker.example" }), refused);
  await assert.rejects(senderOf({ kind: "nats", url: "nats://127.0.0.1.example" }), refused);
  await (await senderOf({ kind: "https", url: "http://192.0.2.1/x", insecure: true })).close();
  await assert.rejects(senderOf({ kind: "https", url: "https://me:secret@192.0.2.1/x" }), {
    code: "CONFIG_VALUE_INVALID",
  });
});

test("what the server can never take is refused with its reason, and the batches behind it go on", async (t) => {
  const rig = await serveHttp(t);
  const sender = await open(t, { url: `http://127.0.0.1:${rig.port}`, shape: "event" });
  rig.answer = (response, _, count) =>
    response.writeHead(count === 2 ? 422 : 201).end(count === 2 ? "no\u0007 such device" : "");
  assert.deepEqual(await sender.send(LIVE, [batchOf(1), batchOf(2)], never), {
    durable: 2,
    refused: [{ sequence: 1, reason: `message 1: POST 127.0.0.1:${rig.port} answered 422: no such device` }],
  });
  assert.equal(rig.got.length, 4);
});

test("a batch that nobody can read is refused, and blocks nothing", async (t) => {
  const rig = await serveHttp(t);
  const sender = await open(t, { url: `http://127.0.0.1:${rig.port}` });
  const broken = { ...batchOf(1), blocks: Buffer.from("no columns") };
  const { durable, refused } = await sender.send(LIVE, [broken, batchOf(2)], never);
  assert.equal(durable, 2);
  assert.match(refused[0].reason, /cannot be read/);
  assert.equal(rig.got.length, 1);
});

test("who asks, a wrong address and a busy server are no fault of the batch: it is tried again, when the server says so", async (t) => {
  const rig = await serveHttp(t);
  const sender = await open(t, { url: `http://127.0.0.1:${rig.port}` });
  for (const [status, headers, retryAfterS] of [
    [401, {}, undefined],
    [404, {}, undefined],
    [301, { Location: "/there" }, undefined],
    [500, {}, undefined],
    [503, { "Retry-After": "7" }, 7],
    [429, { "Retry-After": "100000" }, 3_600],
    [429, { "Retry-After": "Tue, 24 Nov 2037 12:00:30 GMT", Date: "Tue, 24 Nov 2037 12:00:00 GMT" }, 30],
    [429, { "Retry-After": "soon" }, undefined],
  ] as const) {
    rig.answer = (response) => response.writeHead(status, headers).end();
    const failure = await failureOf(sender.send(LIVE, [batchOf(1)], never));
    assert.deepEqual([failure.code, failure.retryAfterS], ["UNAVAILABLE", retryAfterS], `${status}`);
    assert.match(failure.message, new RegExp(`answered ${status}`));
  }
});

test("after a failure in the middle, what is durable is told, the failure comes next, and nothing is sent again that arrived", async (t) => {
  const rig = await serveHttp(t);
  const sender = await open(t, { url: `http://127.0.0.1:${rig.port}`, shape: "event" });
  rig.answer = (response, _, count) => response.writeHead(count === 4 ? 503 : 204, { "Retry-After": "3" }).end();
  const batches = [batchOf(1), batchOf(2)];
  assert.deepEqual(await sender.send(LIVE, batches, never), { durable: 1, refused: [] });
  assert.equal((await failureOf(sender.send(LIVE, batches.slice(1), never))).retryAfterS, 3);
  assert.equal(rig.got.length, 4);
  assert.deepEqual(await sender.send(LIVE, batches.slice(1), never), { durable: 2, refused: [] });
  assert.deepEqual(
    rig.got.map(({ headers }) => headers["idempotency-key"]),
    ["1.0", "1.1", "2.0", "2.1", "2.1"].map((id) => `"node-1.there.normal.5.${id}"`),
  );
});

test("a server that accepts and never answers, breaks off, or speaks something else, is one that is not there", async (t) => {
  const rig = await serveHttp(t);
  const sender = await open(t, { url: `http://127.0.0.1:${rig.port}`, timeoutMs: 300 });
  const fails = async (answer: Answer, words: RegExp) => {
    rig.answer = answer;
    const failure = await failureOf(sender.send(LIVE, [batchOf(1)], never));
    assert.equal(failure.code, "UNAVAILABLE");
    assert.match(failure.message, words);
  };
  await fails(() => undefined, /no answer within 300 ms/);
  await fails((_, request) => request.socket.destroy(), /socket hang up|ECONNRESET/);
  await fails((response) => {
    response.writeHead(200, { "Content-Length": 100 }).write("half");
    setImmediate(() => response.socket?.destroy());
  }, /cut off|aborted/);
  await fails((_, request) => request.socket.end("garbage\r\n\r\n"), /Parse Error/);
  await fails((response) => response.writeHead(200).end(Buffer.alloc(100_000)), /an answer of over 65536 bytes/);
  rig.answer = (response) => response.writeHead(200).end();
  assert.equal((await sender.send(LIVE, [batchOf(1)], never)).durable, 1);
});

test("a server that takes the connection and says nothing of TLS, or is not there at all, costs the timeout at the most", async (t) => {
  const silent = createTcp((socket) => socket.on("error", () => undefined));
  silent.listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  t.after(() => silent.close());
  const sender = await open(t, { url: `https://127.0.0.1:${port}`, timeoutMs: 200 });
  assert.match((await failureOf(sender.send(LIVE, [batchOf(1)], never))).message, /no connection within 200 ms/);
  silent.close();
  assert.match((await failureOf(sender.send(LIVE, [batchOf(1)], never))).message, /ECONNREFUSED|no connection/);
});

test("a send that is not wanted any more ends at once", async (t) => {
  const rig = await serveHttp(t);
  const sender = await open(t, { url: `http://127.0.0.1:${rig.port}` });
  const stop = new AbortController();
  rig.answer = () => stop.abort();
  await assert.rejects(sender.send(LIVE, [batchOf(1)], stop.signal));
});

test("the way that is taken decides from which of the own addresses, and where to", async (t) => {
  const rig = await serveHttp(t);
  const sender = await open(
    t,
    { url: "http://127.0.0.1:9" },
    { url: `http://127.0.0.1:${rig.port}`, localAddress: "127.0.0.2" },
  );
  await sender.send(LIVE, [batchOf(1)], never);
  assert.deepEqual(
    [...rig.sockets].map(({ remoteAddress }) => remoteAddress),
    ["127.0.0.2"],
  );
});
