import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectSocket } from "node:net";
import { test } from "node:test";
import mqtt, { type IClientOptions, type MqttClient } from "mqtt";
import { encodeCbor } from "../../kernel/cbor.ts";
import { systemClock as clock } from "../../kernel/clock.ts";
import { encodeBlocks, decodeBlocks } from "../../kernel/events/codec.ts";
import { eventToRow } from "../../kernel/events/edgex.ts";
import type { Event } from "../../kernel/edgex.ts";
import { createAuthority } from "../../kernel/identity/authority.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import { TlsIdentity } from "../../kernel/identity/tls.ts";
import { parseJson, stringifyJson } from "../../kernel/json.ts";
import type { BusRecord } from "./api.ts";
import {
  batch,
  call,
  followUntil,
  type Running,
  startBus,
  startSecureBus,
  temporary,
} from "../../../test/houses/bus.ts";
import { blockOf } from "./foreign.ts";

const ORIGIN = 1_700_000_000_123_456_789n;
const topicOf = (device: string, service = "device-virtual") =>
  `edgex/events/device/${service}/P/${device}/Temperature`;
let ids = 0;
const newId = () => `00000000-0000-4000-8000-${String(++ids).padStart(12, "0")}`;

function eventOf(device: string, id = newId()): Event {
  const reading = {
    id: newId(),
    origin: ORIGIN,
    deviceName: device,
    resourceName: "Temperature",
    profileName: "P",
    valueType: "Int64",
    value: "-9223372036854775807",
  };
  return {
    apiVersion: "v3",
    id,
    deviceName: device,
    profileName: "P",
    sourceName: "Temperature",
    origin: ORIGIN,
    readings: [reading],
  };
}

const requestOf = (event: object) => ({ apiVersion: "v3", requestId: newId(), event });
const envelopeOf = (payload: unknown, contentType = "application/json") => ({
  apiVersion: "v3",
  receivedTopic: "",
  correlationID: "12345678-1234-4234-8234-1234567890ab",
  requestID: "",
  errorCode: 0,
  payload,
  contentType,
});

async function connect(port: number, options: IClientOptions = {}): Promise<MqttClient> {
  const client = mqtt.connect({ host: "127.0.0.1", port, protocol: "mqtt", reconnectPeriod: 0, ...options });
  await new Promise<void>((resolve, reject) =>
    client
      .once("connect", () => resolve())
      .once("error", reject)
      .once("close", () => reject(new Error("closed"))),
  );
  return client;
}

const closing = (client: MqttClient): Promise<void> => {
  client.on("error", () => undefined);
  return new Promise((resolve) => client.once("close", () => resolve()));
};
const message = (client: MqttClient): Promise<{ topic: string; text: string }> =>
  new Promise((resolve) => client.once("message", (topic, payload) => resolve({ topic, text: String(payload) })));

async function started(
  t: { after(work: () => Promise<void>): void } & Parameters<typeof temporary>[0],
  config = {},
): Promise<Running & { plain: number }> {
  const bus = await startBus(temporary(t), config, true);
  t.after(() => bus.stop());
  return { ...bus, plain: bus.port("mqtt") };
}

async function records(bus: Running, count: number): Promise<BusRecord[]> {
  const items = await followUntil(
    bus.as("core-data"),
    { follower: "core-data", after: 0 },
    (all) => all.flatMap((i) => i.records).length >= count,
  );
  return items.flatMap((i) => i.records);
}
const blocksIn = (all: readonly BusRecord[]) => all.flatMap((r) => decodeBlocks(r.payload));

