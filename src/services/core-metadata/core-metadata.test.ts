import assert from "node:assert/strict";
import { test } from "node:test";
import { callOf, edgeHouse, eventually, temporary } from "../../../test/houses/edge.ts";
import { plainly } from "../../../test/houses/http.ts";
import { makeCall } from "../../kernel/call.ts";
import type { Envelope } from "../../kernel/edgex.ts";
import { bus } from "../bus/api.ts";
import { main as busMain } from "../bus/main.ts";
import { coreMetadata } from "./api.ts";
import { main } from "./main.ts";

type Json = Record<string, unknown>;
type Items = (Json & { statusCode: number; id: string; message: string })[];
interface Listed extends Json {
  totalCount: number;
  devices: Json[];
  profiles: Json[];
  services: Json[];
}

async function start(t: Parameters<typeof edgeHouse>[0], directory = temporary(t)) {
  const house = edgeHouse(t, directory);
  await house.start(busMain);
  const local = await house.start(main);
  const { ask } = await plainly(t, coreMetadata, local.service);
  return {
    house,
    ask: <Body = Items>(method: string, path: string, body?: unknown) => ask<Body>(method, `/api/v3${path}`, body),
  };
}

const service = (name: string, change: Json = {}): Json => ({
  name,
  baseAddress: "http://localhost:59999",
  adminState: "UNLOCKED",
  ...change,
});
const profile = (name: string, change: Json = {}): Json => ({
  name,
  manufacturer: "m",
  deviceResources: [
    { name: "T", properties: { valueType: "Float64", readWrite: "R", minimum: -40, maximum: 125 } },
    { name: "S", properties: { valueType: "Int16", readWrite: "RW" } },
  ],
  deviceCommands: [
    { name: "all", readWrite: "R", resourceOperations: [{ deviceResource: "T" }, { deviceResource: "S" }] },
  ],
  ...change,
});
const device = (name: string, change: Json = {}): Json => ({
  name,
  adminState: "UNLOCKED",
  operatingState: "UP",
  serviceName: "svc",
  profileName: "prof",
  protocols: { other: { Address: 1 } },
  ...change,
});
const wrapped = (key: string, ...things: Json[]): Json[] =>
  things.map((one, i) => ({ apiVersion: "v3", requestId: `r${i}`, [key]: one }));
const SKIP = "?bypassValidation=true";

/** Adds a service and a profile to add devices to. */
async function furnish({ ask }: Awaited<ReturnType<typeof start>>): Promise<void> {
  await ask("POST", "/deviceservice", wrapped("service", service("svc")));
  await ask("POST", "/deviceprofile", wrapped("profile", profile("prof")));
}

const codes = (items: Items): number[] => items.map((item) => item.statusCode);

test("many are answered one by one with 207, and one that fails stops no other", async (t) => {
  const house = await start(t);
  const { ask } = house;
  await furnish(house);
  const added = await ask(
    "POST",
    `/device${SKIP}`,
    wrapped(
      "device",
      device("a"),
      device("a"),
      device("b", { serviceName: "none" }),
      device("c", { profileName: "none" }),
      device("d"),
    ),
  );
  assert.equal(added.status, 207);
  assert.deepEqual(codes(added.body), [201, 409, 404, 404, 201]);
  assert.deepEqual(Object.keys(added.body[0]).sort(), ["apiVersion", "id", "requestId", "statusCode"]);
  assert.match(added.body[0].id, /^[0-9a-f-]{36}$/);
  assert.match(added.body[1].message, /device 'a' exists already/);
  const autoEvents = (interval: string, sourceName = "T") => [{ interval, sourceName }];
  const checked = await ask(
    "POST",
    `/device${SKIP}`,
    wrapped(
      "device",
      device("e", { autoEvents: autoEvents("1h30m", "all") }),
      device("f", { autoEvents: autoEvents("often") }),
      device("g", { autoEvents: autoEvents("1s", "none") }),
    ),
  );
  assert.deepEqual(codes(checked.body), [201, 400, 400]);
  const profiles = await ask(
    "POST",
    "/deviceprofile",
    wrapped(
      "profile",
      profile("prof"),
      profile("p2", { deviceCommands: [{ name: "c", readWrite: "W", resourceOperations: [{ deviceResource: "T" }] }] }),
      profile("p3", {
        deviceCommands: [{ name: "c", readWrite: "R", resourceOperations: [{ deviceResource: "none" }] }],
      }),
      profile("p4", {
        deviceResources: [
          ...(profile("x")["deviceResources"] as Json[]),
          { name: "T", properties: { valueType: "Bool", readWrite: "R" } },
        ],
      }),
      profile("p5"),
    ),
  );
  assert.deepEqual(codes(profiles.body), [409, 400, 400, 400, 201]);
  for (const nothing of ["/device", "/deviceprofile", "/deviceservice"]) {
    const { status, text } = await ask("POST", nothing, "null");
    assert.deepEqual([status, text], [207, "null"], nothing);
  }
  assert.equal((await ask("PATCH", "/device", "null")).text, "null");
  assert.equal((await ask("PUT", "/deviceprofile", "null")).text, "null");
  assert.equal((await ask("POST", "/device", "[]")).text, "[]");
  for (const bad of ["{}", "[{}]", "{", '[{"device":{"name":" "}}]', "[1]"])
    assert.equal((await ask("POST", "/device", bad)).status, 400, bad);
  assert.equal((await ask("POST", "/device", wrapped("device", device("x", { adminState: "OPEN" })))).status, 400);
});

