import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { Agent, createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Type } from "typebox";
import { makeCall } from "./call.ts";
import { connect } from "./connect.ts";
import { contract, get, stream } from "./contract.ts";
import { CBOR_TYPE, encodeBody, encodeFrame, FRAMES_TYPE } from "./wire.ts";

const BYTES_MAX = 1_000;
const WAIT_MS = 2_000;

const talker = contract("talker", {
  say: get("/say/:length", {
    input: { length: Type.Integer() },
    output: Type.Object({ text: Type.String() }),
    answerBytesMax: BYTES_MAX,
  }),
  refuse: get("/refuse", { input: {}, output: Type.Object({}) }),
  murmur: stream("/murmur", { input: {}, output: Type.Integer() }),
});

/** Streams that clients hold open. */
const held = new Set<ServerResponse>();
let asked = 0;
const server = createServer((request, response) => {
  asked++;
  const url = request.url ?? "";
  if (url === "/refuse") response.writeHead(418).end("x".repeat(1_000_000));
  else if (url === "/murmur") {
    held.add(response);
    response.once("close", () => held.delete(response));
    response.writeHead(200, { "content-type": FRAMES_TYPE });
    response.write(encodeFrame(1));
  } else {
    response.writeHead(200, { "content-type": CBOR_TYPE });
    response.end(encodeBody({ text: "x".repeat(Number(url.split("/").at(-1))) }, CBOR_TYPE));
  }
});
await once(server.listen(0, "127.0.0.1"), "listening");
const agent = new Agent({ keepAlive: true });
after(() => {
  agent.destroy();
  server.closeAllConnections();
  server.close();
});
const { port } = server.address() as AddressInfo;
const client = connect(talker, {
  resolver: { pick: () => ({ host: "127.0.0.1", port, agent, secure: false }), failed: () => undefined },
});
const call = (signal?: AbortSignal) =>
  makeCall({ caller: "test", timeoutMs: WAIT_MS, ...(signal === undefined ? {} : { signal }) });

test("an answer may be as long as its operation says, and what is longer is refused with the limit", async () => {
  assert.equal((await client.say({ length: 900 }, call())).text.length, 900);
  for (const length of [BYTES_MAX, 10_000_000])
    await assert.rejects(client.say({ length }, call()), {
      code: "ANSWER_TOO_LARGE",
      message: /talker answered GET \/say\/:length with more than 1000 bytes/,
    });
  // The next call is none the worse for it.
  assert.equal((await client.say({ length: 1 }, call())).text, "x");
});

test("of a failure that is too long to be one the status is told", async () => {
  await assert.rejects(client.refuse({}, call()), { code: "HTTP_418" });
});

test("a call that is over before it begins does not wait, and holds no stream open", async () => {
  const over = AbortSignal.abort();
  await assert.rejects(client.say({ length: 1 }, call(over)), { code: "DEADLINE" });
  await assert.rejects(client.murmur({}, call(over))[Symbol.asyncIterator]().next(), { code: "DEADLINE" });
  assert.equal(held.size, 0);
});

test("a call that ends between a stream's head and its first item lets go of the stream", async () => {
  const ended = new AbortController();
  const before = asked;
  // The queue of microtasks puts this before whatever waits for the answer's head.
  const onHead = () => queueMicrotask(() => ended.abort());
  subscribe("http.client.response.finish", onHead);
  try {
    const items: number[] = [];
    const read = (async () => {
      for await (const item of client.murmur({}, call(ended.signal))) items.push(item);
      return "ended";
    })();
    assert.equal(await Promise.race([read, sleep(WAIT_MS, "still open", { ref: false })]), "ended");
    assert.deepEqual(items, []);
    assert.equal(asked, before + 1);
  } finally {
    unsubscribe("http.client.response.finish", onHead);
  }
});
