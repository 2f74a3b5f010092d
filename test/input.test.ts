/** Bad input gets a clear error with a stable code at every door, and nothing is lost: the same processes go on as if nothing was. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createConnection } from "node:net";
import { after, before, test } from "node:test";
import mqtt from "mqtt";
import { socketClient } from "../src/cli/local-node.ts";
import { parseJson, stringifyJson } from "../src/kernel/json.ts";
import { cloud as cloudContract } from "../src/services/cloud/api.ts";
import { type Ask, type Asked, gatewayDoor, plainDoor, type Question } from "./houses/ask.ts";
import { doorsOf, envelopeOf, freePorts, requestOf } from "./houses/edgex.ts";
import { Whole } from "./houses/whole.ts";

const ports = freePorts();
const house = new Whole({
  args: ["--open-edgex"],
  doors: doorsOf(ports),
  config: "device-host: { deviceName: box, interval: 500ms }\n",
});
let doors: Record<string, Ask>;
let pids: Map<string, number>;

before(async () => {
  await house.start();
  pids = await house.pids();
  const plain = { metadata: ports["core-metadata"], data: ports["core-data"], command: ports["core-command"] };
  const open = Object.fromEntries(Object.entries(plain).map(([name, port]) => [`/core-${name}`, plainDoor(port)]));
  doors = {
    "the gateway": await gatewayDoor(house),
    "EdgeX's port": (method, path, question) => {
      const [, service, rest] = /^(\/[^/]+)(.*)$/.exec(path)!;
      return open[service](method, rest, question);
    },
  };
});
after(() => house.remove());

/** What is sent, and how it is refused. */
interface Case {
  readonly what: string;
  readonly send: readonly [method: string, path: string, question?: Question];
  readonly refused: readonly [status: number, code: string, says?: RegExp];
}

/** Sends each at each door. */
async function refuse(cases: readonly Case[], only?: string): Promise<void> {
  for (const [door, ask] of Object.entries(doors)) {
    if (only !== undefined && door !== only) continue;
    for (const { what, send, refused } of cases) requireRefusal(await ask(...send), refused, `${what} at ${door}`);
  }
}

function requireRefusal(answer: Asked, [status, code, says]: Case["refused"], what: string): void {
  const { body, headers, text } = answer;
  assert.deepEqual([answer.status, body?.["code"]], [status, code], `${what}: ${text.slice(0, 500)}`);
  const { apiVersion, statusCode, message, requestId, todo } = body as Record<string, string>;
  assert.deepEqual([apiVersion, statusCode, requestId], ["v3", status, headers["x-request-id"]], what);
  assert.match(requestId, /^[0-9a-f-]{36}$/, what);
  assert.ok(todo && message && message.length < 1_000, `${what}: ${message}`);
  if (says) assert.match(message, says, what);
}

const json = (body: string | Uint8Array): Question => ({ body });
const cbor = (...bytes: number[]): Question => ({
  body: Uint8Array.from(bytes),
  headers: { "content-type": "application/cbor" },
});
const DEPTH = 10_000;
const DEVICES = "/core-metadata/api/v3/device";
const post = (question: Question): Case["send"] => ["POST", DEVICES, question];