test("odd names are names like any other, and a key may be written in any case", async (t) => {
  const house = await start(t);
  const { ask } = house;
  await furnish(house);
  const odd = [
    "a/b",
    "../x",
    "%2F",
    "müller ☂ 漢",
    "__proto__",
    "constructor",
    "toString",
    "a b+c#d",
    "x".repeat(1_024),
    "'; DROP TABLE entity; --",
  ];
  const added = await ask("POST", `/device${SKIP}`, wrapped("device", ...odd.map((name) => device(name))));
  assert.ok(codes(added.body).every((c) => c === 201));
  for (const name of odd) {
    const { status, body } = await ask<{ device: Json }>("GET", `/device/name/${encodeURIComponent(name)}`);
    assert.deepEqual([status, body.device["name"]], [200, name]);
  }
  assert.equal((await ask("GET", "/device/name/hasOwnProperty")).status, 404);
  assert.equal((await ask("POST", `/device${SKIP}`, wrapped("device", device("y".repeat(1_025))))).status, 400);
  const shouting = `[{"ApiVersion":"v3","DEVICE":{"NAME":"loud","AdminState":"UNLOCKED","OPERATINGSTATE":"UP","serviceNAME":"svc","ProfileName":"prof",
    "Protocols":{"Modbus-TCP":{"Address":"10.0.0.1","__proto__":{"x":1}}},"autoevents":[{"Interval":"1s","SOURCENAME":"T","OnChange":true}]}}]`;
  assert.deepEqual(codes((await ask("POST", `/device${SKIP}`, shouting)).body), [201]);
  const { text } = await ask("GET", "/device/name/loud");
  assert.ok(text.includes('"Modbus-TCP":{"Address":"10.0.0.1","__proto__":{"x":1}}'), text);
  assert.ok(text.includes('"autoEvents":[{"interval":"1s","sourceName":"T","onChange":true}]'), text);
  const { body: resource } = await ask<{ resource: Json }>("GET", "/deviceresource/profile/prof/resource/T");
  assert.equal(resource.resource["name"], "T");
  assert.equal((await ask("GET", "/deviceresource/profile/prof/resource/none")).status, 404);
});

test("what is there is changed by id or by name, and what is in use is not removed", async (t) => {
  const house = await start(t);
  const { ask } = house;
  await furnish(house);
  const [{ id }] = (
    await ask("POST", `/device${SKIP}`, wrapped("device", device("a", { labels: ["x"], description: "old" })))
  ).body;
  const changed = await ask(
    "PATCH",
    `/device${SKIP}`,
    wrapped(
      "device",
      { name: "a", description: "new", labels: null },
      { id, adminState: "LOCKED" },
      { id, name: "b" },
      { name: "none" },
      { description: "x" },
      { name: "a", serviceName: "none" },
    ),
  );
  assert.deepEqual(codes(changed.body), [200, 200, 400, 404, 400, 404]);
  const { body } = await ask<{ device: Json }>("GET", `/device/id/${id}`);
  const { created, modified, ...rest } = body.device;
  assert.deepEqual(rest, { ...device("a"), id, labels: ["x"], description: "new", adminState: "LOCKED" });
  assert.ok(Number(created) <= Number(modified));
  for (const used of ["/deviceprofile/name/prof", "/deviceservice/name/svc"])
    assert.equal((await ask("DELETE", used)).status, 409, used);
  const put = await ask(
    "PUT",
    "/deviceprofile",
    wrapped("profile", { name: "prof", deviceResources: profile("p")["deviceResources"] }, profile("none")),
  );
  assert.deepEqual(codes(put.body), [200, 404]);
  const { body: replaced } = await ask<{ profile: Json }>("GET", "/deviceprofile/name/prof");
  assert.equal(replaced.profile["manufacturer"], undefined, "a PUT replaces");
  assert.deepEqual(
    codes(
      (await ask("PATCH", "/deviceservice", wrapped("service", { name: "svc", baseAddress: "http://other:1" }))).body,
    ),
    [200],
  );
  assert.deepEqual((await ask("DELETE", "/device/name/a")).body, { apiVersion: "v3", statusCode: 200 });
  for (const gone of ["/device/name/a", "/device/check/name/a", `/device/id/${id}`])
    assert.equal((await ask("GET", gone)).status, 404, gone);
  assert.equal((await ask("DELETE", "/device/name/a")).status, 404);
  for (const free of ["/deviceprofile/name/prof", "/deviceservice/name/svc"])
    assert.equal((await ask("DELETE", free)).status, 200, free);
});

