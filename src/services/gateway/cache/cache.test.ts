/** What is kept and given again, clause by clause of RFC 9111, through a real door and a real server behind it. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { after, before, beforeEach, test } from "node:test";
import { type GatewayHouse, startGateway } from "../../../../test/houses/gateway.ts";
import { asker, type Got, type Origin, startOrigin } from "../../../../test/houses/origin.ts";

/** The monotonic clock of the gateway, which can be turned: what is kept ages by it. */
const turned = { aheadMs: 0 };
const clock = {
  monotonicMs: () => performance.now() + turned.aheadMs,
  wallMs: () => Date.now() + turned.aheadMs,
  wallNs: () => BigInt(Date.now()) * 1_000_000n,
};
const AN_HOUR_MS = 3_600_000;
const date = (fromNowMs: number) => new Date(clock.wallMs() + fromNowMs).toUTCString();

let house: GatewayHouse;
let origin: Origin;
let client: ReturnType<typeof asker>;
let number = 0;
let path = "";

before(async () => {
  house = await startGateway({ addressRequestsPerS: 1_000_000, addressBurst: 1_000_000 }, clock);
  origin = await startOrigin({}, clock.wallMs);
  client = asker(house);
  const to = [{ upstream: "origin" }];
  // A clock that is turned looks like an event loop that hangs: these are not shed.
  const priority = "high";
  house.routes({
    upstreams: { origin: { urls: [origin.url] } },
    routes: [
      { name: "kept", match: { path: "/kept/**" }, access: "public", errors: "pass", priority, to, cache: {} },
      {
        name: "masked",
        match: { path: "/masked/**" },
        access: "public",
        priority,
        to,
        cache: { freshMs: 1_000, staleIfErrorMs: AN_HOUR_MS, staleWhileRevalidateMs: 0, spareMs: 60_000 },
      },
      {
        name: "ours",
        match: { path: "/ours/**" },
        access: { scope: "node:read" },
        priority,
        to,
        cache: { freshMs: 60_000 },
      },
      {
        name: "default",
        match: { path: "/default/**" },
        access: "public",
        priority,
        to,
        fallback: { status: 200, json: { value: null, masked: true } },
      },
    ],
  });
});
after(async () => {
  client.close();
  await origin.stop();
  await house.stop();
});
beforeEach(() => {
  number++;
  path = `/kept/${number}`;
  origin.asked.length = 0;
  origin.answer = {};
});

const get = (headers: Readonly<Record<string, string>> = {}, at = path): Promise<Got> =>
  client.ask("GET", at, { headers });
const answers = (headers: Record<string, string | string[]>, more: { status?: number; body?: string } = {}) =>
  (origin.answer = { headers, ...more });

/** Asks twice; the second is from memory (or not). */
async function twice(
  headers: Record<string, string | string[]>,
  kept: boolean,
  more: { status?: number } = {},
  asks = {},
) {
  path = `/kept/${++number}`;
  origin.asked.length = 0;
  answers(headers, more);
  const first = await get(asks);
  const second = await get(asks);
  assert.equal(origin.asked.length, kept ? 1 : 2, `${JSON.stringify(headers)} ${JSON.stringify(asks)}`);
  assert.equal(second.status, first.status);
  if (kept) assert.equal(second.body, first.body);
  return second;
}

test("RFC 9111 4.2.1: what says that it is fresh is given again, with its age", async () => {
  const second = await twice({ "Cache-Control": "max-age=3600" }, true);
  assert.match(String(second.headers["cache-status"]), /^holdfast; hit; ttl=3[56]\d\d$/);
  assert.ok(Number(second.headers["age"]) >= 0);
  assert.equal(second.headers["cache-control"], "max-age=3600");
  await twice({ "Cache-Control": "s-maxage=3600, max-age=1" }, true);
  await twice({ "Cache-Control": "s-maxage=0, max-age=3600" }, false);
  await twice({ Expires: date(AN_HOUR_MS) }, true);
  await twice({ Expires: date(AN_HOUR_MS), "Cache-Control": "max-age=0" }, false);
  await twice({ Expires: date(-AN_HOUR_MS), "Cache-Control": "max-age=3600" }, true);
  for (const status of [203, 301, 302, 404, 410, 500, 599])
    await twice({ "Cache-Control": "max-age=60" }, true, { status });
});