test("a body that is malformed is refused with the place of the fault", async () => {
  await refuse([
    { what: "half an object", send: post(json('[{"device":')), refused: [400, "INPUT_MALFORMED", /line 1 column 12/] },
    { what: "no body", send: ["POST", DEVICES], refused: [400, "INPUT_MALFORMED", /needs a body/] },
    { what: "NaN", send: post(json('[{"a":NaN}]')), refused: [400, "INPUT_MALFORMED", /column 7/] },
    { what: "1e400", send: post(json("[1e400]")), refused: [400, "INPUT_MALFORMED", /64-bit float/] },
    { what: "no UTF-8", send: post(json(Uint8Array.of(0x22, 0xff, 0x22))), refused: [400, "INPUT_MALFORMED", /UTF-8/] },
    {
      what: "a key twice",
      send: post(json('[{"a":1,"a":2}]')),
      refused: [400, "INPUT_MALFORMED", /"a" appears twice/],
    },
    {
      what: "__proto__ twice",
      send: post(json('[{"__proto__":1,"__proto__":2}]')),
      refused: [400, "INPUT_MALFORMED", /appears twice/],
    },
    { what: "10,000 levels", send: post(json("[".repeat(DEPTH))), refused: [400, "INPUT_TOO_DEEP", /64 levels/] },
    {
      what: "10,000 levels of objects",
      send: post(json('{"a":'.repeat(DEPTH) + "1" + "}".repeat(DEPTH))),
      refused: [400, "INPUT_TOO_DEEP", /64 levels/],
    },
    { what: "CBOR cut off", send: post(cbor(0x81, 0xa1, 0x61)), refused: [400, "INPUT_MALFORMED", /CBOR at byte/] },
    { what: "CBOR, a key twice", send: post(cbor(0xa2, 0x61, 97, 1, 0x61, 97, 2)), refused: [400, "INPUT_MALFORMED"] },
    { what: "CBOR, no UTF-8", send: post(cbor(0x61, 0xff)), refused: [400, "INPUT_MALFORMED"] },
    {
      what: "CBOR that claims 2^64 items",
      send: post(cbor(0x9b, ...Array.from<number>({ length: 8 }).fill(0xff))),
      refused: [400, "INPUT_MALFORMED"],
    },
    {
      what: "CBOR, 10,000 levels",
      send: post(cbor(...Array.from<number>({ length: DEPTH }).fill(0x81), 0)),
      refused: [400, "INPUT_TOO_DEEP", /levels/],
    },
    {
      what: "another content type",
      send: post({ body: "<a/>", headers: { "content-type": "text/xml" } }),
      refused: [415, "MEDIA_TYPE_UNKNOWN", /text\/xml/],
    },
    // Several times: who is hung up on while it sends may see the answer, or not.
    ...Array.from({ length: 10 }, (): Case => ({
      what: "3 MB",
      send: post(json(" ".repeat(3_000_000))),
      refused: [413, "INPUT_TOO_LARGE", /1048576/],
    })),
  ]);
});

test("a value of a wrong type is refused with its field", async () => {
  const device = { name: "x", adminState: "UNLOCKED", operatingState: "UP", serviceName: "device-virtual" };
  const sent = (change: object): Case["send"] =>
    post({ body: [requestOf("device", { ...device, protocols: {}, ...change })] });
  const all = "/core-data/api/v3/reading/all";
  const time = "/core-data/api/v3/reading/start";
  await refuse([
    { what: "no list", send: post(json("{}")), refused: [400, "INPUT_INVALID", /body/] },
    { what: "no device", send: post(json('[{"device":5}]')), refused: [400, "INPUT_INVALID", /'body\.0\.device'/] },
    { what: "a number as name", send: sent({ name: 5 }), refused: [400, "INPUT_INVALID", /body\.0\.device\.name/] },
    { what: "blank as name", send: sent({ name: "  " }), refused: [400, "INPUT_INVALID", /device\.name/] },
    { what: "half a character", send: sent({ name: "a\ud800" }), refused: [400, "INPUT_INVALID", /device\.name/] },
    { what: "a long name", send: sent({ name: "x".repeat(1025) }), refused: [400, "INPUT_INVALID", /device\.name/] },
    { what: "another state", send: sent({ adminState: "OPEN" }), refused: [400, "INPUT_INVALID", /adminState/] },
    { what: "protocols as list", send: sent({ protocols: [] }), refused: [400, "INPUT_INVALID", /protocols/] },
    { what: "limit=x", send: ["GET", `${all}?limit=x`], refused: [400, "INPUT_INVALID", /'limit'/] },
    { what: "limit=1.5", send: ["GET", `${all}?limit=1.5`], refused: [400, "INPUT_INVALID", /'limit'/] },
    { what: "limit=-2", send: ["GET", `${all}?limit=-2`], refused: [400, "INPUT_INVALID", /'limit'/] },
    { what: "limit=2^53+1", send: ["GET", `${all}?limit=9007199254740993`], refused: [400, "INPUT_INVALID", /limit/] },
    { what: "offset=-2", send: ["GET", `${all}?offset=-2`], refused: [400, "INPUT_INVALID", /'offset'/] },
    { what: "no time", send: ["GET", `${time}/a/end/b`], refused: [400, "INPUT_INVALID", /'start'.*nanoseconds/] },
    {
      what: "a time past 2^63",
      send: ["GET", `${time}/0/end/9223372036854775808`],
      refused: [400, "INPUT_INVALID", /'end'.*64 bits/],
    },
  ]);
});

