/** The gateway at work: real identity, registry and services over real TLS. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { after, before, test } from "node:test";
import { makeCall } from "../../kernel/call.ts";
import { systemClock } from "../../kernel/clock.ts";
import { makeLocalHouse } from "../../node/local.ts";
import { makeLog } from "../../kernel/log.ts";
import {
  NODE,
  type Echo,
  type GatewayHouse,
  type RawAnswer,
  RawClient,
  startGateway,
} from "../../../test/houses/gateway.ts";
import { main } from "./main.ts";

/** The wall clock of the gateway and of identity, which can be turned. */
const turned = { aheadMs: 0 };
const clock = { ...systemClock, wallMs: () => systemClock.wallMs() + turned.aheadMs };

let house: GatewayHouse;
let first: Echo;
let token = "";

before(async () => {
  house = await startGateway({ instanceWaitMs: 300, clockSkewMs: 1_000 }, clock);
  first = await house.echo();
  token = await house.token();
});
after(() => house.stop());

interface Asked {
  readonly token?: string | undefined;
  readonly headers?: string;
  readonly body?: string;
}

async function ask(
  method: string,
  path: string,
  { token: bearer = token, headers = "", body }: Asked = {},
): Promise<RawAnswer> {
  const client = await RawClient.open(house);
  const auth = bearer === "" ? "" : `Authorization: Bearer ${bearer}\r\n`;
  const framed =
    body === undefined ? "" : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`;
  const answer = await client
    .send(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${auth}${headers}${framed}\r\n${body ?? ""}`)
    .answer();
  client.socket.destroy();
  return answer;
}

const bodyOf = (answer: RawAnswer) =>
  JSON.parse(Buffer.from(answer.body, "latin1").toString()) as Record<string, unknown>;
const failed = (answer: RawAnswer, status: number, code: string) =>
  assert.deepEqual([answer.status, bodyOf(answer)["code"]], [status, code], answer.text);
const noted = async (requestId: string | undefined) => {
  for (let i = 0; i < 200; i++) {
    const line = house.lines.find((l) => l["service"] === "gateway" && l["requestId"] === requestId);
    if (line) return line;
    await sleep(5);
  }
  return assert.fail(`no line of ${requestId}`);
};

test("a request goes to the service its path names, with the prefix off, the query on, and the person told", async () => {
  const answer = await ask("GET", "/echo/api/v3/say/hello?times=2");
  assert.equal(answer.status, 200);
  assert.deepEqual(
    { ...bodyOf(answer), leftMs: 0 },
    {
      words: "hellohello",
      subject: "a admin",
      requestId: answer.headers["x-request-id"],
      instance: first.instance,
      leftMs: 0,
    },
  );
  assert.ok((bodyOf(answer)["leftMs"] as number) <= 2_000);
});

test("a path's segment is decoded once: an encoded slash is data, and literals go before parameters", async () => {
  const say = async (word: string) => bodyOf(await ask("GET", `/echo/api/v3/say/${word}`))["words"];
  assert.equal(await say("edgex%2Fv4%2Fcore%2Dcommon"), "edgex/v4/core-common");
  assert.equal(await say("100%25"), "100%");
  assert.equal(await say("a%252Fb"), "a%2Fb");
  assert.equal(await say("%E6%B8%A9%E5%BA%A6"), "温度");
  assert.equal(await say("a+b;c=d"), "a+b;c=d");
  assert.deepEqual(bodyOf(await ask("GET", "/echo/api/v3/say/all")), { all: true });
  assert.deepEqual(bodyOf(await ask("GET", "/echo/api/v3/s%61y/al%6c")), { all: true });
});

test("every service answers ping and version, as EdgeX's do", async () => {
  assert.equal(bodyOf(await ask("GET", "/echo/api/v3/ping"))["serviceName"], "echo");
  assert.match(String(bodyOf(await ask("GET", "/echo/api/v3/version"))["version"]), /^4\.1/);
});

