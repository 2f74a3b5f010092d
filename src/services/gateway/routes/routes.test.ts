/** The routes file: what it takes and refuses, and which request goes where. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { makeCall } from "../../../kernel/call.ts";
import { Failure } from "../../../kernel/error.ts";
import { type GatewayHouse, startGateway } from "../../../../test/houses/gateway.ts";
import { asker, type Got, type Origin, startOrigin } from "../../../../test/houses/origin.ts";
import { checkRoutes } from "../routes.api.ts";

let house: GatewayHouse;
let one: Origin;
let two: Origin;
let client: ReturnType<typeof asker>;

before(async () => {
  house = await startGateway({ addressRequestsPerS: 1_000_000, addressBurst: 1_000_000 });
  [one, two] = await Promise.all([startOrigin(), startOrigin()]);
  client = asker(house);
});
after(async () => {
  client.close();
  await Promise.all([one.stop(), two.stop()]);
  await house.stop();
});
beforeEach(() => {
  for (const [name, origin] of [
    ["one", one],
    ["two", two],
  ] as const) {
    origin.asked.length = 0;
    origin.answer = { body: name };
  }
});

const get = (path: string, headers: Record<string, string> = {}): Promise<Got> => client.ask("GET", path, { headers });
const load = (routes: readonly Record<string, unknown>[]) =>
  house.routes({ upstreams: { one: { urls: [one.url] }, two: { urls: [two.url] } }, routes });
const route = (name: string, match: object, to: string | object[], more = {}) => ({
  name,
  match,
  access: "public",
  to: typeof to === "string" ? [{ upstream: to }] : to,
  ...more,
});

const refusal = (value: unknown): string => {
  try {
    checkRoutes(value, "routes.yaml");
  } catch (error) {
    assert.ok(error instanceof Failure);
    return `${error.code} ${error.message}`;
  }
  return "taken";
};

test("a file with a fault is refused, in words that name the place", () => {
  const fine = route("a", { path: "/a/{x}/**" }, [{ upstream: "one", path: "/b/{x}/**?fixed=1" }]);
  assert.equal(refusal({}), "taken");
  assert.equal(refusal({ routes: [fine] }), "taken");
  const faults: [object, RegExp][] = [
    [{ routs: [] }, /CONFIG_KEY_UNKNOWN .*'routs'.*'routes'/],
    [{ routes: [{ ...fine, acess: "public" }] }, /'routes\[0\]\.acess'.*'routes\[0\]\.access'/],
    [{ routes: [{ ...fine, access: undefined }] }, /'routes\[0\]\.access' must be|is missing/],
    [{ routes: [{ ...fine, access: {} }] }, /scope/],
    [{ routes: [fine, fine] }, /'a' a second time/],
    [{ routes: [{ ...fine, to: undefined }] }, /needs one of/],
    [{ routes: [{ ...fine, to: [] }] }, /nothing with a weight/],
    [{ routes: [{ ...fine, match: { path: "/a/**/b" } }] }, /'\*\*' comes last/],
    [{ routes: [{ ...fine, match: { path: "/a/x{y}" } }] }, /neither a plain segment/],
    [{ routes: [{ ...fine, match: { path: "/{x}/{x}/**" } }] }, /twice/],
    [{ routes: [{ ...fine, to: [{ upstream: "one", path: "/{y}" }] }] }, /'\{y\}' is not in its path/],
    [{ routes: [{ ...fine, timeoutMs: 0 }] }, /timeoutMs/],
    [{ upstreams: { one: { urls: ["ftp://x"] } } }, /urls/],
    [{ upstreams: { one: { urls: ["http://user@x"] } } }, /urls/],
    [{ upstreams: { one: { urls: [] } } }, /empty/],
    [{ upstreams: { __proto__x: { urls: ["http://x"] } } }, /not a known key/],
    [{ services: { echo: { balance: "random" } } }, /balance/],
  ];
  for (const [value, words] of faults) assert.match(refusal(value), words);
  const parts = { a: { upstream: "one", path: "/{b.x}" }, b: { upstream: "one", path: "/{a.x}" } };
  assert.match(
    refusal({ routes: [{ ...fine, to: undefined, compose: { parts } }] }),
    /part 'a' takes of what is neither/,
  );
});

test("a route takes by path: literal before parameter before all below; then by method, host, header and query", async () => {
  load([
    route("below", { path: "/r/**" }, "one", { errors: "pass" }),
    route("named", { path: "/r/{name}" }, [{ upstream: "one", path: "/named/{name}" }]),
    route("exact", { path: "/r/exact" }, [{ upstream: "one", path: "/exact" }]),
    route("posted", { path: "/m", methods: ["POST"] }, "one"),
    route("rare", { path: "/m", methods: ["M-SEARCH"] }, "two"),
    route("host", { path: "/h", hosts: ["*.example.org"] }, "two"),
    route("header", { path: "/h", headers: { "X-Canary": "*" } }, "two"),
    route("query", { path: "/h", query: { v: "2" } }, "two"),
    route("other", { path: "/h" }, "one"),
  ]);
  const seen = async (path: string, headers = {}) => {
    const { body } = await get(path, headers);
    return `${body} ${[one, two]
      .flatMap((origin) => origin.asked.splice(0))
      .map(({ url }) => url)
      .join()}`;
  };
  assert.equal(await seen("/r/exact"), "one /exact");
  assert.equal(await seen("/r/a%2Fb?q=1"), "one /named/a%2Fb?q=1");
  assert.equal(await seen("/r/a/b/c"), "one /r/a/b/c");
  assert.equal(await seen("/r"), "one /r");
  assert.equal(await seen("/h"), "one /h");
  assert.equal(await seen("/h", { Host: "a.example.org:8443" }), "two /h");
  assert.equal(await seen("/h", { Host: "example.org" }), "one /h");
  assert.equal(await seen("/h", { "x-canary": "yes" }), "two /h");
  assert.equal(await seen("/h?v=2"), "two /h?v=2");
  assert.equal((await client.ask("POST", "/m")).body, "one");
  assert.equal((await client.ask("M-SEARCH", "/m")).body, "two");
  const wrong = await client.ask("DELETE", "/m");
  assert.deepEqual([wrong.status, wrong.headers["allow"]], [405, "POST, M-SEARCH, OPTIONS"]);
  assert.equal((await get("/nowhere")).status, 404);
});