test("strangers' events in every form that EdgeX writes reach followers exactly, beyond 2^53, whatever their QoS", async (t) => {
  const bus = await started(t);
  const client = await connect(bus.plain, { clientId: "device-virtual" });
  const blob = Uint8Array.of(1, 2, 253, 255);
  const binary: Event = {
    ...eventOf("f"),
    readings: [{ ...eventOf("f").readings[0], valueType: "Binary", value: null, binaryValue: blob, mediaType: "x/y" }],
  };
  const { deviceName: _d, profileName: _p, origin: _o, resourceName: _r, ...short } = eventOf("g").readings[0];
  const forms: [string, string | Uint8Array][] = [
    ["a", stringifyJson(envelopeOf(requestOf(eventOf("a"))))],
    ["b", stringifyJson(envelopeOf(Buffer.from(stringifyJson(requestOf(eventOf("b")))).toString("base64")))],
    ["c", stringifyJson(requestOf(eventOf("c")))],
    ["d", encodeCbor(envelopeOf(requestOf(eventOf("d"))))],
    ["e", encodeCbor(envelopeOf(encodeCbor(requestOf(eventOf("e"))), "application/cbor"))],
    ["f", stringifyJson(envelopeOf(Buffer.from(encodeCbor(requestOf(binary))).toString("base64"), "application/cbor"))],
    ["g", stringifyJson(envelopeOf(requestOf({ ...eventOf("g"), readings: [short] })))],
  ];
  for (const [i, [device, payload]] of forms.entries())
    await client.publishAsync(topicOf(device), Buffer.from(payload), { qos: (i % 3) as 0 | 1 | 2 });
  const blocks = blocksIn(await records(bus, forms.length));
  assert.deepEqual(
    blocks.map((b) => b.series.deviceName).toSorted(),
    forms.map(([device]) => device),
  );
  assert.ok(blocks.every((b) => b.publisher.name === "~device-virtual" && b.origins[0] === ORIGIN));
  for (const { series, columns, extras } of blocks) {
    assert.deepEqual(columns[0][0], series.deviceName === "f" ? blob : -9223372036854775807n);
    assert.equal(
      extras.get(0)!.requestId,
      series.deviceName === "c" ? undefined : "12345678-1234-4234-8234-1234567890ab",
    );
    assert.ok(extras.get(0)!.ids![0]!.startsWith("00000000-0000-4000-8000-"));
  }
  assert.equal(new Set(blocks.map((b) => b.sequences[0])).size, forms.length);
  await client.endAsync();
});

test("a stranger's event that comes twice is kept once, also after a restart, and over REST", async (t) => {
  const directory = temporary(t);
  let bus = await startBus(directory, {}, true);
  const event = eventOf("a");
  const send = async () => {
    const client = await connect(bus.port("mqtt"));
    for (let i = 0; i < 3; i++)
      await client.publishAsync(topicOf("a"), stringifyJson(envelopeOf(requestOf(event))), { qos: 1 });
    await client.endAsync();
  };
  await send();
  const { epoch } = blocksIn(await records(bus, 1))[0].publisher;
  await bus.stop();
  bus = await startBus(directory, {}, true);
  await send();
  const blocks = encodeBlocks([blockOf(eventToRow(event))]);
  const again = await bus.as("core-data").appendForeign({ body: { publisher: "rest", blocks } }, call());
  assert.deepEqual(again, { position: 1, duplicate: true });
  const other = encodeBlocks([blockOf(eventToRow(eventOf("b")))]);
  const both = await Promise.all(
    [1, 2].map(() => bus.as("core-data").appendForeign({ body: { publisher: "rest", blocks: other } }, call())),
  );
  assert.deepEqual(
    both.map((b) => b.duplicate),
    [false, true],
  );
  const [, rest] = blocksIn(await records(bus, 2));
  assert.equal(rest.publisher.name, "~rest");
  assert.ok(rest.publisher.epoch > epoch, "the bus's epoch grows with every start");
  await bus.stop();
});

test("what is no event, or not that of its topic, is counted, logged and not kept, and its sender lives on", async (t) => {
  const bus = await started(t);
  const client = await connect(bus.plain);
  const good = stringifyJson(envelopeOf(requestOf(eventOf("a"))));
  const wrong: [string, string | Buffer][] = [
    [topicOf("other"), good],
    [topicOf("a").replace("/P/", "/Q/"), good],
    [topicOf("a"), "{"],
    [topicOf("a"), "[]"],
    [topicOf("a"), Buffer.from([0xbf, 0xff, 0xff])],
    [topicOf("a"), "[".repeat(10_000)],
    [topicOf("a"), good.replace(String(ORIGIN), "1.5")],
    [topicOf("a"), good.replace(String(ORIGIN), "99999999999999999999")],
    [topicOf("a"), good.replace('"value":"-9223372036854775807"', '"value":"9223372036854775808"')],
    [topicOf("a"), good.replace('"errorCode":0', '"errorCode":1')],
    [topicOf("a"), stringifyJson(envelopeOf("not base64!"))],
    [topicOf("a"), good.replace('"readings":[', '"readings":[null,')],
    [topicOf("a"), `{"__proto__":{"event":1},"constructor":{}}`],
    ["edgex/events/device", good],
  ];
  for (const [topic, payload] of wrong) await client.publishAsync(topic, payload, { qos: 1 });
  await client.publishAsync(topicOf("a"), good, { qos: 1 });
  assert.equal(blocksIn(await records(bus, 1)).length, 1);
  assert.equal((await bus.as("trace").backlog({}, call())).last, 1);
  assert.ok(
    bus.lines.some((line) => line["code"] === "BUS_EVENT_INVALID" && String(line["msg"]).includes("does not end in")),
  );
  await client.endAsync();
});