test("an unknown path is 404, a wrong method 405 with Allow, an operation that is not public unknown", async () => {
  failed(await ask("GET", "/echo/api/v3/nothing"), 404, "GATEWAY_ROUTE_UNKNOWN");
  failed(await ask("GET", "/nobody/api/v3/ping"), 404, "GATEWAY_ROUTE_UNKNOWN");
  failed(await ask("GET", "/echo/api/v3/secret"), 404, "GATEWAY_ROUTE_UNKNOWN");
  failed(await ask("GET", "/echo//api/v3/say/x"), 404, "GATEWAY_ROUTE_UNKNOWN");
  failed(await ask("GET", "/echo/api/v3/say/"), 404, "GATEWAY_ROUTE_UNKNOWN");
  for (const name of ["__proto__", "constructor", "toString"])
    failed(await ask("GET", `/${name}/api/v3/ping`), 404, "GATEWAY_ROUTE_UNKNOWN");
  const wrong = await ask("DELETE", "/echo/api/v3/say/x");
  failed(wrong, 405, "GATEWAY_METHOD_REFUSED");
  assert.equal(wrong.headers["allow"], "GET, HEAD, OPTIONS");
});

test("HEAD answers what GET would, without the body", async () => {
  const client = await RawClient.open(house);
  client.send(
    `HEAD /echo/api/v3/say/hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`,
  );
  const text = await client.end();
  assert.match(text, /^HTTP\/1\.1 200 /);
  assert.match(text, /content-length: [1-9]/i);
  assert.ok(text.endsWith("\r\n\r\n"));
});

test("a body goes on whole, in one piece or in chunks, and CBOR is answered to who asks for it", async () => {
  const text = "x".repeat(300_000);
  const answer = await ask("POST", "/echo/api/v3/write", { body: JSON.stringify({ text }) });
  assert.deepEqual([answer.status, bodyOf(answer)["length"]], [201, 300_000]);
  const client = await RawClient.open(house);
  client.send(
    `POST /echo/api/v3/write HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\n{"tex\r\n7\r\nt":"ab"\r\n1\r\n}\r\n0\r\nX-Trailer: a\r\n\r\n`,
  );
  assert.equal(bodyOf(await client.answer())["length"], 2);
  client.socket.destroy();
  assert.equal(
    (await ask("GET", "/echo/api/v3/say/x", { headers: "Accept: application/cbor\r\n" })).headers["content-type"],
    "application/cbor",
  );
});

test("a large answer comes whole to a client that reads slowly", async () => {
  const client = await RawClient.open(house);
  client.send(
    `GET /echo/api/v3/say/0123456789?times=400000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n\r\n`,
  );
  client.socket.pause();
  await sleep(100);
  client.socket.resume();
  const text = await client.end();
  assert.match(text, /^HTTP\/1\.1 200 /);
  const [head = "", body = ""] = text.split("\r\n\r\n");
  assert.equal(body.length, Number(/content-length: (\d+)/i.exec(head)?.[1]));
});

test("malformed JSON, a wrong type and an unknown error get the service's own clear error", async () => {
  failed(await ask("POST", "/echo/api/v3/write", { body: '{"text":' }), 400, "INPUT_MALFORMED");
  failed(await ask("POST", "/echo/api/v3/write", { body: '{"text":5}' }), 400, "INPUT_INVALID");
  failed(await ask("GET", "/echo/api/v3/say/x?times=none"), 400, "INPUT_INVALID");
  const known = await ask("GET", "/echo/api/v3/break/known");
  failed(known, 500, "ECHO_FAILED");
  assert.equal(bodyOf(known)["requestId"], known.headers["x-request-id"]);
});

test("a service that is too slow is answered for with 504 when its route's time is over", async () => {
  const startMs = performance.now();
  failed(await ask("PUT", "/echo/api/v3/sleep/2000"), 504, "DEADLINE");
  assert.ok(performance.now() - startMs < 1_000);
});

