import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import mqtt from "mqtt";
import { type Broker, startMosquitto } from "../../../../../test/houses/brokers.ts";
import { need } from "../../../../../test/need.ts";
import { batchOf, LIVE, never, senderOf, temporary } from "../fixture.ts";
import type { Lane, Sender } from "../sender.ts";
import { REBIRTH } from "./edge-node.ts";
import { decodePayload, encodePayload, type Payload, TYPE } from "./payload.ts";

const skip = need("mosquitto");
const BACKLOG: Lane = { ...LIVE, kind: "backlog" };

async function open(t: TestContext, broker: Broker, config: object = {}): Promise<Sender> {
  const url = `mqtt://127.0.0.1:${broker.port}`;
  const sender = await senderOf({ kind: "sparkplug", url, groupId: "plant", timeoutMs: 5_000, ...config });
  t.after(() => sender.close());
  return sender;
}

interface Host {
  readonly got: { kind: string; topic: string; payload: Payload }[];
  until(kind: string, count?: number): Promise<void>;
  state(online: boolean, timestamp?: number): Promise<void>;
  rebirth(): Promise<void>;
}

/** A host application: hears everything, says STATE and commands. */
async function host(t: TestContext, broker: Broker): Promise<Host> {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker.port}`, { reconnectPeriod: 0 });
  t.after(() => client.end(true));
  const got: Host["got"] = [];
  client.on("message", (topic, bytes) => got.push({ kind: topic.split("/")[2], topic, payload: decodePayload(bytes) }));
  await client.subscribeAsync("spBv1.0/plant/+/node-1/#", { qos: 1 });
  let stamp = 1_000;
  return {
    got,
    async until(kind, count = 1) {
      while (got.filter((message) => message.kind === kind).length < count)
        await new Promise((resolve) => client.once("message", resolve));
    },
    async state(online, timestamp = ++stamp) {
      await client.publishAsync("spBv1.0/STATE/scada", JSON.stringify({ online, timestamp }), { qos: 1, retain: true });
    },
    async rebirth() {
      const metrics = [{ name: REBIRTH, type: TYPE.Boolean, value: true }];
      await client.publishAsync("spBv1.0/plant/NCMD/node-1", encodePayload({ metrics }));
    },
  };
}

const kindsOf = ({ got }: Host) => got.map(({ kind, topic }) => [kind, topic.split("/")[4]].filter(Boolean).join(" "));
const seqsOf = ({ got }: Host) => got.map(({ payload }) => payload.seq);

for (const version of ["3.1.1", "5"] as const)
  test(
    `over MQTT ${version} births come before data, in one count of messages, and data is known by aliases`,
    { skip },
    async (t) => {
      const broker = await startMosquitto(t, temporary(t));
      const scada = await host(t, broker);
      const sender = await open(t, broker, { version });
      assert.deepEqual(await sender.send(LIVE, [batchOf(1, { events: 4 }), batchOf(2)], never), {
        durable: 2,
        refused: [],
      });
      await scada.until("DDATA", 4);
      assert.deepEqual(kindsOf(scada), ["NBIRTH", "DBIRTH a", "DDATA a", "DBIRTH b", "DDATA b", "DDATA a", "DDATA b"]);
      assert.deepEqual(seqsOf(scada), [0, 1, 2, 3, 4, 5, 6]);
      const [nbirth, dbirth, ddata] = scada.got.map(({ payload }) => payload.metrics);
      assert.deepEqual(
        nbirth.map(({ name }) => name),
        ["bdSeq", REBIRTH],
      );
      assert.deepEqual(
        dbirth.map(({ name, alias, type, value }) => [name, alias, type, value]),
        [
          ["Pressure", 1, TYPE.Double, undefined],
          ["Count", 2, TYPE.UInt64, undefined],
        ],
      );
      assert.deepEqual(
        ddata.map(({ name, alias, value, timestampMs, isHistorical }) => [
          name,
          alias,
          value,
          timestampMs,
          isHistorical,
        ]),
        [
          [undefined, 1, 10.5, 1_700_000_000_000, undefined],
          [undefined, 2, 10n, 1_700_000_000_000, undefined],
          [undefined, 1, 12.5, 1_700_000_000_000, undefined],
          [undefined, 2, 12n, 1_700_000_000_000, undefined],
        ],
      );
      await sender.send(BACKLOG, [batchOf(3)], never);
      await scada.until("DDATA", 6);
      assert.ok(scada.got.at(-1)!.payload.metrics.every(({ isHistorical }) => isHistorical === true));
      await sender.close();
      await scada.until("NDEATH");
      const death = scada.got.at(-1)!.payload;
      assert.equal(death.seq, undefined);
      assert.deepEqual(death.metrics[0].value, nbirth[0].value);
    },
  );

test(
  "while the primary host is offline nothing is sent, and what is sent when it goes is not taken as read",
  { skip },
  async (t) => {
    const broker = await startMosquitto(t, temporary(t));
    const scada = await host(t, broker);
    const sender = await open(t, broker, { primaryHostId: "scada" });
    const offline = { code: "UNAVAILABLE", message: /primary host 'scada' is not online/ };
    await assert.rejects(sender.send(LIVE, [batchOf(1)], never), offline);
    await scada.state(false);
    await assert.rejects(sender.send(LIVE, [batchOf(1)], never), offline);
    assert.deepEqual(kindsOf(scada), []);
    await scada.state(true);
    assert.equal((await sendWhenOnline(sender, batchOf(1))).durable, 1);
    await scada.until("DDATA", 2);
    // A word that is older than the last changes nothing.
    await scada.state(false, 3);
    assert.equal((await sender.send(LIVE, [batchOf(2)], never)).durable, 2);
    await scada.state(false);
    await scada.until("NDEATH");
    await assert.rejects(sender.send(LIVE, [batchOf(3)], never), offline);
    await scada.state(true);
    assert.equal((await sendWhenOnline(sender, batchOf(3))).durable, 3);
    await scada.until("NBIRTH", 2);
    const [first, second] = scada.got
      .filter(({ kind }) => kind === "NBIRTH")
      .map(({ payload }) => payload.metrics[0].value);
    assert.notEqual(first, second, "the second life has another bdSeq");
  },
);

/** The host's word is on its way to the broker and from there to the node: the uplink would try again, too. */
async function sendWhenOnline(sender: Sender, batch: ReturnType<typeof batchOf>) {
  for (;;) {
    const sent = await sender.send(LIVE, [batch], never).catch((error: Error) => {
      assert.match(error.message, /is not online/);
    });
    if (sent) return sent;
    // Lets the host's word in.
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test(
  "a host that asks for a rebirth gets births of the node and its devices, with what they said last",
  { skip },
  async (t) => {
    const broker = await startMosquitto(t, temporary(t));
    const scada = await host(t, broker);
    const sender = await open(t, broker);
    await sender.send(LIVE, [batchOf(1)], never);
    await scada.until("DDATA", 2);
    scada.got.length = 0;
    await scada.rebirth();
    await scada.until("DBIRTH", 2);
    assert.deepEqual(
      kindsOf(scada).filter((kind) => kind !== "NCMD"),
      ["NBIRTH", "DBIRTH a", "DBIRTH b"],
    );
    assert.deepEqual(
      scada.got.at(-1)!.payload.metrics.map(({ value }) => value),
      [11.5, 11n],
    );
  },
);

test("a device that falls silent is told dead, and born again with its next reading", { skip }, async (t) => {
  const broker = await startMosquitto(t, temporary(t));
  const scada = await host(t, broker);
  const sender = await open(t, broker, { deviceSilenceMs: 200 });
  await sender.send(LIVE, [batchOf(1, { devices: ["a"] })], never);
  await scada.until("DDEATH");
  await sender.send(LIVE, [batchOf(2, { devices: ["a"] })], never);
  await scada.until("DDATA", 2);
  assert.deepEqual(kindsOf(scada).slice(0, 6), ["NBIRTH", "DBIRTH a", "DDATA a", "DDEATH a", "DBIRTH a", "DDATA a"]);
});

test("a broker that is killed and comes back hears of a new life", { skip }, async (t) => {
  const broker = await startMosquitto(t, temporary(t));
  const sender = await open(t, broker);
  await sender.send(LIVE, [batchOf(1)], never);
  await broker.kill();
  await assert.rejects(sender.send(LIVE, [batchOf(2)], never), { code: "UNAVAILABLE" });
  await broker.start();
  const scada = await host(t, broker);
  assert.equal((await sender.send(LIVE, [batchOf(2)], never)).durable, 2);
  await scada.until("DDATA", 2);
  // What is known of the devices from before the kill is told with the node's birth.
  assert.deepEqual(kindsOf(scada), ["NBIRTH", "DBIRTH a", "DBIRTH b", "DDATA a", "DDATA b"]);
});

test("a node that is cut off is told dead by the broker", { skip }, async (t) => {
  const broker = await startMosquitto(t, temporary(t));
  const scada = await host(t, broker);
  const sender = await open(t, broker, { timeoutMs: 300 });
  await sender.send(LIVE, [batchOf(1)], never);
  broker.signal("SIGSTOP");
  await assert.rejects(sender.send(LIVE, [batchOf(2)], never), { code: "UNAVAILABLE" });
  broker.signal("SIGCONT");
  await scada.until("NDEATH");
});
