/** What the gateway answers by itself: files, fixed answers, other addresses, closed for a while; and how much may come. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { brotliDecompressSync } from "node:zlib";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { ROUTES_MESSAGE } from "../routes.api.ts";
import { Concurrency } from "../shape/concurrency.ts";
import { floorOf } from "../shape/shedder.ts";
import { judge, readRange } from "./conditions.ts";
import { encodingOf } from "./encoding.ts";

let house: GatewayHouse;
const page = `<!doctype html><title>x</title>${"<p>hello</p>".repeat(100)}`;
const large = Buffer.alloc(300_000, "0123456789");

const routes = (more: object = {}) =>
  house.house.tell("gateway", ROUTES_MESSAGE, {
    file: "routes.yaml",
    value: {
      routes: [
        { name: "web", match: { path: "/web/**", methods: ["GET"] }, access: "public", files: { directory: "web" } },
        {
          name: "hello",
          match: { path: "/hello/{who}" },
          access: "public",
          respond: { status: 203, headers: { "X-Own": "yes" }, json: { hello: true } },
        },
        { name: "old", match: { path: "/old/**" }, access: "public", redirect: { to: "/web/**", status: 301 } },
        {
          name: "few",
          match: { path: "/few" },
          access: "public",
          limits: [{ per: "route", requestsPerS: 0.1, burst: 2 }],
          respond: { text: "few" },
        },
        {
          name: "short",
          match: { path: "/short", methods: ["POST"] },
          access: "public",
          bodyBytesMax: 5,
          respond: { text: "taken" },
        },
      ],
      ...more,
    },
  });

before(async () => {
  house = await startGateway();
  const directory = join(house.directoryOf("gateway"), "files", "web");
  mkdirSync(join(directory, "sub"), { recursive: true });
  writeFileSync(join(directory, "index.html"), page);
  writeFileSync(join(directory, "large.bin"), large);
  writeFileSync(join(directory, ".hidden"), "secret");
  writeFileSync(join(directory, "..", "outside.txt"), "secret");
  symlinkSync("../outside.txt", join(directory, "link.txt"));
  utimesSync(join(directory, "index.html"), 1_700_000_000, 1_700_000_000);
  routes();
});
after(() => house.stop());

async function ask(path: string, headers = "", method = "GET", body = "") {
  const client = await RawClient.open(house);
  const answer = await client.send(`${method} ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n${body}`).answer();
  client.socket.destroy();
  return answer;
}

test("a file comes with its type, its ETag and what it may load, and compressed to who takes that", async () => {
  const plain = await ask("/web/");
  assert.deepEqual([plain.status, plain.body, plain.headers["content-type"]], [200, page, "text/html; charset=utf-8"]);
  assert.match(plain.headers["content-security-policy"] ?? "", /default-src 'self'/);
  assert.equal(plain.headers["x-content-type-options"], "nosniff");
  assert.equal(plain.headers["last-modified"], "Tue, 14 Nov 2023 22:13:20 GMT");
  const small = await ask("/web/index.html", "Accept-Encoding: gzip;q=0.5, br\r\n");
  assert.deepEqual([small.headers["content-encoding"], small.headers["vary"]], ["br", "Accept-Encoding"]);
  assert.equal(brotliDecompressSync(Buffer.from(small.body, "latin1")).toString(), page);
  assert.notEqual(small.headers["etag"], plain.headers["etag"]);
  const head = await RawClient.open(house);
  const text = await head.send("HEAD /web/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").end();
  assert.match(text, new RegExp(`content-length: ${page.length}\r\n`, "i"));
  assert.ok(text.endsWith("\r\n\r\n"));
  const again = await ask("/web/", `If-None-Match: ${plain.headers["etag"]}\r\n`);
  assert.deepEqual([again.status, again.headers["etag"]], [304, plain.headers["etag"]]);
  assert.equal((await ask("/web/", 'If-Match: "other"\r\n')).status, 412);
});

test("a large file is streamed, and a range of it is given or refused", async () => {
  assert.equal((await ask("/web/large.bin")).body.length, large.length);
  const part = await ask("/web/large.bin", "Range: bytes=10-19\r\n");
  assert.deepEqual([part.status, part.body, part.headers["content-range"]], [206, "0123456789", "bytes 10-19/300000"]);
  assert.equal((await ask("/web/large.bin", "Range: bytes=-3\r\n")).body, "789");
  const outside = await ask("/web/large.bin", "Range: bytes=300000-\r\n");
  assert.deepEqual([outside.status, outside.headers["content-range"]], [416, "bytes */300000"]);
});