test("lists are paged and narrowed as EdgeX does it, and a restart keeps all", async (t) => {
  const directory = temporary(t);
  let house = await start(t, directory);
  for (const list of [
    "/device/all",
    "/deviceprofile/all",
    "/deviceservice/all",
    "/device/service/name/none",
    "/device/profile/name/none",
  ])
    assert.equal((await house.ask<Listed>("GET", `${list}?offset=5&limit=-1`)).body.totalCount, 0, list);
  await furnish(house);
  const many = Array.from({ length: 30 }, (_, i) =>
    device(`d${i}`, {
      labels: [i % 2 ? "odd" : "even", ...(i % 3 ? [] : ["third", "third"])],
      ...(i < 5 ? { profileName: undefined } : {}),
    }),
  );
  await house.ask("POST", `/device${SKIP}`, wrapped("device", ...many));
  const total = async (path: string) => (await house.ask<Listed>("GET", path)).body.totalCount;
  const check = async () => {
    const { body } = await house.ask<Listed>("GET", "/device/all?offset=28");
    assert.deepEqual([body.totalCount, body.devices.map((d) => d["name"])], [30, ["d28", "d29"]]);
    assert.equal(await total("/device/all?labels=even"), 15);
    assert.equal(await total("/device/all?labels=even,third"), 5, "of all labels named");
    assert.equal(await total("/device/all?labels=none"), 0);
    assert.equal(await total("/device/service/name/svc?limit=-1&offset=0"), 30);
    assert.equal(await total("/device/profile/name/prof"), 25);
    assert.equal((await house.ask<Listed>("GET", "/device/all?offset=30")).body.devices.length, 0);
    assert.equal((await house.ask("GET", "/device/all?offset=31")).status, 416);
    assert.equal((await house.ask("GET", "/device/all?limit=0")).status, 200);
    for (const bad of ["offset=-1", "limit=1025", "limit=-2", "limit=ten"])
      assert.equal((await house.ask("GET", `/device/all?${bad}`)).status, 400, bad);
  };
  await check();
  await house.house.stop();
  house = await start(t, directory);
  await check();
});

/** Listens on the bus as a service; what came is in `heard`. */
async function listen(house: Awaited<ReturnType<typeof start>>["house"], as: string, topics: string[]) {
  const heard: { topic: string; envelope: Envelope & { payload: Json } }[] = [];
  const stop = new AbortController();
  const call = makeCall({ caller: as, timeoutMs: Number.POSITIVE_INFINITY, signal: stop.signal });
  const done = (async () => {
    for await (const { topic, payload } of house.connect(bus, as).listen({ topics }, call))
      heard.push({ topic, envelope: JSON.parse(Buffer.from(payload).toString()) as Envelope & { payload: Json } });
  })();
  return {
    heard,
    async stop() {
      stop.abort();
      await done;
    },
  };
}

