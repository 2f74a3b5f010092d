/** WebSockets of the bus: topics heard as frames, questions asked over HTTP, and MQTT itself. A real bus on its own socket. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import mqtt, { type MqttClient } from "mqtt";
import { WebSocket } from "ws";
import { busAtDoor, type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { makeCall } from "../../../kernel/call.ts";
import { bus as busContract } from "../../bus/api.ts";

let house: GatewayHouse;
let stopBus: () => Promise<void>;
let token = "";
const room = "edgex/telemetry/gateway/{room}";

before(async () => {
  house = await startGateway();
  stopBus = await busAtDoor(house);
  token = await house.token();
  const access = { scope: "event:read" };
  const answers = { request: `${room}/asked/{requestId}`, reply: "edgex/telemetry/pump/{room}/{requestId}" };
  house.routes({
    routes: [
      { name: "mqtt", match: { path: "/mqtt" }, access, mqtt: {} },
      { name: "hear", match: { path: "/hear/{room}" }, access, topic: { listen: [`${room}/#`] }, websocket: {} },
      { name: "spy", match: { path: "/spy" }, access, topic: { listen: ["#"] }, websocket: {} },
      { name: "ask", match: { path: "/ask/{room}" }, access: "public", topic: answers, timeoutMs: 2_000 },
      { name: "late", match: { path: "/late/{room}" }, access: "public", topic: answers, timeoutMs: 100 },
    ],
  });
});
after(async () => {
  await stopBus();
  await house.stop();
});

const authorization = () => ({ authorization: `Bearer ${token}` });
const open = (path: string, protocols: string[] = []) =>
  new WebSocket(`wss://localhost:${house.port}${path}`, protocols, { ca: house.caPem, headers: authorization() });

const refusedWith = async (ws: WebSocket): Promise<number> => {
  ws.on("error", () => undefined);
  const [, response] = (await once(ws, "unexpected-response")) as [unknown, { statusCode: number }];
  return response.statusCode;
};

const say = (topic: string, payload: string, caller = "gateway") =>
  house.house
    .connect(busContract, caller)
    .publish({ body: { topic, payload: Buffer.from(payload) } }, makeCall({ caller, timeoutMs: 5_000 }));

/** The next of an event, as a client of its own library tells it. */
const next = <T>(client: MqttClient, event: "connect" | "close" | "message"): Promise<T[]> =>
  new Promise((resolve) => client.once(event, (...given: unknown[]) => resolve(given as T[])));

const person = (clientId: string, more: object = {}): MqttClient =>
  mqtt.connect(`wss://localhost:${house.port}/mqtt`, {
    protocolVersion: 4,
    clientId,
    reconnectPeriod: 0,
    wsOptions: { ca: house.caPem, headers: authorization() },
    ...more,
  });

test("what is said on a topic comes as a frame of JSON; who says something there is told that it only tells", async () => {
  const ws = open("/hear/kitchen");
  await once(ws, "open");
  const first = once(ws, "message");
  await say("edgex/telemetry/gateway/kitchen/light", '{"ns":9223372036854775807}');
  const [data, isBinary] = (await first) as [Buffer, boolean];
  const expected = '{"topic":"edgex/telemetry/gateway/kitchen/light","payload":{"ns":9223372036854775807}}';
  assert.deepEqual([data.toString(), isBinary], [expected, false]);
  const closed = once(ws, "close");
  ws.send("hello?");
  assert.equal((await closed)[0], 1008);
});

test("a topic that the gateway may not hear is refused before anything is switched", async () => {
  assert.equal(await refusedWith(open("/spy")), 403);
});

test("a question is published with its id, and the first message on the topic of its answers answers it", async () => {
  const client = await RawClient.open(house);
  const asked = person("asked");
  await next(asked, "connect");
  await asked.subscribeAsync("edgex/telemetry/gateway/cellar/asked/+");
  asked.on("message", (topic: string, payload: Buffer) => {
    const answer = JSON.stringify({ heard: String(payload) });
    void say(`edgex/telemetry/pump/cellar/${topic.split("/").at(-1)}`, answer, "pump");
  });
  for (const question of ["level?", "again?"]) {
    const head = `POST /ask/cellar HTTP/1.1\r\nHost: x\r\nContent-Length: ${question.length}\r\n\r\n`;
    const answer = await client.send(head + question).answer();
    assert.deepEqual([answer.status, answer.body], [200, JSON.stringify({ heard: question })], answer.text);
    assert.equal(answer.headers["content-type"], "application/json");
  }
  const late = await client.send("POST /late/nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").answer();
  assert.equal(late.status, 504);
  client.socket.destroy();
  await asked.endAsync(true);
});

test("MQTT comes in over a WebSocket: publish, subscribe and QoS 1, with the gateway's rights and no others", async () => {
  const client = person("me");
  await next(client, "connect");
  await client.subscribeAsync("edgex/telemetry/#", { qos: 1 });
  await assert.rejects(
    client.subscribeAsync("edgex/notifications/#"),
    ({ packet }: { packet: { granted: number[] } }) => packet.granted[0] === 128,
  );
  const heard = next<unknown>(client, "message");
  const large = Buffer.alloc(300_000, 5);
  await client.publishAsync("edgex/telemetry/gateway/garden", large, { qos: 1 });
  const [topic, payload] = (await heard) as [string, Buffer];
  assert.ok(topic === "edgex/telemetry/gateway/garden" && payload.equals(large));
  const cut = next(client, "close");
  client.on("error", () => undefined);
  client.publish("edgex/telemetry/device-virtual/forged", "x", { qos: 1 });
  await cut;
});

test("a person's client is nobody else's: the id of another's session is not taken over", async () => {
  const operator = await house.token("operator");
  const as = (bearer: string) => ({ wsOptions: { ca: house.caPem, headers: { authorization: `Bearer ${bearer}` } } });
  const [mine, theirs] = [person("same", as(token)), person("same", as(operator))];
  await Promise.all([next(mine, "connect"), next(theirs, "connect")]);
  await mine.subscribeAsync("edgex/telemetry/gateway/#");
  const heard = next(mine, "message");
  await theirs.publishAsync("edgex/telemetry/gateway/both", "here", { qos: 1 });
  assert.equal(String((await heard)[1]), "here");
  await Promise.all([mine.endAsync(true), theirs.endAsync(true)]);
});

test("a WebSocket that does not speak mqtt, or speaks it in text, is refused ([MQTT-6.0.0-1], [MQTT-6.0.0-3])", async () => {
  assert.equal(await refusedWith(open("/mqtt")), 400);
  const ws = open("/mqtt", ["mqtt"]);
  await once(ws, "open");
  assert.equal(ws.protocol, "mqtt");
  const closed = once(ws, "close");
  ws.send("text");
  assert.equal((await closed)[0], 1003);
  const client = await RawClient.open(house);
  const plain = await client.send(`GET /mqtt HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`).answer();
  assert.equal(plain.status, 426);
  client.socket.destroy();
});