test("what is hidden, outside, a directory or not there is 404", async () => {
  for (const path of ["/web/.hidden", "/web/link.txt", "/web/sub", "/web/none", "/web/a%2fb", "/web/..%2foutside.txt"])
    assert.ok([400, 404].includes((await ask(path)).status), path);
});

test("a fixed answer, a redirect and a maintenance are answered without anybody behind", async () => {
  const hello = await ask("/hello/you");
  assert.deepEqual([hello.status, hello.body, hello.headers["x-own"]], [203, '{"hello":true}', "yes"]);
  const moved = await ask("/old/a%20b/c?d=e");
  assert.deepEqual([moved.status, moved.headers["location"]], [301, "/web/a%20b/c?d=e"]);
  routes({ maintenance: { message: "new disks", retryAfterS: 30 } });
  const closed = await ask("/hello/you");
  assert.deepEqual([closed.status, closed.headers["retry-after"]], [503, "30"]);
  assert.match(closed.body, /GATEWAY_MAINTENANCE.*|new disks/);
  assert.equal((await ask("/healthz")).status, 200);
  routes();
  assert.equal((await ask("/hello/you")).status, 203);
});

test("a route's own limits count, are told, and end with 429; its own largest body with 413", async () => {
  assert.match((await ask("/few")).headers["ratelimit"] ?? "", /^"route";r=1;t=\d+$/);
  await ask("/few");
  const refused = await ask("/few");
  assert.deepEqual([refused.status, refused.headers["retry-after"]], [429, "10"]);
  assert.equal((await ask("/short", "Content-Length: 5\r\n", "POST", "12345")).status, 200);
  assert.equal((await ask("/short", "Content-Length: 6\r\n", "POST", "123456")).status, 413);
});

test("conditions are judged in the order of RFC 9110 13.2.2, with the ETag before the time", () => {
  const it = { etag: '"a"', modifiedMs: Date.parse("2024-01-01T00:00:00.700Z") };
  const then = "Mon, 01 Jan 2024 00:00:00 GMT";
  assert.equal(judge({ ifNoneMatch: 'W/"a", "b"' }, it), "not-modified");
  assert.equal(judge({ ifNoneMatch: '"b"', ifModifiedSince: then }, it), "go-on");
  assert.equal(judge({ ifModifiedSince: then }, it), "not-modified");
  assert.equal(judge({ ifModifiedSince: "yesterday" }, it), "go-on");
  assert.equal(judge({ ifMatch: 'W/"a"' }, it), "failed");
  assert.equal(judge({ ifMatch: "*", ifUnmodifiedSince: "Mon, 01 Jan 2001 00:00:00 GMT" }, it), "go-on");
  assert.equal(judge({ ifUnmodifiedSince: "Mon, 01 Jan 2001 00:00:00 GMT" }, it), "failed");
  assert.deepEqual(readRange("bytes=5-", undefined, 10, it), { from: 5, to: 9 });
  assert.deepEqual(readRange("bytes=-50", undefined, 10, it), { from: 0, to: 9 });
  assert.equal(readRange("bytes=5-4", undefined, 10, it), undefined);
  assert.equal(readRange("bytes=0-1,3-4", undefined, 10, it), undefined);
  assert.equal(readRange("bytes=0-1", 'W/"a"', 10, it), undefined);
  assert.equal(readRange("bytes=-0", undefined, 10, it), "refused");
  assert.deepEqual(["gzip", "gzip, br;q=0.1", "br;q=0", "*", "identity", "gzip;q=2", undefined].map(encodingOf), [
    "gzip",
    "gzip",
    "identity",
    "br",
    "identity",
    "identity",
    "identity",
  ]);
});

test("a concurrency falls where requests take longer than usual, and grows where they do not", () => {
  let nowMs = 0;
  const clock = { monotonicMs: () => nowMs, wallMs: () => 0, wallNs: () => 0n };
  const concurrency = new Concurrency({ runningMin: 2, runningMax: 100, tolerance: 1.5 }, clock);
  const crowd = (tookMs: number) => {
    let entered = 0;
    while (concurrency.enter()) entered++;
    nowMs += 100;
    for (let i = 0; i < entered; i++) concurrency.leave(tookMs);
  };
  for (let i = 0; i < 100; i++) crowd(10);
  assert.equal(concurrency.limit, 100);
  for (let i = 0; i < 20; i++) crowd(40);
  assert.ok(concurrency.limit < 30, String(concurrency.limit));
  assert.equal(concurrency.running, 0);
  assert.deepEqual([floorOf(0, 0.1), floorOf(200, 0.1), floorOf(0, 0.85), floorOf(500, 0)], [0, 1, 1, 2]);
});