test("RFC 9111 4.2.1: what is malformed makes nothing fresh", async () => {
  for (const bad of [
    "max-age='60'",
    "max-age=6 0",
    "max-age=60.5",
    "max-age=-60",
    "max-age=60s",
    "max-age",
    "max-age = 60",
  ])
    await twice({ "Cache-Control": bad }, false);
  for (const good of [
    'max-age="60"',
    "MAX-AGE=60",
    "max-age=060",
    ", ,max-age=60",
    'a="max-age=0", max-age=60',
    "max-age=99999999999",
  ])
    await twice({ "Cache-Control": good }, true);
  await twice({ "Cache-Control": "max-age=60, max-age=0" }, false);
  for (const bad of [
    "0",
    "tomorrow",
    "Thu, 18 Aug 2050 02:01:18",
    "Thu, 18 Aug 2050 2:01:18 GMT",
    "Thu, 18 Aug 2050 02:01:18 PST",
  ])
    await twice({ Expires: bad }, false);
  await twice({ Expires: "Thursday, 18-Aug-50 02:01:18 GMT" }, true);
  await twice({ Expires: "Thu Aug 18 02:01:18 2050" }, true);
});

test("RFC 9111 4.2.3: the age that an answer has when it comes counts", async () => {
  await twice({ "Cache-Control": "max-age=60", Age: "120" }, false);
  const aged = await twice({ "Cache-Control": "max-age=60", Age: "30" }, true);
  assert.ok(Number(aged.headers["age"]) >= 30);
  await twice({ "Cache-Control": "max-age=60", Date: date(-120_000) }, false);
  await twice({ "Cache-Control": "max-age=60", Age: "many" }, true);
  answers({ "Cache-Control": "max-age=60" });
  await get({}, "/kept/ageing");
  turned.aheadMs += 50_000;
  assert.ok(Number((await get({}, "/kept/ageing")).headers["age"]) >= 50);
  turned.aheadMs += 11_000;
  assert.match(String((await get({}, "/kept/ageing")).headers["cache-status"]), /fwd=stale/);
});

test("RFC 9111 4.2.2: where nothing is said, a tenth of its age, of what may be kept by itself", async () => {
  await twice({}, false);
  await twice({ "Last-Modified": date(-AN_HOUR_MS) }, true);
  await twice({ "Last-Modified": date(-AN_HOUR_MS) }, false, { status: 201 });
  await twice({ "Last-Modified": date(-AN_HOUR_MS), "Cache-Control": "public" }, true, { status: 201 });
  await twice({ "Last-Modified": date(-AN_HOUR_MS), "Set-Cookie": "id=1" }, false);
});

test("RFC 9111 5.2.2: no-store and private are not kept, no-cache is asked about each time", async () => {
  for (const no of ["no-store, max-age=60", "No-StOrE, max-age=60", "private, max-age=60"])
    await twice({ "Cache-Control": no }, false);
  await twice({ "Cache-Control": "must-understand, no-store, max-age=60" }, true);
  for (const said of ["must-understand, max-age=60", "must-understand, no-store, max-age=60"])
    await twice({ "Cache-Control": said }, false, { status: 599 });
  answers({ "Cache-Control": "no-cache, max-age=60", ETag: '"a"' });
  origin.asked.length = 0;
  await get({}, "/kept/no-cache");
  await get({}, "/kept/no-cache");
  assert.deepEqual(
    origin.asked.map((asked) => asked.headers["if-none-match"]),
    [undefined, '"a"'],
  );
  const named = await twice(
    { "Cache-Control": 'no-cache="x-once", private="x-mine", max-age=60', "X-Once": "1", "X-Mine": "2", "X-All": "3" },
    true,
  );
  assert.deepEqual(
    [named.headers["x-once"], named.headers["x-mine"], named.headers["x-all"]],
    [undefined, undefined, "3"],
  );
});

