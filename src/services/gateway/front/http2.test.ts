/** HTTP/2 at the door: requests and answers, as those of HTTP/1.1. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type ClientHttp2Session, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2";
import { after, before, test } from "node:test";
import { frame, FrameClient, PING } from "../../../../test/houses/frames.ts";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";

let house: GatewayHouse;
let token = "";
let session: ClientHttp2Session;

before(async () => {
  house = await startGateway({ requestTimeoutMs: 700, bodyBytesMax: 100_000, keepAliveMs: 1_000 });
  await house.echo();
  token = await house.token();
  session = connect(`https://localhost:${house.port}`, { ca: house.caPem });
  await once(session, "connect");
});
after(async () => {
  session.destroy();
  await house.stop();
});

async function ask(fields: OutgoingHttpHeaders, body?: string | Buffer) {
  const stream = session.request({ authorization: `Bearer ${token}`, ...fields }, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  const [answer] = (await once(stream, "response")) as [IncomingHttpHeaders & { ":status": number }];
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return { status: answer[":status"], headers: answer, text, json: () => JSON.parse(text) as Record<string, unknown> };
}

test("a request over HTTP/2 is answered as one over HTTP/1.1 is, on the same port", async () => {
  const answer = await ask({ ":path": "/echo/api/v3/say/hello?times=2" });
  assert.deepEqual([answer.status, answer.json()["words"]], [200, "hellohello"]);
  assert.equal(answer.json()["requestId"], answer.headers["x-request-id"]);
  assert.equal(answer.json()["subject"], "a admin");
  for (const name of ["connection", "transfer-encoding", "keep-alive"]) assert.equal(answer.headers[name], undefined);
  const old = await RawClient.open(house);
  assert.equal((await old.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").answer()).status, 200);
  old.socket.destroy();
  assert.equal((await ask({ ":path": "/echo/api/v3/say/x", ":method": "HEAD" })).text, "");
  assert.equal((await ask({ ":path": "/none" })).status, 404);
});

test("a hundred requests share one connection; a body of any framing goes on whole, a large answer comes whole", async () => {
  const words = Array.from({ length: 100 }, (_, i) => `w${i}`);
  const answers = await Promise.all(words.map((word) => ask({ ":path": `/echo/api/v3/say/${word}` })));
  assert.deepEqual(
    answers.map((a) => a.json()["words"]),
    words,
  );
  const body = JSON.stringify({ text: "x".repeat(90_000) });
  const post = { ":path": "/echo/api/v3/write", ":method": "POST", "content-type": "application/json" };
  for (const length of [{}, { "content-length": body.length }])
    assert.deepEqual((await ask({ ...post, ...length }, body)).json()["length"], 90_000);
  assert.equal(
    ((await ask({ ":path": "/echo/api/v3/say/0123456789?times=200000" })).json()["words"] as string).length,
    2_000_000,
  );
});

test("too large, too slow and forged requests are refused over HTTP/2 with the codes they have over HTTP/1.1", async () => {
  const post = { ":path": "/echo/api/v3/write", ":method": "POST", "content-type": "application/json" };
  const large = await ask(post, Buffer.alloc(120_000, 32));
  assert.deepEqual([large.status, large.json()["code"]], [413, "INPUT_TOO_LARGE"]);
  const slow = session.request({ ...post, authorization: `Bearer ${token}` });
  slow.write('{"text":');
  const [answer] = (await once(slow, "response")) as [{ ":status": number }];
  assert.equal(answer[":status"], 408);
  slow.destroy();
  // RFC 9113 8.3.1: Host beside :authority says the same, or the request is ambiguous.
  assert.equal((await ask({ ":path": "/healthz", ":authority": "a", host: "a" })).status, 200);
  assert.equal((await ask({ ":path": "/healthz", ":authority": "a", host: "b" })).status, 400);
  assert.equal((await ask({ ":path": "/echo/%2e%2e/x" })).status, 400);
  assert.equal((await ask({ ":path": "/healthz" }, "body")).status, 400);
  const many = Object.fromEntries(Array.from({ length: 98 }, (_, i) => [`x-${i}`, "a"]));
  assert.equal((await ask({ ":path": "/healthz", ...many })).status, 200);
  assert.equal((await ask({ ":path": "/healthz" })).status, 200, "the connection goes on");
});

test("a connection without a request is closed after its time, whatever pings it sends", async () => {
  const client = await FrameClient.open(house);
  const ping = setInterval(() => client.send(frame(PING, 0, 0, Buffer.alloc(8))), 200);
  const seen = await client.until(/^CLOSED$/);
  clearInterval(ping);
  assert.ok(seen.includes("GOAWAY(0)"));
});

test("a stop lets the requests of a connection end, and closes it", async () => {
  const other = await startGateway();
  try {
    await other.echo();
    const bearer = await other.token();
    const client = connect(`https://localhost:${other.port}`, { ca: other.caPem });
    await once(client, "connect");
    const stream = client.request({ ":path": "/echo/api/v3/rest/200", authorization: `Bearer ${bearer}` });
    const answered = once(stream, "response");
    const closed = once(client, "close");
    await new Promise((resolve) => client.ping(resolve));
    const stopping = other.gateway.stop();
    const [answer] = (await answered) as [{ ":status": number }];
    assert.equal(answer[":status"], 200);
    stream.resume();
    await Promise.all([closed, stopping]);
  } finally {
    await other.stop();
  }
});