test("a base address that nobody can call is refused when it is told, not when it is needed", async () => {
  for (const [door, ask] of Object.entries(doors)) {
    const service = { name: "device-nowhere", baseAddress: "nonsense", adminState: "UNLOCKED" };
    const answer = await ask("POST", "/core-metadata/api/v3/deviceservice", { body: [requestOf("service", service)] });
    assert.equal(answer.status, 207);
    assert.equal(answer.list[0]["statusCode"], 400, `${door}: ${answer.text}`);
    assert.match(String(answer.list[0]["message"]), /base address 'nonsense' is no URL/);
  }
});

/** Names that a path, a topic or an object could take for something else. */
const NAMES = ["a/b", "%2F", "a+b#c", "ünï 漢 ✓", "__proto__", "constructor", "toString", "a?b&c=d"];

test("what is unknown is told by its name, whatever the name", async () => {
  const cases = [...NAMES, "nobody"].flatMap((name): Case[] => {
    const at = encodeURIComponent(name);
    return [
      {
        what: name,
        send: ["GET", `${DEVICES}/name/${at}`],
        refused: [404, "METADATA_DEVICE_UNKNOWN", literally(`device '${name}'`)],
      },
      {
        what: name,
        send: ["GET", `/core-metadata/api/v3/deviceprofile/name/${at}`],
        refused: [404, "METADATA_PROFILE_UNKNOWN", literally(`'${name}'`)],
      },
      {
        what: name,
        send: ["GET", `/core-command/api/v3/device/name/${at}/${at}`],
        refused: [404, "COMMAND_DEVICE_UNKNOWN", literally(`device '${name}'`)],
      },
      {
        what: name,
        send: ["GET", `/core-command/api/v3/device/name/virtual-1/${at}`],
        refused: [404, "DEVICE_COMMAND_UNKNOWN", literally(`'${name}'`)],
      },
      {
        what: name,
        send: ["GET", `/core-data/api/v3/event/id/${at}`],
        refused: [404, "DATA_EVENT_UNKNOWN", literally(`'${name}'`)],
      },
    ];
  });
  await refuse(cases);
});

const literally = (text: string): RegExp => new RegExp(text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));

test("a path that is none is refused in the same form", async () => {
  const bad = (code: string): Case[] =>
    ["%zz", "%FF", "%"].map((name) => ({
      what: name,
      send: ["GET", `${DEVICES}/name/${name}`],
      refused: [400, code, /percent-encoded|url component/],
    }));
  await refuse(bad("GATEWAY_REQUEST_REFUSED"), "the gateway");
  const dots: Case["send"] = ["GET", `${DEVICES}/name/%2e%2E`];
  await refuse([{ what: "dots", send: dots, refused: [400, "GATEWAY_REQUEST_REFUSED", /dot segment/] }], "the gateway");
  await refuse(bad("INPUT_MALFORMED"), "EdgeX's port");
  const nowhere: Case["send"] = ["GET", "/core-data/api/v3/nowhere/%2e%2e/__proto__"];
  for (const [door, ask] of Object.entries(doors)) {
    const { status, body } = await ask(...nowhere);
    assert.ok(status === 404 || status === 400, `${door}: ${status}`);
    assert.match(String(body["code"]), /^(GATEWAY_)?(ROUTE_UNKNOWN|REQUEST_REFUSED)$/, door);
  }
});