test("RFC 9111 3.1: what belongs to one hop is not kept", async () => {
  const second = await twice(
    {
      "Cache-Control": "max-age=60",
      "Proxy-Authenticate": "Basic",
      "X-Hop": "1",
      Connection: "x-hop, close",
      "X-Kept": "2",
    },
    true,
  );
  assert.deepEqual(
    [second.headers["x-hop"], second.headers["proxy-authenticate"], second.headers["x-kept"]],
    [undefined, undefined, "2"],
  );
});

test("RFC 9111 3.5: an answer to who brings a token is for others only where it says so", async () => {
  const asks = { Authorization: "Basic YTpi" };
  await twice({ "Cache-Control": "max-age=60" }, false, {}, asks);
  for (const said of ["public", "s-maxage=60", "must-revalidate"])
    await twice({ "Cache-Control": `max-age=60, ${said}` }, true, {}, asks);
});

test("RFC 9111 4.1: variants are told apart by what Vary names", async () => {
  origin.answer = (asked, response) => {
    response.writeHead(200, { "Cache-Control": "max-age=60", Vary: "Accept-Language, X-Kind" });
    response.end(`${asked.headers["accept-language"]} ${String(asked.headers["x-kind"])}`);
  };
  const ask = async (language: string, kind: string) =>
    (await get({ "Accept-Language": language, "X-Kind": kind })).body;
  for (const round of [1, 2, 3]) {
    assert.equal(await ask("de, en", "1"), "de, en 1", String(round));
    assert.equal(await ask("fr", "1"), "fr 1");
    assert.equal(await ask("fr", "2"), "fr 2");
  }
  for (const same of ["DE ,en", "en,de", "en;q=1.0, de; q=1"]) assert.equal(await ask(same, "1"), "de, en 1", same);
  assert.equal(origin.asked.length, 3);
  for (const other of ["de, en;q=0.9", "en, de;q=0.9", "de, en, fr"]) assert.equal(await ask(other, "1"), `${other} 1`);
  assert.equal(await ask("en;q=0.90, de", "1"), "de, en;q=0.9 1");
  assert.equal(origin.asked.length, 6);
  assert.match(String((await get({ "X-Kind": "3" })).headers["cache-status"]), /fwd=vary-miss/);
  await twice({ "Cache-Control": "max-age=60", Vary: "*" }, false);
});

test("RFC 9111 4.3: what is stale is asked about with its validators, and freshened by 304", async () => {
  origin.answer = (asked, response) => {
    const same = asked.headers["if-none-match"] === '"v1"';
    response.writeHead(same ? 304 : 200, {
      "Cache-Control": "max-age=10",
      ETag: '"v1"',
      "X-Turn": String(origin.asked.length),
      Date: new Date(clock.wallMs()).toUTCString(),
    });
    response.end(same ? undefined : "the body");
  };
  await get();
  turned.aheadMs += 20_000;
  const renewed = await get();
  assert.deepEqual([renewed.status, renewed.body, renewed.headers["x-turn"]], [200, "the body", "2"]);
  assert.match(String(renewed.headers["cache-status"]), /fwd=stale; fwd-status=304/);
  assert.equal((await get()).headers["x-turn"], "2");
  assert.equal(origin.asked.length, 2, "it is fresh again");
});