test("events of our services reach MQTT subscribers as EdgeX envelopes, in order, once for overlapping filters", async (t) => {
  const bus = await started(t);
  const client = await connect(bus.plain);
  await client.subscribeAsync({
    "edgex/events/device/#": { qos: 0 },
    "edgex/events/device/device-x/Thermometer/d1/All": { qos: 1 },
  });
  const values: string[] = [];
  const done = Promise.withResolvers<void>();
  client.on("message", (topic, payload) => {
    const envelope = parseJson(payload) as { payload: { event: Event }; correlationID: string };
    const { event } = envelope.payload;
    assert.match(envelope.correlationID, /^[0-9a-f-]{36}$/);
    assert.equal(topic, `edgex/events/device/device-x/Thermometer/${event.deviceName}/All`);
    values.push(String(event.readings[0].value));
    if (values.length === 60) done.resolve();
  });
  const device = bus.as("device-x");
  await Promise.all(
    [1, 21, 41].map((s) => device.append({ body: { blocks: batch("device-x", 1, s, s + 19, ["d1", "d2"]) } }, call())),
  );
  await done.promise;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(
    values.map(Number),
    Array.from({ length: 60 }, (_, i) => i + 1),
  );
  await client.endAsync();
});

test("a request over MQTT is answered by a device service's client, or fails at its timeout", async (t) => {
  const bus = await started(t);
  const service = await connect(bus.plain, { clientId: "device-virtual" });
  await service.subscribeAsync("edgex/device-virtual/validate/device");
  service.on("message", (_topic, payload) => {
    const { requestID } = JSON.parse(String(payload)) as { requestID: string };
    void service.publishAsync(
      `edgex/response/device-virtual/${requestID}`,
      JSON.stringify({ ...envelopeOf(null), requestID }),
    );
  });
  const ask = (requestID: string, topic = "edgex/device-virtual/validate/device") =>
    bus.as("core-metadata").request(
      {
        body: {
          topic,
          responseTopic: `edgex/response/device-virtual/${requestID}`,
          payload: Buffer.from(JSON.stringify({ ...envelopeOf({}), requestID })),
          timeoutMs: 300,
        },
      },
      call(),
    );
  const asked = Array.from({ length: 20 }, newId);
  const answers = await Promise.all(asked.map((id) => ask(id)));
  assert.deepEqual(
    answers.map((a) => (JSON.parse(String(Buffer.from(a.payload))) as { requestID: string }).requestID),
    asked,
  );
  await assert.rejects(ask(newId(), "edgex/device-nobody/validate/device"), { code: "BUS_REQUEST_TIMEOUT" });
  await assert.rejects(ask(newId(), "edgex/events/device/x/y/z/w"), { code: "BUS_TOPIC_REFUSED" });
  await service.endAsync();
});

test("our own services listen to what passes, answer requests, and stop when their call does", async (t) => {
  const bus = await started(t);
  const stop = new AbortController();
  const heard = (async () => {
    const topics: string[] = [];
    for await (const { topic, payload } of bus
      .as("device-host")
      .listen({ topics: ["edgex/device-host/validate/device"] }, call(stop.signal))) {
      topics.push(topic);
      const { requestID } = JSON.parse(String(Buffer.from(payload))) as { requestID: string };
      await bus
        .as("device-host")
        .publish({ body: { topic: `edgex/response/device-host/${requestID}`, payload: Buffer.from("{}") } }, call());
    }
    return topics;
  })();
  await new Promise((resolve) => setImmediate(resolve));
  const body = {
    topic: "edgex/device-host/validate/device",
    responseTopic: "edgex/response/device-host/1",
    payload: Buffer.from(`{"requestID":"1"}`),
    timeoutMs: 2000,
  };
  assert.equal(String(Buffer.from((await bus.as("core-metadata").request({ body }, call())).payload)), "{}");
  stop.abort();
  assert.deepEqual(await heard, ["edgex/device-host/validate/device"]);
  await assert.rejects(
    async () => {
      for await (const _ of bus.as("device-host").listen({ topics: ["edgex/events/#"] }, call())) break;
    },
    { code: "BUS_TOPIC_REFUSED" },
  );
});