test("a command with a value that its resource cannot have is refused with the resource", async () => {
  const set = (name: string, value: unknown): Case["send"] => [
    "PUT",
    `/core-command/api/v3/device/name/virtual-1/${name}`,
    { body: typeof value === "string" && value.startsWith("{") ? value : { [name]: value } },
  ];
  await refuse([
    { what: "5000", send: set("Int8", 5000), refused: [400, "EVENTS_VALUE_INVALID", /'Int8'.*-128 to 127/] },
    { what: "NaN", send: set("Int8", "NaN"), refused: [400, "EVENTS_VALUE_INVALID", /'Int8'/] },
    { what: "an object", send: set("Int8", { a: 1 }), refused: [400, "EVENTS_VALUE_INVALID", /'Int8'/] },
    { what: "2^63", send: set("Int64", "9223372036854775808"), refused: [400, "EVENTS_VALUE_INVALID", /'Int64'/] },
    { what: "half", send: set("Int64", 1.5), refused: [400, "EVENTS_VALUE_INVALID", /'Int64'/] },
    { what: "a list", send: ["PUT", set("Int8", 1)[1], { body: [] }], refused: [400, "INPUT_INVALID", /'body'/] },
    { what: "nothing", send: set("Int8", "{}"), refused: [400, "DEVICE_VALUE_INVALID", /'Int8' is missing/] },
    {
      what: "__proto__ alone",
      send: set("Int8", '{"__proto__":{"Int8":"1"}}'),
      refused: [400, "DEVICE_VALUE_INVALID", /'__proto__'/],
    },
  ]);
});

const ORIGIN = 1_764_000_000_123_456_789n;
interface Sent {
  id: string;
  origin: bigint;
  readings: Record<string, unknown>[];
  [key: string]: unknown;
}
function eventOf(deviceName: string, reading: object = {}): Sent {
  const names = { deviceName, profileName: "p" };
  const value = { valueType: "Int64", value: "9007199254740993", ...reading };
  const readings = [{ id: randomUUID(), origin: ORIGIN, ...names, resourceName: "r", ...value }];
  return { apiVersion: "v3", id: randomUUID(), ...names, sourceName: "s", origin: ORIGIN, readings };
}
const addEvent = (event: object, deviceName: string): Case["send"] => [
  "POST",
  `/core-data/api/v3/event/device-input/p/${encodeURIComponent(deviceName)}/s`,
  { body: requestOf("event", event) },
];

test("an event that is none is refused with what is wrong in it", async () => {
  const good = eventOf("d");
  const sent = (change: object): Case["send"] => addEvent({ ...good, ...change }, "d");
  const reading = (change: object): Case["send"] => sent({ readings: [{ ...good.readings[0], ...change }] });
  const text = stringifyJson(requestOf("event", good));
  await refuse([
    { what: "another device", send: addEvent(good, "e"), refused: [400, "DATA_EVENT_MISMATCHED", /'e'.*'d'/] },
    { what: "no UUID", send: sent({ id: "x" }), refused: [400, "INPUT_INVALID", /'x' is no UUID/] },
    { what: "no readings", send: sent({ readings: [] }), refused: [400, "INPUT_INVALID", /readings/] },
    { what: "half a nanosecond", send: sent({ origin: 1.5 }), refused: [400, "INPUT_INVALID", /event\.origin/] },
    {
      what: "an origin past 2^63",
      send: sent({ origin: 2n ** 63n }),
      refused: [400, "INPUT_INVALID", /event\.origin/],
    },
    { what: "an origin as a text", send: sent({ origin: "now" }), refused: [400, "INPUT_INVALID", /event\.origin/] },
    { what: "no number", send: reading({ value: "NaN" }), refused: [400, "EVENTS_VALUE_INVALID", /'r'.*Int64/] },
    { what: "a type", send: reading({ valueType: "Odd" }), refused: [400, "EVENTS_EVENT_INVALID", /'Odd'/] },
    { what: "a prototype's type", send: reading({ valueType: "constructor" }), refused: [400, "EVENTS_EVENT_INVALID"] },
    {
      what: "1e30 as origin",
      send: [...addEvent(good, "d").slice(0, 2), json(text.replace(String(ORIGIN), "1e30"))] as unknown as Case["send"],
      refused: [400, "INPUT_INVALID", /origin/],
    },
  ]);
});