test("RFC 9110 13: what the client has is not given again; its conditions are judged here", async () => {
  answers({ "Cache-Control": "max-age=60", ETag: '"v1"', "Last-Modified": date(-AN_HOUR_MS) });
  await get();
  const conditions: Record<string, string>[] = [
    { "If-None-Match": 'W/"v1"' },
    { "If-None-Match": '"x", "v1"' },
    { "If-None-Match": "*" },
    { "If-Modified-Since": date(0) },
  ];
  for (const headers of conditions) {
    const got = await get(headers);
    assert.deepEqual([got.status, got.body, got.headers["etag"]], [304, "", '"v1"'], JSON.stringify(headers));
  }
  assert.equal(
    (await get({ "If-None-Match": '"other"', "If-Modified-Since": date(0) })).status,
    200,
    "13.2.2: the tag goes before the date",
  );
  assert.equal((await get({ "If-Modified-Since": date(-2 * AN_HOUR_MS) })).status, 200);
  assert.equal(origin.asked.length, 1);
});

test("RFC 9110 14: a range of what is kept is cut here", async () => {
  answers({ "Cache-Control": "max-age=60", ETag: '"v1"' }, { body: "0123456789" });
  await get();
  const part = async (range: string, more = {}) => {
    const { status, body, headers } = await get({ Range: range, ...more });
    return [status, body, headers["content-range"]];
  };
  assert.deepEqual(await part("bytes=2-4"), [206, "234", "bytes 2-4/10"]);
  assert.deepEqual(await part("bytes=7-"), [206, "789", "bytes 7-9/10"]);
  assert.deepEqual(await part("bytes=-2"), [206, "89", "bytes 8-9/10"]);
  assert.deepEqual(await part("bytes=20-"), [416, "", "bytes */10"]);
  assert.deepEqual(await part("bytes=2-4", { "If-Range": '"old"' }), [200, "0123456789", undefined]);
  assert.deepEqual(await part("lines=1-2"), [200, "0123456789", undefined]);
  assert.equal(origin.asked.length, 1);
});

test("RFC 9111 5.2.1: a request may want it fresher, take it staler, or from memory alone", async () => {
  const at = path;
  answers({ "Cache-Control": "max-age=60", ETag: '"a"' });
  assert.equal((await get({ "Cache-Control": "only-if-cached" })).status, 504);
  await get();
  turned.aheadMs += 20_000;
  const count = async (directive: string) => {
    const former = origin.asked.length;
    await get({ "Cache-Control": directive }, at);
    return origin.asked.length - former;
  };
  assert.equal(await count("max-age=30"), 0);
  assert.equal(await count("min-fresh=30"), 0);
  assert.equal(await count("only-if-cached"), 0);
  assert.equal(await count("min-fresh=50"), 1);
  turned.aheadMs += 20_000;
  assert.equal(await count("max-age=10"), 1);
  turned.aheadMs += 70_000;
  assert.equal(await count("max-stale=100"), 0);
  assert.equal(await count("max-stale=5"), 1);
  assert.equal(await count("no-cache"), 1);
  assert.equal(
    (await twice({ "Cache-Control": "max-age=60" }, false, {}, { "Cache-Control": "no-store" })).status,
    200,
  );
});

test("RFC 9111 4.4: an unsafe request makes its URL and those that its answer names stale", async () => {
  answers({ "Cache-Control": "max-age=60" });
  const known = async (at: string) => {
    const former = origin.asked.length;
    await get({}, at);
    return origin.asked.length === former;
  };
  for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
    const at = `${path}/${method}`;
    await get({}, at);
    assert.equal(await known(at), true);
    origin.answer = { status: 500, headers: {} };
    await client.ask(method, at, { body: "x" });
    answers({ "Cache-Control": "max-age=60" });
    assert.equal(await known(at), true, "an error changes nothing");
    await client.ask(method, at, { body: "x" });
    assert.equal(await known(at), false, method);
  }
  const [one, two, three] = [`${path}/1`, `${path}/2`, `${path}/3`];
  await Promise.all([get({}, one), get({}, two), get({}, three)]);
  answers({ Location: two, "Content-Location": "https://elsewhere.example/kept/3" }, { status: 201 });
  await client.ask("POST", one, { body: "x" });
  answers({ "Cache-Control": "max-age=60" });
  assert.deepEqual([await known(two), await known(three)], [false, true]);
});

