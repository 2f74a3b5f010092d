/** `--open-edgex`: an unmodified EdgeX device service (file mode, no registry) comes up, reports and is commanded as on EdgeX. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createConnection } from "node:net";
import { after, before, test } from "node:test";
import { Encoder } from "cbor-x";
import { stringifyJson } from "../src/kernel/json.ts";
import { type Ask, gatewayDoor, plainDoor } from "./houses/ask.ts";
import {
  type Command,
  doorsOf,
  edgexPorts,
  EdgexDeviceService,
  envelopeOf,
  type Message,
  requestOf,
} from "./houses/edgex.ts";
import { Whole } from "./houses/whole.ts";

const NAME = "device-pump";
/** Nanoseconds that no double holds. */
const ORIGIN = 1_764_000_000_123_456_789n;

const ports = edgexPorts();
const house = new Whole({
  args: ["--open-edgex", "--only", "trace,bus,core-metadata,core-data,core-command,gateway"],
  doors: doorsOf(ports),
});
const metadata = plainDoor(ports["core-metadata"]);
const data = plainDoor(ports["core-data"]);
const command = plainDoor(ports["core-command"]);
let gateway: Ask;
let service: EdgexDeviceService;

before(async () => {
  await house.start();
  gateway = await gatewayDoor(house);
  service = await startService();
});
after(async () => {
  await service?.stop().catch(() => undefined);
  await house.remove();
});

const startService = () =>
  EdgexDeviceService.start({
    name: NAME,
    mqttPort: ports.mqtt,
    refuse: ({ protocols }) => ("pump" in (protocols as object) ? undefined : "protocol 'pump' is missing"),
    obey,
  });

const resource = (name: string, valueType: string, readWrite: string) => ({
  name,
  isHidden: false,
  description: "",
  properties: { valueType, readWrite, units: "", defaultValue: "", mediaType: "" },
  attributes: null,
});
const profile = (name: string) => ({
  apiVersion: "v3",
  name,
  manufacturer: "Kelp",
  description: "",
  model: "",
  labels: ["pump"],
  deviceResources: [
    resource("Flow", "Float64", "R"),
    resource("Speed", "Int64", "RW"),
    resource("Image", "Binary", "R"),
  ],
  deviceCommands: [{ name: "All", isHidden: false, readWrite: "R", resourceOperations: [{ deviceResource: "Flow" }] }],
});
const device = (name: string) => ({
  name,
  description: "",
  adminState: "UNLOCKED",
  operatingState: "UP",
  labels: null,
  location: null,
  serviceName: NAME,
  profileName: "Pump",
  autoEvents: [{ interval: "10s", onChange: false, sourceName: "Flow" }],
  protocols: { pump: { Address: "/dev/pump0", UnitID: 7 } },
});

function eventOf(deviceName: string, sourceName: string, value: object, origin = ORIGIN) {
  const names = { deviceName, profileName: "Pump" };
  const reading = { id: randomUUID(), origin, ...names, resourceName: sourceName, ...value };
  return { apiVersion: "v3", id: randomUUID(), ...names, sourceName, origin, readings: [reading] };
}

/** What the pump does with commands. */
let speed = "0";
const lastEvent = { id: "" };
function obey({ method, path, body }: Command) {
  const refuse = (status: number, message: string) => ({
    status,
    body: { apiVersion: "v3", requestId: randomUUID(), statusCode: status, message },
  });
  const [name, source] = path.split("/").slice(-2) as [string, string];
  if (source === "Broken") return refuse(500, "the pump does not answer");
  if (source !== "Speed") return refuse(method === "GET" ? 404 : 405, `no ${source}`);
  if (method === "GET") {
    const event = eventOf(name, source, { valueType: "Int64", value: speed }, ORIGIN + 4n);
    lastEvent.id = event.id;
    return { status: 200, body: { apiVersion: "v3", statusCode: 200, event } };
  }
  speed = String((body as Record<string, unknown>)["Speed"]);
  return { status: 200, body: { apiVersion: "v3", statusCode: 200 } };
}

async function heard(what: string, isIt: (message: Message) => boolean): Promise<Message> {
  await house.until(() => service.messages.some(isIt), what, 10_000);
  return service.messages.find(isIt)!;
}

const isOpen = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = createConnection({ host: "127.0.0.1", port });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });

test("the start says which ports are open without TLS", () => {
  for (const [name, port] of Object.entries(ports)) {
    const owner = name === "mqtt" ? "bus" : name;
    assert.ok(house.output.replaceAll(/\s+/g, " ").includes(`${owner} 127.0.0.1:${port}`), `${owner} ${port}`);
  }
  assert.match(house.output, /--open-edgex: programs on this machine may use EdgeX's ports without TLS/);
});

test("core-metadata answers the ping that a device service waits for, and the version it checks", async () => {
  const ping = await metadata("GET", "/api/v3/ping");
  assert.equal(ping.status, 200);
  assert.equal(ping.body["apiVersion"], "v3");
  assert.equal(ping.body["serviceName"], "core-metadata");
  assert.match(String(ping.body["timestamp"]), /^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \w+ \d{4}$/);
  assert.match(String((await metadata("GET", "/api/v3/version")).body["version"]), /^4\.1/);
});

test("a new device service finds no device and no watcher of its own, with 200", async () => {
  const all = "?limit=-1&offset=0";
  const devices = await metadata("GET", `/api/v3/device/service/name/${NAME}${all}`);
  assert.deepEqual(devices.body, { apiVersion: "v3", statusCode: 200, totalCount: 0, devices: [] });
  const watchers = await metadata("GET", `/api/v3/provisionwatcher/service/name/${NAME}${all}`);
  assert.deepEqual(watchers.body, { apiVersion: "v3", statusCode: 200, totalCount: 0, provisionWatchers: [] });
});

test("it adds itself: 404, then 207 with its id", async () => {
  const there = await metadata("GET", `/api/v3/deviceservice/name/${NAME}`);
  assert.equal(there.status, 404);
  assert.equal(there.body["statusCode"], 404);
  const own = { name: NAME, baseAddress: service.baseAddress, adminState: "UNLOCKED", properties: {} };
  const request = requestOf("service", own);
  const added = await metadata("POST", "/api/v3/deviceservice", { body: [request] });
  assert.equal(added.status, 207);
  assert.match(String(added.list[0]["id"]), /^[0-9a-f-]{36}$/);
  assert.equal(added.list[0]["statusCode"], 201);
  assert.equal(added.list[0]["requestId"], request["requestId"]);
});

test("it adds its profiles in one request, and the empty update that follows is answered", async () => {
  assert.equal((await metadata("GET", "/api/v3/deviceprofile/name/Pump")).status, 404);
  const both = ["Pump", "Pump-2"].map((name) => requestOf("profile", profile(name)));
  const added = await metadata("POST", "/api/v3/deviceprofile", { body: both });
  assert.equal(added.status, 207);
  assert.deepEqual(
    added.list.map(({ statusCode }) => statusCode),
    [201, 201],
  );
  const updated = await metadata("PUT", "/api/v3/deviceprofile", { body: "null" });
  assert.equal(updated.status, 207);
  assert.equal(updated.text, "null");
});

test("it adds its devices: each is first asked for over MQTT, and a refused one says why", async () => {
  const devices = [device("pump-1"), { ...device("pump-2"), protocols: { other: {} } }, device("pump-3")];
  const requests = devices.map((each) => requestOf("device", each));
  const added = await metadata("POST", "/api/v3/device", { body: requests });
  assert.equal(added.status, 207);
  assert.deepEqual(
    added.list.map(({ statusCode }) => statusCode),
    [201, 500, 201],
    added.text,
  );
  assert.match(String(added.list[1]["message"]), /protocol 'pump' is missing/);
  const asked = service.messages.filter(({ topic }) => topic === `edgex/${NAME}/validate/device`);
  assert.equal(asked.length, 3);
  const { requestID, correlationID, contentType, errorCode, payload } = asked[0].envelope;
  assert.match(`${String(requestID)} ${String(correlationID)}`, /^[0-9a-f-]{36} [0-9a-f-]{36}$/);
  assert.deepEqual([contentType, errorCode], ["application/json", 0]);
  assert.equal((payload as { device: { name: string } }).device.name, "pump-1");
  const patched = await metadata("PATCH", "/api/v3/device", { body: "null" });
  assert.equal(patched.status, 207);
  assert.equal(patched.text, "null");
});

test("of each device that was added it hears a system event with EdgeX's fields", async () => {
  const topic = `edgex/system-events/core-metadata/device/add/${NAME}/Pump`;
  const nameIn = ({ envelope }: Message) => (envelope["payload"] as { details: { name: string } }).details.name;
  // The last of them; on one connection they come in order.
  await heard("the last system event", (m) => m.topic === topic && nameIn(m) === "pump-3");
  const events = service.messages.filter((m) => m.topic === topic);
  assert.deepEqual(events.map(nameIn), ["pump-1", "pump-3"], "none of the device that was refused");
  const [message] = events;
  assert.equal(message.envelope["contentType"], "application/json");
  const { details, timestamp, ...rest } = message.envelope["payload"] as Record<string, unknown>;
  assert.deepEqual(rest, {
    apiVersion: "v3",
    type: "device",
    action: "add",
    source: "core-metadata",
    owner: NAME,
    tags: null,
  });
  assert.equal(typeof timestamp, "bigint", "nanoseconds");
  const { id, created, modified, ...sent } = details as Record<string, unknown>;
  assert.match(String(id), /^[0-9a-f-]{36}$/);
  assert.ok(Number(created) > 1_600_000_000_000 && modified === created, "milliseconds");
  const { labels: _labels, location: _location, ...given } = device("pump-1");
  assert.partialDeepStrictEqual(sent, given);
});

test("keys are read in any case", async () => {
  const odd = [
    {
      ApiVersion: "v3",
      Device: {
        Name: "pump-4",
        AdminState: "UNLOCKED",
        operatingstate: "UP",
        SERVICENAME: NAME,
        ProfileName: "Pump",
        Protocols: { pump: { Address: "x" } },
        AutoEvents: [{ Interval: "10s", SourceName: "Flow" }],
      },
    },
  ];
  const added = await metadata("POST", "/api/v3/device?bypassValidation=true", { body: odd });
  assert.equal(added.list[0]?.["statusCode"], 201, added.text);
  const { device: kept } = (await metadata("GET", "/api/v3/device/name/pump-4")).body as { device: object };
  assert.partialDeepStrictEqual(kept, {
    name: "pump-4",
    protocols: { pump: { Address: "x" } },
    autoEvents: [{ interval: "10s", sourceName: "Flow" }],
  });
});

test("its events are kept with QoS 0, in each form that EdgeX writes, to the nanosecond", async () => {
  const flow = (value: string, at: bigint) => eventOf("pump-1", "Flow", { valueType: "Float64", value }, at);
  const image = eventOf("pump-1", "Image", { valueType: "Binary", binaryValue: Buffer.from("kelp"), mediaType: "x/y" });
  const cbor = new Encoder({ useRecords: false });
  const json = flow("1.5e+00", ORIGIN);
  const whole = flow("2.5e+00", ORIGIN + 1n);
  const base64 = flow("3.5e+00", ORIGIN + 2n);
  const forms: [event: typeof json, payload: string | Buffer][] = [
    [json, stringifyJson(envelopeOf(requestOf("event", json)))],
    // EDGEX_MSG_CBOR_ENCODE, EDGEX_MSG_BASE64_PAYLOAD, and what a binary reading makes of the payload.
    [whole, cbor.encode(envelopeOf(requestOf("event", whole), { contentType: "application/cbor" }))],
    [base64, stringifyJson(envelopeOf(Buffer.from(stringifyJson(requestOf("event", base64))).toString("base64")))],
    [
      image,
      stringifyJson(
        envelopeOf(cbor.encode(requestOf("event", image)).toString("base64"), { contentType: "application/cbor" }),
      ),
    ],
  ];
  for (const [event, payload] of forms) await service.publish(event, payload);
  const path = "/api/v3/event/device/name/pump-1?limit=-1";
  await house.until(async () => (await data("GET", path)).body["totalCount"] === 4, "the events at core-data", 15_000);
  const own = await data("GET", path);
  const { events } = own.body as { events: (typeof json)[] };
  for (const [sent] of forms) {
    const kept = events.find(({ id }) => id === sent.id)!;
    assert.equal(kept.origin, sent.origin);
    assert.equal(kept.readings[0].id, sent.readings[0].id);
    assert.equal(kept.readings[0].origin, sent.origin);
    const { binaryValue, value } = kept.readings[0] as unknown as Record<string, unknown>;
    if (sent === image) assert.equal(binaryValue, Buffer.from("kelp").toString("base64"));
    else assert.equal(value, (sent.readings[0] as unknown as Record<string, unknown>)["value"]);
  }
  const through = await gateway("GET", `/core-data${path}`);
  assert.deepEqual(through.body, own.body);
  const byTime = await data("GET", `/api/v3/reading/device/name/pump-1/start/${ORIGIN + 1n}/end/${ORIGIN + 1n}`);
  assert.equal(byTime.body["totalCount"], 1, byTime.text);
});

test("an event whose topic says another device is not kept", async () => {
  const event = eventOf("pump-1", "Flow", { valueType: "Float64", value: "9" });
  await service.publish({ ...event, deviceName: "pump-3" }, stringifyJson(envelopeOf(requestOf("event", event))));
  const last = eventOf("pump-3", "Flow", { valueType: "Float64", value: "1" });
  await service.publish(last, stringifyJson(envelopeOf(requestOf("event", last))));
  await house.until(
    async () => (await data("GET", "/api/v3/event/count/device/name/pump-3")).body["Count"] === 1,
    "the event that came after it",
    15_000,
  );
  assert.equal((await data("GET", `/api/v3/event/id/${event.id}`)).status, 404);
});

test("core-command reads from it and writes to it, under the id of who asks", async () => {
  const id = randomUUID();
  const speedPath = "/api/v3/device/name/pump-1/Speed";
  const written = await command("PUT", speedPath, {
    body: { Speed: "9007199254740993" },
    headers: { "x-correlation-id": id },
  });
  assert.equal(written.status, 200, written.text);
  assert.deepEqual(written.body, { apiVersion: "v3", statusCode: 200 });
  assert.equal(written.headers["x-correlation-id"], id);
  const put = service.commands.at(-1)!;
  assert.deepEqual([put.method, put.path, put.body], ["PUT", speedPath, { Speed: "9007199254740993" }]);
  assert.equal(put.correlationId, id);
  const read = await command("GET", `${speedPath}?ds-pushevent=true`);
  assert.equal(read.status, 200, read.text);
  const { event } = read.body as { event: ReturnType<typeof eventOf> };
  assert.equal(event.id, lastEvent.id);
  assert.equal(event.origin, ORIGIN + 4n);
  assert.equal((event.readings[0] as unknown as { value: string }).value, "9007199254740993");
  const got = service.commands.at(-1)!;
  assert.deepEqual(got.query, { "ds-pushevent": "true", "ds-returnevent": "true", "ds-regexcmd": "true" });
  const through = await gateway("GET", `/core-command${speedPath}`);
  assert.equal(through.status, 200, through.text);
});

test("what the device service refuses is refused with its status and its words", async () => {
  const base = "/api/v3/device/name/pump-1";
  const unknown = await command("GET", `${base}/Flow`);
  assert.deepEqual([unknown.status, unknown.body["message"]], [404, "no Flow"]);
  assert.equal((await command("PUT", `${base}/Flow`, { body: { Flow: "1" } })).status, 405);
  const broken = await command("GET", `${base}/Broken`);
  assert.deepEqual([broken.status, broken.body["message"]], [500, "the pump does not answer"]);
  const locked = [requestOf("device", { name: "pump-3", operatingState: "DOWN" })];
  const patched = await metadata("PATCH", "/api/v3/device?bypassValidation=true", { body: locked });
  assert.equal(patched.list[0]?.["statusCode"], 200, patched.text);
  await heard("the update", ({ topic }) => topic === `edgex/system-events/core-metadata/device/update/${NAME}/Pump`);
  await house.until(
    async () => (await command("GET", "/api/v3/device/name/pump-3/Speed")).status === 423,
    "core-command to know that the device is down",
    5_000,
  );
});

test("started again, it finds itself, its profile and its devices, and tells its new address", async () => {
  await service.stop();
  service = await startService();
  const there = await metadata("GET", `/api/v3/deviceservice/name/${NAME}`);
  assert.equal(there.status, 200);
  const { service: known } = there.body as { service: { id: string; name: string } };
  const own = { id: known.id, name: NAME, baseAddress: service.baseAddress, adminState: "UNLOCKED" };
  const patched = await metadata("PATCH", "/api/v3/deviceservice", { body: [requestOf("service", own)] });
  assert.equal(patched.status, 207);
  assert.equal(patched.list[0]["statusCode"], 200, patched.text);
  const { devices } = (await metadata("GET", `/api/v3/device/service/name/${NAME}?limit=-1&offset=0`)).body as {
    devices: { name: string }[];
  };
  assert.deepEqual(
    devices.map(({ name }) => name),
    ["pump-1", "pump-3", "pump-4"],
  );
  assert.equal((await metadata("GET", "/api/v3/deviceprofile/name/Pump")).status, 200);
  await house.until(
    async () => (await command("GET", "/api/v3/device/name/pump-1/Speed")).status === 200,
    "a command to reach the new address",
    5_000,
  );
});

test("without --open-edgex none of these ports is open", async () => {
  for (const port of Object.values(ports)) assert.equal(await isOpen(port), true, `port ${port} with the flag`);
  await service.stop();
  await house.stop();
  await house.start(["--no-cloud", "--only", "bus,core-metadata,core-data,core-command"]);
  for (const port of Object.values(ports)) assert.equal(await isOpen(port), false, `port ${port}`);
});