test("system events are journalled and sent on, to sessions that are away too; wills and retained messages work", async (t) => {
  const bus = await started(t);
  const topic = "edgex/system-events/core-metadata/device/add/device-virtual/P";
  let away = await connect(bus.plain, { clientId: "away", clean: false });
  await away.subscribeAsync("edgex/system-events/#", { qos: 1 });
  await away.endAsync();
  const { position } = await bus.as("core-metadata").publish({ body: { topic, payload: Buffer.from("one") } }, call());
  assert.equal(position, 1);
  const other = await connect(bus.plain, {
    clientId: "other",
    will: { topic: "edgex/system-events/other/device/down", payload: Buffer.from("will"), qos: 1, retain: true },
  });
  await other.publishAsync(topic, "two", { qos: 1 });
  const gone = closing(other);
  other.stream.destroy();
  await gone;
  const got: string[] = [];
  const three = Promise.withResolvers<void>();
  away = mqtt.connect({
    host: "127.0.0.1",
    port: bus.plain,
    protocol: "mqtt",
    clientId: "away",
    clean: false,
    reconnectPeriod: 0,
  });
  away.on("message", (_topic, payload) => got.push(String(payload)) === 3 && three.resolve());
  await three.promise;
  assert.deepEqual(got, ["one", "two", "will"]);
  await away.endAsync();
  const late = await connect(bus.plain);
  const retained = message(late);
  await late.subscribeAsync("edgex/system-events/other/#");
  assert.equal((await retained).text, "will");
  await late.endAsync();
  const items = await followUntil(
    bus.as("trace"),
    { follower: "trace", after: 0, topics: ["edgex/system-events/#"] },
    (all) => all.flatMap((i) => i.records).length === 3,
  );
  assert.ok(items[0].records.every((r) => r.kind === "message"));
});

test("garbage, oversize packets and floods of subscriptions end or limit a connection, and no other", async (t) => {
  const bus = await started(t);
  const good = await connect(bus.plain);
  for (const bytes of [
    Buffer.from("GET / HTTP/1.1\r\n\r\n"),
    Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x01]),
    Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f]),
  ]) {
    const socket = connectSocket(bus.plain, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write(bytes);
    await once(socket, "close");
  }
  const large = await connect(bus.plain);
  const closed = closing(large);
  large.publish("edgex/telemetry/x/y", Buffer.alloc(1_100_000));
  await closed;
  const filters = Array.from({ length: 120 }, (_, i) => `edgex/telemetry/x/${i}`);
  const packet = await new Promise<{ granted: number[] }>((resolve) => {
    good.once("packetreceive", (p) => resolve(p as unknown as { granted: number[] }));
    good.subscribe(filters, () => undefined);
  });
  assert.deepEqual(
    [packet.granted.filter((g) => g === 0).length, packet.granted.filter((g) => g === 128).length],
    [100, 20],
  );
  await good.publishAsync(topicOf("a"), stringifyJson(requestOf(eventOf("a"))), { qos: 1 });
  assert.equal((await records(bus, 1)).length, 1);
  await good.endAsync();
});

test("a client that reads too slowly loses QoS 0 messages, and holds up nobody", async (t) => {
  const bus = await started(t);
  const slow = await connect(bus.plain);
  const quick = await connect(bus.plain);
  for (const client of [slow, quick]) await client.subscribeAsync("edgex/telemetry/#");
  slow.stream.pause();
  (slow.stream as unknown as { read(): null }).read = () => null;
  let got = 0;
  const all = Promise.withResolvers<void>();
  quick.on("message", () => ++got === 100 && all.resolve());
  const sender = await connect(bus.plain);
  for (let i = 0; i < 100; i++) await sender.publishAsync("edgex/telemetry/x/y", Buffer.alloc(100_000), { qos: 1 });
  await all.promise;
  assert.ok(bus.lines.some((line) => String(line["msg"]).includes("reads too slowly")));
  for (const client of [slow, quick, sender]) await client.endAsync(true);
});

test("a message that a later one overtakes is not taken for a duplicate", async (t) => {
  const bus = await started(t);
  const client = await connect(bus.plain);
  await client.subscribeAsync("edgex/telemetry/#", { qos: 1 });
  const got = new Set<string>();
  const all = Promise.withResolvers<void>();
  client.on("message", (_topic, payload) => got.add(String(payload)).size === 300 && all.resolve());
  await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      client.publishAsync("edgex/telemetry/x/y", String(i), { qos: (i % 3) as 0 | 1 | 2 }),
    ),
  );
  await all.promise;
  await client.endAsync();
});