test("RFC 9111 4: HEAD is answered by what GET brought, and tells when that has changed (4.3.5)", async () => {
  answers({ "Cache-Control": "max-age=60", ETag: '"a"' }, { body: "whole" });
  await get();
  const head = await client.ask("HEAD", path);
  assert.deepEqual([head.status, head.body, head.headers["content-length"]], [200, "", "5"]);
  assert.equal(origin.asked.length, 1);
  answers({ "Cache-Control": "max-age=60", ETag: '"b"' }, { body: "other" });
  await client.ask("HEAD", path, { headers: { "Cache-Control": "no-cache" } });
  assert.equal((await get()).body, "other");
});

test("RFC 5861 3: stale while a new one is asked for, which is asked for once", async () => {
  let release = () => undefined as void;
  answers({ "Cache-Control": "max-age=1, stale-while-revalidate=60" }, { body: "old" });
  await get();
  turned.aheadMs += 5_000;
  origin.answer = (_, response) => {
    release = () => {
      response.writeHead(200, { "Cache-Control": "max-age=60" });
      response.end("new");
    };
    house.lines.length = 0;
  };
  const stale = await Promise.all([get(), get(), get()]);
  assert.deepEqual(
    stale.map(({ body }) => body),
    ["old", "old", "old"],
  );
  for (let i = 0; i < 400 && origin.asked.length < 2; i++) await sleep(5);
  release();
  for (let i = 0; i < 200 && (await get()).body !== "new"; i++) await sleep(5);
  assert.equal((await get()).body, "new");
  assert.equal(origin.asked.length, 2);
});

test("RFC 5861 4: stale when the service fails, which is spared; but not what must not be given stale", async () => {
  answers({ "Cache-Control": "max-age=1, stale-if-error=60" }, { body: "old" });
  await get();
  turned.aheadMs += 5_000;
  for (const status of [500, 502, 503, 504]) {
    answers({}, { status });
    turned.aheadMs += 1_100;
    const got = await get();
    assert.deepEqual([got.status, got.body], [200, "old"]);
    assert.match(String(got.headers["cache-status"]), /stale-if-error/);
    const former = origin.asked.length;
    await get();
    assert.equal(origin.asked.length, former, "it failed just now: it is spared");
  }
  const strict = `${path}/strict`;
  answers({ "Cache-Control": "max-age=1, must-revalidate", ETag: '"a"' });
  await get({}, strict);
  turned.aheadMs += 5_000;
  answers({}, { status: 503 });
  assert.equal((await get({ "Cache-Control": "max-stale=100" }, strict)).status, 503);
});

test("a service of an API that says nothing is kept as its route says, and masked when it is away", async () => {
  const at = `/masked/${number}`;
  answers({}, { body: "value" });
  await get({}, at);
  assert.equal((await get({}, at)).body, "value");
  assert.equal(origin.asked.length, 1);
  turned.aheadMs += 5_000;
  origin.answer = (_, response) => response.destroy();
  const masked = await get({}, at);
  assert.deepEqual([masked.status, masked.body], [200, "value"]);
  assert.match(String(masked.headers["cache-status"]), /stale-if-error/);
  assert.ok(Number(masked.headers["age"]) >= 5);
});

test("RFC 9213: what is said to gateways alone goes before what is said to all", async () => {
  await twice({ "CDN-Cache-Control": "max-age=60", "Cache-Control": "no-store" }, true);
  await twice({ "CDN-Cache-Control": "no-store", "Cache-Control": "max-age=60" }, false);
  await twice({ "CDN-Cache-Control": "max-age=60", Expires: "0" }, true);
  for (const malformed of ["&&;", "max-age=60, &&&", 'max-age="60"', "max-age =60", "max-age= 60", "max-age=6.5"]) {
    await twice({ "CDN-Cache-Control": malformed, "Cache-Control": "max-age=60" }, true);
    await twice({ "CDN-Cache-Control": malformed, "Cache-Control": "no-store" }, false);
  }
});

