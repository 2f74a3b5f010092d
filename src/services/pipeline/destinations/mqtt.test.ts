import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import mqtt, { type IPublishPacket, type MqttClient } from "mqtt";
import { type Broker, startMosquitto } from "../../../../test/houses/brokers.ts";
import { need } from "../../../../test/need.ts";
import type { Failure } from "../../../kernel/error.ts";
import { parseJson } from "../../../kernel/json.ts";
import { batchOf, LIVE, makeTlsFiles, never, senderOf, temporary } from "./fixture.ts";
import type { Sender } from "./sender.ts";

const skip = need("mosquitto");

async function open(t: TestContext, broker: Broker, config: object = {}): Promise<Sender> {
  const sender = await senderOf({ kind: "mqtt", url: `mqtt://127.0.0.1:${broker.port}`, timeoutMs: 5_000, ...config });
  t.after(() => sender.close());
  return sender;
}

/** Somebody who listens to everything. */
async function listen(
  t: TestContext,
  broker: Broker,
): Promise<{ got: IPublishPacket[]; client: MqttClient; count(n: number): Promise<void> }> {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker.port}`, { protocolVersion: 5, reconnectPeriod: 0 });
  client.on("error", () => undefined);
  t.after(() => client.end(true));
  const got: IPublishPacket[] = [];
  client.on("message", (_topic, _payload, packet) => got.push(packet));
  await client.subscribeAsync("#", { qos: 1 });
  return {
    got,
    client,
    async count(n) {
      while (got.length < n) await new Promise((resolve) => client.once("message", resolve));
    },
  };
}

const idsOf = (got: readonly IPublishPacket[]) =>
  got.map(({ properties }) => properties?.userProperties?.["messageId"]);

for (const version of ["3.1.1", "5"] as const)
  test(
    `over MQTT ${version} every event is a message in the topic of its device, in order, with QoS 1`,
    { skip },
    async (t) => {
      const broker = await startMosquitto(t, temporary(t));
      const reader = await listen(t, broker);
      const sender = await open(t, broker, { version });
      const devices = ["a", "b/c#"];
      const batches = [1, 2, 3].map((n) => batchOf(n, { events: 10, devices, extra: { requestId: "req-1" } }));
      assert.deepEqual(await sender.send(LIVE, batches, never), { durable: 3, refused: [] });
      await reader.count(30);
      assert.deepEqual(
        reader.got.slice(0, 2).map(({ topic, qos }) => [topic, qos]),
        [
          ["holdfast/node-1/a/All", 1],
          ["holdfast/node-1/b%2Fc%23/All", 1],
        ],
      );
      const origins = reader.got.map(({ payload }) => (parseJson(payload as Buffer) as { origin: bigint }).origin);
      assert.deepEqual(
        origins,
        origins.toSorted((a, b) => Number(a - b)),
      );
      assert.equal(new Set(origins).size, 30);
      const { properties } = reader.got[0];
      if (version === "3.1.1") return assert.equal(properties?.userProperties, undefined);
      assert.equal(properties?.contentType, "application/json");
      assert.deepEqual(
        { ...properties.userProperties },
        { messageId: "node-1.there.normal.5.1.0", requestId: "req-1" },
      );
    },
  );

test("a list of events a topic, and the last message kept, where the config says so", { skip }, async (t) => {
  const broker = await startMosquitto(t, temporary(t));
  const sender = await open(t, broker, { shape: "events", topic: "x/{device}", retain: true });
  await sender.send(LIVE, [batchOf(1, { events: 10 })], never);
  const reader = await listen(t, broker);
  await reader.count(2);
  assert.deepEqual(
    reader.got
      .map(({ topic, payload }) => [topic, (parseJson(payload as Buffer) as unknown[]).length])
      .toSorted(([a], [b]) => String(a).localeCompare(String(b))),
    [
      ["x/a", 5],
      ["x/b", 5],
    ],
  );
  await assert.rejects(open(t, broker, { topic: "x/{devise}" }), {
    code: "PIPELINE_DESTINATION_INVALID",
    message: /\{devise\}/,
  });
});

test("over TLS with client certificates, and every byte of the wire counted", { skip }, async (t) => {
  const directory = temporary(t);
  const files = await makeTlsFiles(directory);
  const broker = await startMosquitto(t, directory, { tls: files });
  const url = `mqtts://127.0.0.1:${broker.port}`;
  const tls = { caFile: files.ca, certFile: files.clientCert, keyFile: files.clientKey };
  const client = await mqtt.connectAsync(url, {
    ca: readFileSync(files.ca),
    cert: readFileSync(files.clientCert),
    key: readFileSync(files.clientKey),
  });
  t.after(() => client.end(true));
  await client.subscribeAsync("#", { qos: 1 });
  const first = new Promise((resolve) => client.once("message", resolve));
  const sender = await open(t, broker, { url, tls });
  assert.equal((await sender.send(LIVE, [batchOf(1)], never)).durable, 1);
  await first;
  assert.ok(sender.bytes.sent > 1_000 && sender.bytes.received > 500, JSON.stringify(sender.bytes));
  const stranger = await open(t, broker, { url, tls: { caFile: files.ca } });
  await assert.rejects(stranger.send(LIVE, [batchOf(1)], never), { code: "UNAVAILABLE" });
});