test("while the journal is full an MQTT client waits for its acknowledgement, and gets it when there is room", async (t) => {
  const bus = await started(t, { sizeBytesMax: 2 ** 20, keepBytes: 0, followers: ["core-data"] });
  const client = await connect(bus.plain);
  const payload = Buffer.alloc(60_000, "x");
  let acknowledged = 0;
  const topic = "edgex/system-events/x/y";
  const sent = Array.from({ length: 25 }, () =>
    client.publishAsync(topic, payload, { qos: 1 }).then(() => acknowledged++),
  );
  while (bus.health().state === "passing") await new Promise((resolve) => setTimeout(resolve, 10));
  await new Promise((resolve) => setTimeout(resolve, 50));
  const { last } = await bus.as("trace").backlog({}, call());
  assert.ok(acknowledged < 25);
  await bus.as("core-data").confirm({ body: { follower: "core-data", position: last } }, call());
  await Promise.all(sent);
  await client.endAsync();
});

test("with certificates a client may use the topics of its service's role, and no others", async (t) => {
  const authority = await createAuthority({ node: "edge1", clock });
  const identityOf = async (holder: string, by = authority, kind = "service") => {
    const name = `spiffe://edge1/${kind}/${holder}`;
    const { keyPem, csrPem } = await makeKeyAndRequest(name);
    const { certPem } = await by.issue({
      name,
      csrPem,
      dns: [],
      ips: [],
      lifetimeMs: 3_600_000,
      client: true,
      server: true,
    });
    return { cert: certPem, key: keyPem };
  };
  const own = await identityOf("bus");
  const identity = new TlsIdentity({ node: "edge1", service: "bus", caPem: authority.certPem });
  identity.update({ certPem: own.cert, keyPem: own.key });
  const bus = await startSecureBus(temporary(t), identity);
  t.after(() => bus.stop());
  // The bus has no DNS name in its certificate; a client of ours checks the SPIFFE name instead.
  const unnamed = { checkServerIdentity: () => undefined } as IClientOptions;
  const join = async (holder: string, by = authority, kind = "service") =>
    connect(bus.port("mqtts"), {
      protocol: "mqtts",
      ...(await identityOf(holder, by, kind)),
      ca: authority.certPem,
      ...unnamed,
    });
  const device = await join("device-x");
  const app = await join("app-rules");
  const granted = async (client: MqttClient, filter: string) =>
    (await client.subscribeAsync(filter, { qos: 1 }).catch(() => [{ qos: 128 }]))[0]?.qos;
  assert.equal(await granted(device, "edgex/device/command/request/device-x/#"), 1);
  for (const filter of [
    "edgex/device/command/request/device-y/#",
    "edgex/events/#",
    "#",
    "edgex/device/command/request/+/x/y/get",
  ])
    assert.equal(await granted(device, filter), 128);
  assert.equal(await granted(app, "edgex/events/#"), 1);
  const heard = message(app);
  await device.publishAsync(topicOf("a", "device-x"), stringifyJson(requestOf(eventOf("a"))), { qos: 1 });
  assert.equal((await heard).topic, topicOf("a", "device-x"));
  assert.equal(blocksIn(await records(bus, 1))[0].publisher.name, "~device-x");
  for (const topic of [
    topicOf("a", "device-y"),
    "edgex/system-events/core-metadata/device/add/device-x/P",
    "edgex/response/device-y/1",
    "$SYS/x",
  ]) {
    const client = await join("device-x");
    const closed = closing(client);
    client.publish(topic, stringifyJson(requestOf(eventOf("a"))), { qos: 1 });
    await closed;
  }
  assert.equal((await bus.as("trace").backlog({}, call())).last, 1);
  // A device with a certificate of its own (EST) speaks for itself alone, whatever service it is called like.
  const own7 = await join("pump-7", authority, "device");
  assert.equal(await granted(own7, "edgex/events/#"), 128);
  await own7.publishAsync(topicOf("pump-7", "device-mqtt"), stringifyJson(requestOf(eventOf("pump-7"))), { qos: 1 });
  assert.equal((await bus.as("trace").backlog({}, call())).last, 2);
  for (const [holder, topic] of [
    ["pump-8", topicOf("pump-7", "device-mqtt")],
    ["device-x", "edgex/system-events/device-x/a/b"],
  ] as const) {
    const client = await join(holder, authority, "device");
    const closed = closing(client);
    client.publish(topic, stringifyJson(requestOf(eventOf("pump-7"))), { qos: 1 });
    await closed;
  }
  assert.equal((await bus.as("trace").backlog({}, call())).last, 2);
  await own7.endAsync(true);
  await assert.rejects(join("device-x", await createAuthority({ node: "edge1", clock })));
  await assert.rejects(connect(bus.port("mqtts"), { protocol: "mqtts", rejectUnauthorized: false }));
  await assert.rejects(connect(bus.port("mqtts")));
  await Promise.all([device.endAsync(true), app.endAsync(true)]);
});