test("a crowd that asks for the same waits for one request", async () => {
  origin.answer = (_, response) => {
    setTimeout(() => {
      response.writeHead(200, { "Cache-Control": "max-age=60" });
      response.end("once");
    }, 50);
  };
  const crowd = await Promise.all(Array.from({ length: 20 }, () => get()));
  assert.deepEqual(new Set(crowd.map(({ body }) => body)), new Set(["once"]));
  assert.equal(origin.asked.length, 1);
  assert.ok(crowd.some(({ headers }) => /collapsed/.test(String(headers["cache-status"]))));
});

test("what breaks off or is too large passes and is not kept", async () => {
  origin.answer = (_, response) => {
    response.writeHead(200, { "Cache-Control": "max-age=60", "Content-Length": "10" });
    response.write("12345");
    setTimeout(() => response.destroy(), 20);
  };
  await assert.rejects(get());
  answers({ "Cache-Control": "max-age=60" }, { body: "x".repeat(1_100_000) });
  assert.equal((await get()).body.length, 1_100_000);
  assert.equal((await get()).body.length, 1_100_000);
  assert.equal(origin.asked.length, 3);
});

test("each person has their own answers, and nobody those of another", async () => {
  const at = `/ours/${number}`;
  origin.answer = (_, response) => response.end(`secret ${origin.asked.length}`);
  const [one, two] = [await house.token(), await house.token("viewer")];
  const ask = async (token: string) => (await get({ Authorization: `Bearer ${token}` }, at)).body;
  assert.deepEqual(
    [await ask(one), await ask(two), await ask(one), await ask(two)],
    ["secret 1", "secret 2", "secret 1", "secret 2"],
  );
  assert.equal((await get({}, at)).status, 401);
  assert.match(String((await get({ Authorization: `Bearer ${one}` }, at)).headers["cache-control"]), /no-store/);
});

test("no spelling of a path or host leads to what is kept for another", async () => {
  answers({ "Cache-Control": "max-age=60" });
  await get();
  assert.equal(
    (await get({}, path.replace("kept", "ke%70t"))).headers["cache-status"]?.includes("hit"),
    true,
    "one spelling",
  );
  assert.match(String((await get({}, `${path};a.css`)).headers["cache-status"]), /fwd=uri-miss/);
  assert.match(String((await get({ Host: "evil.example" })).headers["cache-status"]), /fwd=uri-miss/);
});

test("a service that fails and has nothing kept is answered for by the route's default, which is said", async () => {
  origin.answer = { status: 503 };
  for (const how of [origin.answer, (_: unknown, response: { destroy(): unknown }) => void response.destroy()]) {
    origin.answer = how;
    const got = await get({}, "/default/x");
    assert.deepEqual([got.status, JSON.parse(got.body)], [200, { value: null, masked: true }]);
    assert.equal(got.headers["cache-status"], "holdfast; detail=default");
    assert.equal(got.headers["cache-control"], "no-store");
  }
});

test("a reload of the routes drops no request, and a file with a fault changes nothing", async () => {
  const begun = Promise.withResolvers<void>();
  origin.answer = (_, response) => {
    begun.resolve();
    setTimeout(() => response.end("slow"), 100);
  };
  const running = get({}, "/default/reload");
  await begun.promise;
  house.routes({ routes: [{ name: "x" }] });
  assert.equal((await running).body, "slow");
  answers({});
  assert.equal((await get({}, "/default/still")).status, 200);
  assert.ok(house.lines.some((line) => /has a fault/.test(String(line["msg"]))));
});