test("a path is written anew: names, the rest of the path, and the template's own query before the client's", async () => {
  load([
    route("a", { path: "/a/{x}/{y}/**" }, [{ upstream: "one", path: "/z/{y}-{x}/**?fixed={x}" }]),
    route("b", { path: "/strip/**" }, [{ upstream: "one", path: "/**" }]),
  ]);
  await get("/a/1/%20two/c/d%2F?q=1");
  await get("/strip");
  await get("/strip/x/y");
  assert.deepEqual(
    one.asked.map(({ url }) => url),
    ["/z/%20two-1/c/d%2F?fixed=1&q=1", "/", "/x/y"],
  );
});

test("weights share requests out, and a shadow gets copies that nobody sees", async () => {
  load([
    route("canary", { path: "/w" }, [
      { upstream: "one", weight: 3 },
      { upstream: "two", weight: 1 },
    ]),
    route("dark", { path: "/s", methods: ["POST"] }, "one", { shadow: { upstream: "two", path: "/shadow" } }),
  ]);
  for (let i = 0; i < 80; i++) await get("/w");
  // Four standard deviations of 80 draws with p = 1/4.
  assert.ok(Math.abs(two.asked.length - 20) < 16, String(two.asked.length));
  two.asked.length = 0;
  two.answer = { status: 500 };
  const got = await client.ask("POST", "/s", { body: "hello" });
  assert.deepEqual([got.status, got.body], [200, "one"]);
  for (let i = 0; i < 200 && two.asked.length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(
    two.asked.map(({ url, body }) => [url, body]),
    [["/shadow", "hello"]],
  );
});

test("access is said by each route: a scope is asked for, and what the gateway knows of a person stays inside", async () => {
  load([
    { name: "closed", match: { path: "/closed" }, access: { scope: "node:write" }, to: [{ upstream: "one" }] },
    { name: "viewed", match: { path: "/viewed" }, access: { scope: "node:read" }, to: [{ upstream: "one" }] },
  ]);
  assert.equal((await get("/closed")).status, 401);
  const viewer = { Authorization: `Bearer ${await house.token("viewer")}` };
  assert.equal((await get("/closed", viewer)).status, 403);
  assert.equal((await get("/viewed", viewer)).status, 200);
  const [{ headers }] = one.asked;
  assert.deepEqual([headers["authorization"], headers["x-holdfast-subject"]], [undefined, undefined]);
  assert.match(String(headers["traceparent"]), /^00-/);
});

test("an error of others is not shown unless the route lets it pass", async () => {
  load([route("own", { path: "/own" }, "one"), route("pass", { path: "/pass" }, "one", { errors: "pass" })]);
  one.answer = { status: 418, body: "stack trace at /srv/inside" };
  const hidden = await get("/own");
  assert.equal(hidden.status, 502);
  assert.doesNotMatch(hidden.body, /inside/);
  assert.equal((await get("/pass")).status, 418);
});

test("the routes are listed, and what would become of a request is told", async () => {
  load([route("a", { path: "/a/{x}" }, "one", { timeoutMs: 700 })]);
  const call = () => makeCall({ caller: "node", timeoutMs: 1_000 });
  const { service } = house.gateway;
  const { routes, file } = await service.routes({}, call());
  assert.equal(file, "routes.yaml");
  assert.deepEqual(
    routes.slice(0, 2).map(({ name, from, path, upstreams }) => [name, from, path, upstreams[0]]),
    [
      ["a", "file", "/a/{x}", "one"],
      ["overview-device", "gateway", "/api/overview/device/{name}", "core-metadata"],
    ],
  );
  const told = await service.explain({ method: "get", url: "https://localhost/a/1?q", host: "" }, call());
  assert.deepEqual([told.route?.name, told.route?.access, told.settings["timeoutMs"]], ["a", "public", 700]);
  assert.deepEqual(
    told.instances.map(({ address, state }) => [address, state]),
    [[`127.0.0.1:${one.port}`, "passing"]],
  );
  const none = await service.explain({ method: "POST", url: "/nowhere", host: "x" }, call());
  assert.deepEqual([none.route, none.allowed], [undefined, []]);
  await assert.rejects(service.explain({ method: "GET", url: "/a/../b", host: "x" }, call()), /dot segment/);
});
