/** Whom what is kept is given to, and whom never: poisoning, deception, changes meanwhile; and what comes before an answer. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { after, before, beforeEach, test } from "node:test";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { asker, type Origin, startOrigin } from "../../../../test/houses/origin.ts";
import { checkRoutes } from "../routes.api.ts";

let house: GatewayHouse;
let origin: Origin;
let client: ReturnType<typeof asker>;
let number = 0;
let path = "";

const access = "public";
const cache = {};
const rules = () => {
  const to = [{ upstream: "origin" }];
  return {
    upstreams: { origin: { urls: [origin.url] } },
    routes: [
      { name: "kept", match: { path: "/kept/**" }, access, errors: "pass", to, cache, authorization: "pass" },
      { name: "said", match: { path: "/said/**" }, access, to, cache: { freshMs: 60_000 } },
      {
        name: "theirs",
        match: { path: "/kept/both", headers: { "X-Api": "2" } },
        access: { scope: "node:read" },
        to,
        cache: { per: "everyone" },
      },
    ],
  };
};

before(async () => {
  house = await startGateway({ addressRequestsPerS: 1_000_000, addressBurst: 1_000_000 });
  origin = await startOrigin();
  client = asker(house);
  house.routes(rules());
});
after(async () => {
  client.close();
  await origin.stop();
  await house.stop();
});
beforeEach(() => {
  path = `/kept/${++number}`;
  origin.asked.length = 0;
  origin.answer = { headers: { "Cache-Control": "max-age=60" } };
});

const get = (at = path, headers: Record<string, string> = {}) => client.ask("GET", at, { headers });
const times = () => origin.asked.length;

test("RFC 9110 9.3.3: an answer to POST stands for GET where it says how long, and that it is that", async () => {
  const post = (headers: Record<string, string>) => {
    origin.answer = { headers, body: "posted" };
    return client.ask("POST", path, { body: "x" });
  };
  const posted = await post({ "Cache-Control": "max-age=60", "Content-Location": path });
  assert.match(String(posted.headers["cache-status"]), /fwd=method; fwd-status=200; stored/);
  assert.equal((await get()).body, "posted");
  assert.equal(times(), 1);
  const others: Record<string, string>[] = [
    { "Cache-Control": "max-age=60" },
    { "Content-Location": path },
    { "Cache-Control": "max-age=60", "Content-Location": `${path}/other` },
    { "Cache-Control": "max-age=60", "Content-Location": `https://elsewhere.example${path}` },
  ];
  for (const headers of others) {
    await post(headers);
    origin.answer = { body: "got" };
    assert.equal((await get()).body, "got", JSON.stringify(headers));
  }
});

test("RFC 9111 4.3.2: what does not say when it changed is as old as its Date", async () => {
  const date = new Date().toUTCString();
  origin.answer = { headers: { "Cache-Control": "max-age=60", Date: date } };
  await get();
  assert.equal((await get(path, { "If-Modified-Since": date })).status, 304);
  assert.equal((await get(path, { "If-Modified-Since": new Date(Date.now() - 60_000).toUTCString() })).status, 200);
  assert.equal(times(), 1);
});

test("RFC 9111 3.5: a public route may pass the client's own Authorization; what it brings is for others only where it says so", async () => {
  const ask = () => get(path, { Authorization: "Basic YTpi" });
  await ask();
  assert.equal(origin.asked[0].headers["authorization"], "Basic YTpi");
  await get();
  assert.equal(times(), 2);
  origin.answer = { headers: { "Cache-Control": "public, max-age=60" } };
  path = `${path}/public`;
  await ask();
  await get();
  assert.equal(times(), 3);
  await get("/said/ends", { Authorization: "Basic YTpi" });
  assert.equal(origin.asked.at(-1)?.headers["authorization"], undefined);
  const { upstreams, routes } = rules();
  for (const change of [{ access: { scope: "node:read" } }, { to: [{ upstream: "core-data" }] }])
    assert.throws(() => checkRoutes({ upstreams, routes: [{ ...routes[0], ...change }] }, "x"), /authorization: pass/);
});

test("a body in a GET, a cookie, and a header that some software obeys poison nothing", async () => {
  origin.answer = { headers: { "Cache-Control": "max-age=60" }, body: "evil" };
  assert.equal((await client.ask("GET", path, { body: "who=evil" })).status, 400, "RFC 9110 9.3.1");
  origin.answer = { headers: { "Cache-Control": "max-age=60" }, body: "good" };
  assert.equal((await get()).body, "good");
  origin.answer = { body: "a person's" };
  await get("/said/person", { Cookie: "session=1" });
  origin.answer = { body: "everyone's" };
  assert.equal((await get("/said/person")).body, "everyone's", "what says nothing of keeping it may be a person's");
  const forged = [
    "X-Forwarded-Host",
    "X-Forwarded-Scheme",
    "X-Forwarded",
    "Forwarded",
    "X-Host",
    "X-Original-Host",
    "X-HTTP-Host-Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
  ];
  await get(`${path}/forged`, Object.fromEntries(forged.map((name) => [name, "evil.example"])));
  assert.ok(!JSON.stringify(origin.asked.at(-1)?.headers).includes("evil.example"));
});

test("what looks like a picture is kept no longer than a page, and another spelling is another answer", async () => {
  origin.answer = { body: "my account" };
  for (const at of [`${path}/me`, `${path}/me/a.css`, `${path}/me;a.png`, `${path}/me%3Fa.js`, `${path}/me%0A.css`]) {
    await get(at);
    await get(at);
  }
  // The last is refused at the door; each of the others was asked for each time.
  assert.equal(times(), 8);
  origin.answer = { headers: { "Cache-Control": "max-age=60" } };
  const spellings = [
    `${path}/a?x=1&y=2`,
    `${path}/a?y=2&x=1`,
    `${path}/a?x=1&y=2&`,
    `${path}/a;?x=1&y=2`,
    `${path}/A?x=1&y=2`,
  ];
  const bodies = new Set<string>();
  for (const at of spellings) bodies.add((await get(at)).body);
  assert.equal(bodies.size, spellings.length);
});

test("what is kept for one route is given to no other, nor to itself when the file says another thing of it", async () => {
  const token = await house.token("admin");
  const theirs = { "X-Api": "2", Authorization: `Bearer ${token}` };
  origin.answer = { headers: { "Cache-Control": "public, max-age=60" }, body: "for who may" };
  await get("/kept/both", theirs);
  assert.match(String((await get("/kept/both", theirs)).headers["cache-status"]), /hit/);
  origin.answer = { headers: { "Cache-Control": "max-age=60" }, body: "for everyone" };
  assert.equal((await get("/kept/both")).body, "for everyone");
  assert.equal((await get("/kept/both", theirs)).body, "for who may");
  house.routes(rules());
  assert.match(String((await get("/kept/both")).headers["cache-status"]), /hit/, "the same file changes nothing");
  const { upstreams, routes } = rules();
  house.routes({ upstreams, routes: [{ ...routes[0], timeoutMs: 4_000 }, ...routes.slice(1)] });
  assert.match(String((await get("/kept/both")).headers["cache-status"]), /fwd=uri-miss/);
  house.routes(rules());
});

test("RFC 9111 4.4: an answer that was asked for before a change, and comes after it, is not kept", async () => {
  const begun = Promise.withResolvers<void>();
  const free = Promise.withResolvers<void>();
  origin.answer = (asked, response) => {
    if (asked.method === "POST") {
      response.end("changed");
      return;
    }
    begun.resolve();
    void free.promise.then(() => response.writeHead(200, { "Cache-Control": "max-age=60" }).end("before"));
  };
  const old = get();
  await begun.promise;
  await client.ask("POST", path, { body: "x" });
  origin.answer = { headers: { "Cache-Control": "max-age=60" }, body: "after" };
  assert.equal((await get()).body, "after", "nobody who comes after the change waits for it");
  free.resolve();
  assert.equal((await old).body, "before");
  assert.equal((await get()).body, "after");
});

test("RFC 9110 15.2, RFC 8297: what comes before an answer goes on, is not kept, and is nothing for HTTP/1.0", async () => {
  origin.answer = (_, response) => {
    response.writeProcessing();
    response.writeEarlyHints({ link: "</a.css>; rel=preload; as=style", "x-mine": "1", "x-holdfast-subject": "root" });
    response.writeHead(200, { "Cache-Control": "max-age=60", "Content-Length": "3" }).end("all");
  };
  const raw = async (version: string) => {
    const each = await RawClient.open(house);
    const text = await each.send(`GET ${path} HTTP/${version}\r\nHost: x\r\nConnection: close\r\n\r\n`).end();
    return [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)]
      .map((match) => match[1])
      .concat(/x-mine: \d/.exec(text)?.[0] ?? "");
  };
  assert.deepEqual(await raw("1.1"), ["102", "103", "200", "x-mine: 1"]);
  assert.deepEqual(await raw("1.1"), ["200", ""], "the kept one has none");
  path = `${path}/old`;
  assert.deepEqual(await raw("1.0"), ["200", ""]);
  const session = connectHttp2(`https://localhost:${house.port}`, { ca: house.caPem });
  const stream = session.request({ ":path": `${path}/2` });
  const told: unknown[] = [];
  stream.on("headers", (headers) => told.push([headers[":status"], headers["link"], headers["x-holdfast-subject"]]));
  await once(stream, "response");
  session.destroy();
  assert.deepEqual(told, [
    [102, undefined, undefined],
    [103, "</a.css>; rel=preload; as=style", undefined],
  ]);
});