test("a request gets a new id; a stranger's correlation id is answered, noted and linked, and is not ours", async () => {
  const theirs = "3f0c4b9e-1111-4222-8333-444455556666";
  const answer = await ask("GET", "/echo/api/v3/say/x", {
    headers: `X-Correlation-ID: ${theirs}\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n`,
  });
  assert.equal(answer.headers["x-correlation-id"], theirs);
  assert.notEqual(answer.headers["x-request-id"], theirs);
  const line = await noted(answer.headers["x-request-id"]);
  assert.deepEqual(
    [line["clientCorrelationId"], line["clientTraceId"]],
    [theirs, "0af76519-16cd-43dd-8448-eb211c80319c"],
  );
  const span = house.gateway.tracer.take().find((s) => s.requestId === answer.headers["x-request-id"]);
  assert.equal(span?.operation, "echo say");
  assert.equal(span.link, `${theirs} 0af76519-16cd-43dd-8448-eb211c80319c`);
  const wrong = await ask("GET", "/echo/api/v3/say/x", { headers: "X-Correlation-ID: <script>\r\n" });
  assert.equal(wrong.headers["x-correlation-id"], wrong.headers["x-request-id"]);
});

test("each request is one log line: id, person, service, operation, status, time, bytes; and never the token", async () => {
  const answer = await ask("GET", "/echo/api/v3/say/hello");
  const line = await noted(answer.headers["x-request-id"]);
  assert.deepEqual(
    ["subject", "upstream", "operation", "method", "status", "bytes", "client"].map((k) => line[k]),
    ["a admin", "echo", "say", "GET", 200, answer.body.length, "127.0.0.1"],
  );
  assert.ok((line["ms"] as number) > 0);
  assert.ok(!JSON.stringify(house.lines).includes(token.slice(0, 60)));
});

test("without a token, with another scheme, or with nonsense a request is 401 and told how to come", async () => {
  const missing = await ask("GET", "/echo/api/v3/say/x", { token: "" });
  failed(missing, 401, "GATEWAY_TOKEN_MISSING");
  assert.equal(missing.headers["www-authenticate"], 'Bearer realm="holdfast"');
  const basic = await ask("GET", "/echo/api/v3/say/x", { token: "", headers: "Authorization: Basic YTpi\r\n" });
  failed(basic, 401, "GATEWAY_TOKEN_INVALID");
  assert.match(basic.headers["www-authenticate"] ?? "", /error="invalid_token"/);
});

const b64 = (value: unknown) =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

test("who goes on sending wrong tokens is slowed down, and others' known tokens still pass", async () => {
  assert.equal((await ask("GET", "/echo/api/v3/say/x")).status, 200);
  let limited: RawAnswer | undefined;
  for (let i = 0; i < 30 && !limited; i++) {
    const answer = await ask("GET", "/echo/api/v3/say/x", {
      token: `${b64({ alg: "ES256", kid: "x" })}.${b64({ i })}.${b64("x")}`,
    });
    if (answer.status === 429) limited = answer;
  }
  assert.ok(limited);
  failed(limited, 429, "GATEWAY_TOKENS_GUESSED");
  assert.ok(Number(limited.headers["retry-after"]) >= 1);
  assert.equal((await ask("GET", "/echo/api/v3/say/x")).status, 200, "a token that was believed before");
});

test("its own pages tell whether it lives, what it counted, and what is behind it to who may know", async () => {
  assert.deepEqual(bodyOf(await ask("GET", "/healthz", { token: "" })), { status: "ok" });
  assert.deepEqual(bodyOf(await ask("GET", "/readyz", { token: "" })), { status: "ready" });
  const stranger = bodyOf(await ask("GET", "/", { token: "" }));
  assert.equal(stranger["services"], undefined);
  assert.equal(stranger["version"], undefined);
  const known = bodyOf(await ask("GET", "/")) as { services: Record<string, string[]> };
  assert.ok(known.services["echo"].includes("POST /echo/api/v3/write"));
  failed(await ask("GET", "/metrics", { token: "" }), 401, "GATEWAY_TOKEN_MISSING");
  failed(await ask("POST", "/healthz", { token: "" }), 405, "GATEWAY_METHOD_REFUSED");
  const metrics = await ask("GET", "/metrics");
  assert.match(
    metrics.body,
    /holdfast_gateway_requests_total\{[^}]*,upstream="echo",operation="say",status="200"\} \d+/,
  );
  assert.match(
    metrics.body,
    /holdfast_gateway_request_seconds_bucket\{[^}]*,upstream="echo",operation="say",le="\+Inf"\} \d+/,
  );
  assert.match(
    metrics.body,
    /holdfast_gateway_upstream_connections\{[^}]*,upstream="echo",upstream_instance="echo-1",state="idle"\} [1-9]/,
  );
  const statistics = await house.gateway.service.statistics({}, makeCall({ caller: "node", timeoutMs: 1_000 }));
  assert.ok(
    statistics.routes.some(
      (r) => r.service === "echo" && r.operation === "say" && r.count > 0 && r.p50Us > 0 && r.p99Us >= r.p50Us,
    ),
  );
});

