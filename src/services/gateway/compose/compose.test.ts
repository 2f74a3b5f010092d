/** Answers that are put together from several: all of it, in part, and never a wrong number. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { type GatewayHouse, startGateway } from "../../../../test/houses/gateway.ts";
import { asker, type Origin, startOrigin } from "../../../../test/houses/origin.ts";

let house: GatewayHouse;
let origin: Origin;
let client: ReturnType<typeof asker>;
let token = "";

/** What each path answers. */
const answers: Record<string, { status?: number; body: string; afterMs?: number }> = {};

before(async () => {
  house = await startGateway({ instanceWaitMs: 100 });
  origin = await startOrigin();
  client = asker(house);
  token = await house.token("viewer");
  const part = (path: string, more = {}) => ({ upstream: "origin", path, timeoutMs: 400, ...more });
  house.routes({
    upstreams: { origin: { urls: [origin.url] } },
    routes: [
      {
        name: "all",
        match: { path: "/all/{name}", methods: ["GET"] },
        access: { scope: "device:read" },
        compose: {
          merge: ["base"],
          parts: {
            base: part("/base/{name}", { required: true, take: "device" }),
            profile: part("/profile/{base.profileName}", { take: "profile" }),
            readings: part("/readings/{name}?limit=1", { take: "readings.0", default: null }),
            secret: part("/secret", { scope: "node:write" }),
          },
        },
      },
    ],
  });
  origin.answer = ({ url }, response) => {
    const { status = 200, body, afterMs = 0 } = answers[url] ?? { body: "{}" };
    setTimeout(() => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(body);
    }, afterMs);
  };
});
after(async () => {
  client.close();
  await origin.stop();
  await house.stop();
});
beforeEach(() => {
  origin.asked.length = 0;
  answers["/base/a%2Fb"] = { body: '{"device":{"name":"a/b","profileName":"p q"}}' };
  answers["/profile/p%20q"] = { body: '{"profile":{"name":"p q"}}' };
  answers["/readings/a%2Fb?limit=1"] = { body: '{"readings":[{"origin":1700000000123456789,"value":"1"}]}' };
});

const all = async () => {
  const got = await client.ask("GET", "/all/a%2Fb", { headers: { Authorization: `Bearer ${token}` } });
  return { ...got, value: JSON.parse(got.body) as Record<string, unknown> };
};

test("parts are asked at once, or after what they need; the answer is one, with every number as it was", async () => {
  const { status, body, value } = await all();
  assert.equal(status, 200);
  assert.deepEqual([value["name"], value["profile"]], ["a/b", { name: "p q" }]);
  assert.match(body, /"origin":1700000000123456789[,}]/);
  assert.deepEqual(origin.asked.map(({ url }) => url).sort(), [
    "/base/a%2Fb",
    "/profile/p%20q",
    "/readings/a%2Fb?limit=1",
  ]);
});

test("a part that fails leaves the answer partial, says why, and its default stands for it", async () => {
  answers["/readings/a%2Fb?limit=1"] = { status: 503, body: "no" };
  answers["/profile/p%20q"] = { body: "{}", afterMs: 2_000 };
  const startMs = performance.now();
  const { status, value } = await all();
  assert.ok(performance.now() - startMs < 1_500, "a part has its own time");
  assert.equal(status, 200);
  assert.deepEqual([value["partial"], value["readings"], value["profile"]], [true, null, undefined]);
  const failed = value["failed"] as { part: string; code: string }[];
  assert.deepEqual(
    failed.map(({ part, code }) => [part, code]),
    [
      ["profile", "GATEWAY_PART_FAILED"],
      ["readings", "GATEWAY_UPSTREAM_FAILED"],
      ["secret", "GATEWAY_SCOPE_MISSING"],
    ],
  );
});

test("without a required part there is no answer, and its failure is the route's", async () => {
  answers["/base/a%2Fb"] = {
    status: 404,
    body: '{"code":"METADATA_DEVICE_UNKNOWN","message":"device \'a/b\' is unknown","statusCode":404}',
  };
  const { status, value } = await all();
  assert.deepEqual([status, value["code"]], [404, "METADATA_DEVICE_UNKNOWN"]);
  answers["/base/a%2Fb"] = { body: '{"device":{"profileName":".."}}' };
  const { value: partial } = await all();
  assert.match(JSON.stringify(partial["failed"]), /is no name/);
});

test("the overview of a device is there without a file, for who may read devices", async () => {
  assert.equal((await client.ask("GET", "/api/overview/device/x")).status, 401);
  const got = await client.ask("GET", "/api/overview/device/x", { headers: { Authorization: `Bearer ${token}` } });
  assert.deepEqual(
    [got.status, (JSON.parse(got.body) as { code: string }).code],
    [503, "UNAVAILABLE"],
    "no core-metadata runs here",
  );
});