test("odd names, prototype keys and integers past 2^53 come back as they were sent, from core-data and from the cloud", async () => {
  const odd = parseJson('{"__proto__":{"a":1},"constructor":{"prototype":9007199254740993},"":[]}');
  const ask = doors["the gateway"];
  const sent = new Map<string, Sent>();
  for (const name of NAMES) {
    const event: Sent = { ...eventOf(name), tags: odd };
    const object = { ...event.readings[0], id: randomUUID(), resourceName: "o", valueType: "Object", objectValue: odd };
    delete (object as Record<string, unknown>)["value"];
    const whole = { ...event, readings: [...event.readings, object] } as Sent;
    const added = await ask(...addEvent(whole, name));
    assert.equal(added.status, 201, `${name}: ${added.text}`);
    assert.equal(added.body["id"], whole.id);
    const again = await ask(...addEvent(whole, name));
    requireRefusal(again, [409, "DATA_EVENT_DUPLICATE", literally(whole.id)], name);
    sent.set(name, whole);
  }
  const cloud = socketClient(cloudContract, "cloud.sock", house.state);
  const { edges } = await cloud.client.edges({}, cloud.call(5_000));
  for (const [name, event] of sent) {
    const path = `/core-data/api/v3/event/device/name/${encodeURIComponent(name)}`;
    await house.until(async () => (await ask("GET", path)).body["totalCount"] === 1, `'${name}' at core-data`, 15_000);
    const kept = ((await ask("GET", path)).body as { events: Sent[] }).events[0];
    assert.equal(kept.origin, ORIGIN);
    assert.deepEqual(kept.readings[0], event.readings[0], name);
    for (const free of [kept["tags"], kept.readings[1]["objectValue"]])
      assert.equal(stringifyJson(free), stringifyJson(odd), name);
    const asked = { edge: edges[0].edge, device: name, offset: 0, limit: 10 };
    await house.until(
      async () => (await cloud.client.readings(asked, cloud.call(5_000))).totalCount === 2,
      `'${name}' at the cloud`,
      20_000,
    );
    const { readings } = await cloud.client.readings(asked, cloud.call(5_000));
    const { value, origin, deviceName } = readings.find(({ resourceName }) => resourceName === "r")!;
    assert.deepEqual([value, origin, deviceName], ["9007199254740993", ORIGIN, name]);
    const object = readings.find(({ resourceName }) => resourceName === "o")!;
    assert.equal(stringifyJson(object.objectValue), stringifyJson(odd), name);
  }
  cloud.close();
});