test("a certificate that is renewed is served from the next connection on, still with TLS 1.3 alone", async () => {
  const former = await RawClient.open(house);
  const serial = former.socket.getPeerCertificate().serialNumber;
  const { certPem, keyPem } = await house.papers("gateway");
  house.own.update({ certPem, keyPem });
  const next = await RawClient.open(house);
  assert.notEqual(next.socket.getPeerCertificate().serialNumber, serial);
  assert.match(next.socket.getPeerCertificate().subjectaltname ?? "", /localhost/);
  assert.equal(next.socket.getProtocol(), "TLSv1.3");
  for (const c of [former, next]) {
    assert.equal((await c.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").answer()).status, 200);
    c.socket.destroy();
  }
});

test("two instances share the work; when one is killed no request that only reads fails", async () => {
  const second = await house.echoProcess();
  const who = async () => {
    const answer = await ask("GET", "/echo/api/v3/say/x");
    assert.equal(answer.status, 200, answer.text);
    return bodyOf(answer)["instance"] as string;
  };
  const seen = new Set<string>();
  for (let i = 0; i < 200 && seen.size < 2; i++) seen.add(await who());
  assert.deepEqual([...seen].sort(), [first.instance, second.instance].sort());
  const running = Promise.all(
    Array.from({ length: 8 }, async () => (await ask("GET", "/echo/api/v3/rest/150")).status),
  );
  await sleep(50);
  second.kill("SIGKILL");
  assert.deepEqual(new Set(await running), new Set([200]));
  for (let i = 0; i < 20; i++) assert.equal(await who(), first.instance);
});

test("a service whose last instance is killed is 503 with Retry-After, and back as soon as it is", async () => {
  await first.stop();
  const only = await house.echoProcess();
  while ((await ask("GET", "/echo/api/v3/say/x")).status !== 200) await sleep(20);
  const writing = ask("PUT", "/echo/api/v3/sleep/250");
  await sleep(100);
  only.kill("SIGKILL");
  await once(only, "exit");
  failed(await writing, 503, "UNAVAILABLE");
  const gone = await ask("GET", "/echo/api/v3/say/x");
  failed(gone, 503, "UNAVAILABLE");
  assert.equal(gone.headers["retry-after"], "1");
  assert.doesNotMatch(gone.body, /127\.0\.0\.1/);
  first = await house.echo();
  const back = await ask("GET", "/echo/api/v3/say/x");
  assert.deepEqual([back.status, bodyOf(back)["instance"]], [200, first.instance]);
});

test("a request that comes while a service is being restarted waits for it", async () => {
  await first.stop();
  const waiting = ask("POST", "/echo/api/v3/write", { body: '{"text":"a"}' });
  await sleep(50);
  first = await house.echo();
  const answer = await waiting;
  assert.deepEqual([answer.status, bodyOf(answer)["count"]], [201, 1], answer.text);
});

test("a role may what its scopes hold, an expired token nothing, by the wall clock of the moment", async () => {
  // Wrong tokens of the tests before count against this address for a while.
  const viewer = await house.token("viewer");
  const short = await house.token("admin", 5);
  let answer = await ask("GET", "/echo/api/v3/say/x", { token: viewer });
  for (let i = 0; i < 40 && answer.status === 429; i++) {
    await sleep(100);
    answer = await ask("GET", "/echo/api/v3/say/x", { token: viewer });
  }
  assert.equal(answer.status, 200, answer.text);
  const refusedOne = await ask("POST", "/echo/api/v3/write", { token: viewer, body: '{"text":"a"}' });
  failed(refusedOne, 403, "GATEWAY_SCOPE_MISSING");
  const denied = house.gateway.audit.take().find(({ requestId }) => requestId === refusedOne.headers["x-request-id"]);
  const { action, outcome, who, what, note } = denied!;
  const expected = ["echo write", "denied", "a viewer", "POST /echo/api/v3/write", "GATEWAY_SCOPE_MISSING"];
  assert.deepEqual([action, outcome, who, what, note], expected, "the audit trail has it");
  assert.match(refusedOne.headers["www-authenticate"] ?? "", /insufficient_scope.*command:write/);
  const done = await ask("POST", "/echo/api/v3/write", { body: '{"text":"a"}' });
  await ask("GET", "/echo/api/v3/say/x");
  const deeds = house.gateway.audit.take().filter((deed) => deed.outcome === "done");
  assert.deepEqual(
    deeds.map((deed) => [deed.what, deed.requestId]),
    [["POST /echo/api/v3/write", done.headers["x-request-id"]]],
    "a change is in the trail, what only reads is not",
  );
  assert.equal((await ask("GET", "/echo/api/v3/say/x", { token: short })).status, 200);
  turned.aheadMs = 6_500;
  const expired = await ask("GET", "/echo/api/v3/say/x", { token: short });
  assert.ok([401, 429].includes(expired.status));
  turned.aheadMs = 0;
});

test("more requests than a token, an address or the gateway may have at once are 429 and 503, and told when to come again", async () => {
  const small = await startGateway({
    tokenBurst: 3,
    tokenRequestsPerS: 1,
    addressBurst: 7,
    addressRequestsPerS: 1,
    requestsRunningMax: 2,
    connectionsPerAddressMax: 3,
  });
  try {
    await small.echo();
    const line = (path: string, bearer: string) =>
      `GET ${path} HTTP/1.1\r\nHost: x\r\n${bearer === "" ? "" : `Authorization: Bearer ${bearer}\r\n`}\r\n`;
    const one = await small.token();
    const client = await RawClient.open(small);
    const word = async (bearer = one) => client.send(line("/echo/api/v3/say/a", bearer)).answer();
    for (let left = 2; left >= 0; left--)
      assert.match((await word()).headers["ratelimit"] ?? "", new RegExp(`^"token";r=${left};t=[1-4]$`));
    const limited = await word();
    failed(limited, 429, "GATEWAY_RATE_LIMITED");
    assert.equal(limited.headers["retry-after"], "1");
    assert.equal((await word(await small.token())).status, 200, "another token has its own");
    const crowd = await Promise.all([RawClient.open(small), RawClient.open(small)]);
    const two = await small.token();
    const answers = [client, ...crowd].map((c, i) => {
      c.send(line("/echo/api/v3/rest/1500", two));
      return sleep(i).then(() => c.answer());
    });
    assert.deepEqual(
      (await Promise.all(answers)).map((a) => a.status).sort((a, b) => a - b),
      [200, 200, 503],
    );
    await assert.rejects(RawClient.open(small), "a fourth connection of one address");
    // A few have come free meanwhile.
    let last = await client.send(line("/healthz", "")).answer();
    for (let left = 8; left > 0 && last.status === 200; left--) last = await client.send(line("/healthz", "")).answer();
    failed(last, 429, "GATEWAY_RATE_LIMITED");
    for (const c of [client, ...crowd]) c.socket.destroy();
  } finally {
    await small.stop();
  }
});

test("a stop takes no new connection, lets running requests end, and closes what is idle", async () => {
  const idle = await RawClient.open(house);
  const running = ask("GET", "/echo/api/v3/rest/200");
  await sleep(50);
  const startMs = performance.now();
  const stopping = house.gateway.stop();
  await sleep(20);
  await assert.rejects(RawClient.open(house));
  const answer = await running;
  assert.deepEqual([answer.status, answer.headers["connection"]], [200, "close"]);
  await stopping;
  await idle.end();
  assert.ok(performance.now() - startMs < 2_000);
});

test("without a certificate the gateway does not start, and says why", async () => {
  const bare = makeLocalHouse({
    node: NODE,
    directory: "/tmp",
    version: "0",
    log: makeLog("x", { to: { write: () => {} } }),
    dataKey: async () => Buffer.alloc(32),
  });
  await assert.rejects(bare.start(main), /the gateway has no certificate/);
});
