/** HTTP to topics of the bus and back: a real bus behind a real door. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { after, before, test } from "node:test";
import { type GatewayHouse, RawClient, startGateway } from "../../../../test/houses/gateway.ts";
import { main as busMain } from "../../bus/main.ts";
import { ROUTES_MESSAGE } from "../routes.api.ts";

let house: GatewayHouse;
let auth = "";

before(async () => {
  house = await startGateway();
  await house.house.start(busMain);
  auth = `Bearer ${await house.token()}`;
  const access = { scope: "event:write" };
  house.house.tell("gateway", ROUTES_MESSAGE, {
    file: "routes.yaml",
    value: {
      routes: [
        {
          name: "say",
          match: { path: "/topics/{room}" },
          access,
          topic: { publish: "edgex/telemetry/gateway/{room}/said" },
        },
        { name: "spy", match: { path: "/spy" }, access, topic: { listen: ["#"] } },
        {
          name: "hear",
          match: { path: "/events/{room}" },
          access,
          topic: { listen: ["edgex/telemetry/gateway/{room}/#"] },
        },
      ],
    },
  });
});
after(() => house.stop());

async function say(room: string, body: string | Buffer, method = "POST") {
  const client = await RawClient.open(house);
  const head = `${method} /topics/${room} HTTP/1.1\r\nHost: x\r\nAuthorization: ${auth}\r\nContent-Length: ${body.length}\r\n\r\n`;
  client.socket.write(Buffer.concat([Buffer.from(head), Buffer.from(body)]));
  const answer = await client.answer();
  client.socket.destroy();
  return answer;
}

/** Listens, and gives what comes, event by event. */
async function hear(room: string) {
  const headers = { authorization: auth };
  const sent = request({
    host: "127.0.0.1",
    port: house.port,
    ca: house.caPem,
    path: `/events/${room}`,
    headers,
    servername: "localhost",
  });
  sent.end();
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  const events = (async function* () {
    let text = "";
    for await (const chunk of response) {
      text += String(chunk);
      for (let at = text.indexOf("\n\n"); at >= 0; at = text.indexOf("\n\n")) {
        const event = text.slice(0, at);
        text = text.slice(at + 2);
        if (event.startsWith("data: ")) yield JSON.parse(event.slice(6)) as Record<string, unknown>;
      }
    }
  })();
  return { response, next: async () => (await events.next()).value, stop: () => void sent.destroy() };
}

test("a body that is posted is a message, and who listens gets it as an event: JSON, text and bytes", async () => {
  const [kitchen, cellar] = [await hear("kitchen"), await hear("cellar")];
  assert.match(String(kitchen.response.headers["content-type"]), /^text\/event-stream/);
  // The bus listens a moment after the head has gone out: a message is sent until one is heard.
  const heard = new AbortController();
  const first = kitchen.next().finally(() => heard.abort());
  while (!heard.signal.aborted) {
    const answer = await say("kitchen", '{"light":true}');
    assert.equal(answer.status, 202, answer.text);
    assert.equal((JSON.parse(answer.body) as { topic: string }).topic, "edgex/telemetry/gateway/kitchen/said");
  }
  assert.deepEqual(await first, { topic: "edgex/telemetry/gateway/kitchen/said", payload: { light: true } });
  await say("kitchen", "a text");
  await say("kitchen", Buffer.from([0xff, 0]));
  let event = await kitchen.next();
  while (event?.["payload"] !== undefined) event = await kitchen.next();
  assert.equal(event?.["text"], "a text");
  assert.equal((await kitchen.next())?.["base64"], "/wA=");
  kitchen.stop();
  cellar.stop();
});

test("a wildcard or a slash from outside is no level of a topic; a wrong method is told the right one", async () => {
  for (const room of ["%23", "%2B", "a%2Fb", "$SYS"]) {
    const answer = await say(room, "x");
    assert.deepEqual(
      [answer.status, (JSON.parse(answer.body) as { code: string }).code],
      [400, "GATEWAY_TOPIC_REFUSED"],
    );
  }
  const spy = await RawClient.open(house);
  const refused = await spy.send(`GET /spy HTTP/1.1\r\nHost: x\r\nAuthorization: ${auth}\r\n\r\n`).answer();
  assert.deepEqual([refused.status, (JSON.parse(refused.body) as { code: string }).code], [403, "BUS_TOPIC_REFUSED"]);
  spy.socket.destroy();
  const wrong = await say("kitchen", "", "GET");
  assert.deepEqual([wrong.status, wrong.headers["allow"]], [405, "POST, PUT, OPTIONS"]);
});