test("every change is told on the bus, in EdgeX's words and on its topics", async (t) => {
  const { house, ask } = await start(t);
  const listener = await listen(house, "core-command", ["edgex/system-events/#"]);
  await ask("POST", "/deviceservice", wrapped("service", service("svc"), service("svc/2")));
  await ask("POST", "/deviceprofile", wrapped("profile", profile("prof"), profile("a/b+c#")));
  await ask("POST", `/device${SKIP}`, wrapped("device", device("a"), device("b", { profileName: "a/b+c#" })));
  await ask("PATCH", `/device${SKIP}`, wrapped("device", { name: "a", serviceName: "svc/2" }));
  await ask("PUT", "/deviceprofile", wrapped("profile", profile("a/b+c#")));
  await ask("DELETE", "/device/name/b");
  await ask("DELETE", "/deviceprofile/name/a%2Fb%2Bc%23");
  const base = "edgex/system-events/core-metadata/";
  const wanted = [
    "deviceservice/add/svc",
    "deviceservice/add/svc%2F2",
    "deviceprofile/add/core-metadata/prof",
    "deviceprofile/add/core-metadata/a%2Fb%2Bc%23",
    "device/add/svc/prof",
    "device/add/svc/a%2Fb%2Bc%23",
    "device/delete/svc/prof",
    "device/update/svc%2F2/prof",
    "deviceprofile/update/core-metadata/a%2Fb%2Bc%23",
    "deviceprofile/update/svc/a%2Fb%2Bc%23",
    "device/delete/svc/a%2Fb%2Bc%23",
    "deviceprofile/delete/core-metadata/a%2Fb%2Bc%23",
  ];
  await eventually(() => listener.heard.length >= wanted.length);
  assert.deepEqual(
    listener.heard.map((h) => h.topic),
    wanted.map((topic) => base + topic),
  );
  const { envelope } = listener.heard[4];
  const { details, timestamp, ...rest } = envelope.payload;
  assert.deepEqual(rest, {
    apiVersion: "v3",
    type: "device",
    action: "add",
    source: "core-metadata",
    owner: "svc",
    tags: null,
  });
  assert.ok(Number(timestamp) > 1.7e18);
  const { body } = await ask<{ device: Json }>("GET", "/device/name/a");
  assert.equal((details as Json)["name"], "a");
  assert.deepEqual(Object.keys(details as Json).sort(), Object.keys(body.device).sort());
  assert.equal(envelope.contentType, "application/json");
  assert.match(envelope.correlationID, /^[0-9a-f-]{36}$/);
  await listener.stop();
});

test("a device is first offered to its device service: taken, refused, or not answered at all", async (t) => {
  const { house, ask } = await start(t);
  await ask("POST", "/deviceservice", wrapped("service", service("device-x"), service("device-y")));
  await ask("POST", "/deviceprofile", wrapped("profile", profile("prof")));
  const busFor = house.connect(bus, "device-x");
  const stop = new AbortController();
  const call = makeCall({ caller: "device-x", timeoutMs: Number.POSITIVE_INFINITY, signal: stop.signal });
  const asked: Json[] = [];
  const answering = (async () => {
    for await (const { payload } of busFor.listen({ topics: ["edgex/device-x/validate/device"] }, call)) {
      const question = JSON.parse(Buffer.from(payload).toString()) as Envelope & { payload: { device: Json } };
      asked.push(question.payload.device);
      const refused = String(question.payload.device["name"]).startsWith("bad");
      const answer = {
        ...question,
        errorCode: refused ? 1 : 0,
        payload: refused ? Buffer.from("no such bus").toString("base64") : null,
      };
      const topic = `edgex/response/device-x/${question.requestID}`;
      await busFor.publish({ body: { topic, payload: Buffer.from(JSON.stringify(answer)) } }, callOf());
    }
  })();
  const own = { serviceName: "device-x" };
  const { body } = await ask(
    "POST",
    "/device",
    wrapped("device", device("good", own), device("bad", own), device("good2", own)),
  );
  assert.deepEqual(codes(body), [201, 500, 201]);
  assert.match(body[1].message, /refused device 'bad': no such bus/);
  assert.deepEqual(
    asked.map((d) => d["name"]),
    ["good", "bad", "good2"],
  );
  assert.deepEqual(
    codes((await ask("PATCH", "/device", wrapped("device", { name: "good", description: "x" }))).body),
    [200],
  );
  assert.equal((asked.at(-1) as Json)["description"], "x", "it is asked about the device as it would be");
  const silent = { serviceName: "device-y" };
  const startedMs = performance.now();
  const unanswered = await ask(
    "POST",
    "/device",
    wrapped("device", device("s1", silent), device("s2", silent), device("good3", own)),
  );
  assert.deepEqual(codes(unanswered.body), [503, 503, 201]);
  assert.ok(performance.now() - startedMs < 9_000, "a silent service is waited for once");
  assert.equal((await ask("GET", "/device/name/s1")).status, 404);
  stop.abort();
  await answering;
});

test("with the bus away a change is kept, and a device that must be asked about is answered 503", async (t) => {
  const house = await start(t);
  await furnish(house);
  await house.house.services.get("bus")!.stop();
  assert.deepEqual(codes((await house.ask("POST", `/device${SKIP}`, wrapped("device", device("a")))).body), [201]);
  assert.deepEqual(codes((await house.ask("POST", "/device", wrapped("device", device("b")))).body), [503]);
  assert.ok(house.house.lines.some((line) => line["msg"] === "a change could not be announced on the bus"));
});