test("what is no event on an event topic is acknowledged, said, and not kept; the client stays connected", async () => {
  const client = await mqtt.connectAsync({
    host: "127.0.0.1",
    port: ports.mqtt,
    protocolVersion: 4,
    reconnectPeriod: 0,
  });
  const topic = "edgex/events/device/device-input/p/mqtt/s";
  const good = eventOf("mqtt");
  const text = stringifyJson(envelopeOf(requestOf("event", good)));
  const bad: (string | Buffer)[] = [
    "",
    "{",
    "null",
    '"text"',
    "[".repeat(DEPTH),
    Buffer.alloc(DEPTH, 0x81),
    Buffer.concat([Buffer.from([0xbf]), Buffer.alloc(DEPTH, 0xbf)]),
    Buffer.from([0xa1, 0x67]),
    '{"payload":"!!"}',
    '{"payload":{"event":{"__proto__":{}}}}',
    text.replace("Int64", "constructor"),
    text.replaceAll(String(ORIGIN), "9223372036854775808"),
    text.replace('"deviceName"', '"deviceName":"x","deviceName"'),
    text.replaceAll('"mqtt"', '"other"'),
  ];
  for (const payload of bad) await client.publishAsync(topic, payload, { qos: 1 });
  await client.publishAsync(topic, text, { qos: 1 });
  const count = "/core-data/api/v3/event/count/device/name/mqtt";
  const ask = doors["EdgeX's port"];
  await house.until(async () => (await ask("GET", count)).body["Count"] === 1, "the one good event", 15_000);
  assert.equal(client.connected, true);
  const log = (await house.text("logs", "--service", "bus", "--lines", "200", "--json")).split("\n").filter(Boolean);
  assert.ok(log.some((line) => (JSON.parse(line) as { code?: string }).code === "BUS_EVENT_INVALID"));
  // An MQTT 3.1.1 client can only be told by the end of its connection.
  client.on("error", () => undefined);
  const closed = new Promise<void>((resolve) => client.once("close", () => resolve()));
  client.publish(topic, Buffer.alloc(3_000_000), { qos: 1 });
  await closed;
  await client.endAsync(true);
});

test("bytes that are no request end their connection, and no other", async () => {
  const garbage = Buffer.from([0x16, 0x03, 0x01, 0x00, 0x05, 0xff, 0x00, 0x0d, 0x0a, 0x0d, 0x0a, 0x80]);
  for (const port of [...Object.values(ports), house.gatewayPort, house.cloudPort]) {
    const socket = createConnection({ host: "127.0.0.1", port });
    await once(socket, "connect");
    socket.on("error", () => undefined); // A reset is an answer as well.
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.resume();
    socket.write(Buffer.concat([garbage, Buffer.alloc(64 * 1024, 0x80)]));
    socket.write("GET / HTTP/1.1\r\nContent-Length: x\r\nContent-Length: y\r\n\r\n");
    setTimeout(() => socket.end(), 500);
    await closed;
  }
});

test("afterwards the same processes pass, nothing was lost, and what is right is done", async () => {
  const { services } = await house.json<{ services: Record<string, string | number>[] }>("status");
  for (const { service, state, restarts, reason } of services)
    assert.deepEqual([state, restarts], ["passing", 0], `${service}: ${reason}`);
  assert.deepEqual(await house.pids(), pids);
  const { bus, pipeline } = await house.json<Record<string, { losses: object[] }>>("backlog");
  assert.deepEqual([bus.losses, pipeline.losses], [[], []]);
  for (const [door, ask] of Object.entries(doors)) {
    const written = await ask("PUT", "/core-command/api/v3/device/name/virtual-1/Int64", {
      body: { Int64: 9_007_199_254_740_993n },
    });
    assert.equal(written.status, 200, `${door}: ${written.text}`);
    const { event } = (await ask("GET", "/core-command/api/v3/device/name/virtual-1/Int64")).body as { event: Sent };
    assert.equal(event.readings[0]["value"], "9007199254740993", door);
    const latest = await ask("GET", "/core-data/api/v3/reading/device/name/box?limit=1");
    const { readings } = latest.body as { readings: { origin: bigint }[] };
    assert.ok(Date.now() - Number(readings[0].origin / 1_000_000n) < 10_000, "the machine is measured all the time");
  }
});