test(
  "a broker that is killed and comes back gets what it had not acknowledged, and loses the sender nothing",
  { skip },
  async (t) => {
    const broker = await startMosquitto(t, temporary(t));
    const sender = await open(t, broker);
    assert.equal((await sender.send(LIVE, [batchOf(1)], never)).durable, 1);
    await broker.kill();
    await assert.rejects(sender.send(LIVE, [batchOf(2)], never), { code: "UNAVAILABLE" });
    await assert.rejects(sender.send(LIVE, [batchOf(2)], never), { code: "UNAVAILABLE", message: /ECONNREFUSED/ });
    await broker.start();
    const reader = await listen(t, broker);
    assert.equal((await sender.send(LIVE, [batchOf(2), batchOf(3)], never)).durable, 3);
    await reader.count(4);
    assert.deepEqual(
      idsOf(reader.got),
      ["2.0", "2.1", "3.0", "3.1"].map((id) => `node-1.there.normal.5.${id}`),
    );
  },
);

test(
  "a broker that hangs costs the timeout; what it had acknowledged of a batch is not sent again",
  { skip },
  async (t) => {
    const broker = await startMosquitto(t, temporary(t));
    const reader = await listen(t, broker);
    const sender = await open(t, broker, { timeoutMs: 500 });
    assert.equal((await sender.send(LIVE, [batchOf(1)], never)).durable, 1);
    broker.signal("SIGSTOP");
    await assert.rejects(sender.send(LIVE, [batchOf(2)], never), (error: Failure) => {
      assert.match(error.message, /no acknowledgement within 500 ms/);
      return error.code === "UNAVAILABLE";
    });
    broker.signal("SIGCONT");
    assert.equal((await sender.send(LIVE, [batchOf(2)], never)).durable, 2);
    await reader.count(4);
    // At least once: what was on its way when the broker hung may come twice, with the same id.
    assert.equal(new Set(idsOf(reader.got)).size, 4);
  },
);

test("a message that the broker says it never takes is refused, and the rest goes on", { skip }, async (t) => {
  const broker = await startMosquitto(t, temporary(t), { lines: ["max_packet_size 20000"] });
  const sender = await open(t, broker, { shape: "events", topic: "x" });
  const large = batchOf(1, { events: 200, devices: ["a"] });
  const { durable, refused } = await sender.send(LIVE, [large, batchOf(30)], never);
  assert.equal(durable, 30);
  assert.equal(refused.length, 1);
  assert.match(refused[0].reason, /more than the broker takes \(20000\)/);
});

test("wrong credentials are said, and tried again", { skip }, async (t) => {
  const broker = await startMosquitto(t, temporary(t), { lines: ["allow_anonymous false"] });
  for (const version of ["3.1.1", "5"]) {
    const sender = await open(t, broker, { version, username: "me" });
    await assert.rejects(sender.send(LIVE, [batchOf(1)], never), { code: "UNAVAILABLE", message: /[Nn]ot authorized/ });
  }
});

test("who takes the connection and says nothing is no broker", { skip }, async (t) => {
  const silent = createServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  t.after(() => silent.close());
  const { port } = silent.address() as AddressInfo;
  const sender = await senderOf({ kind: "mqtt", url: `mqtt://127.0.0.1:${port}`, timeoutMs: 200 });
  await assert.rejects(sender.send(LIVE, [batchOf(1)], never), { code: "UNAVAILABLE" });
  await sender.close();
});
