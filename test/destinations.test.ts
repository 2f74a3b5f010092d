import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect as connectNats } from "@nats-io/transport-node";
import mqtt from "mqtt";
import { Type } from "typebox";
import { readConfig } from "../src/kernel/config-file.ts";
import { Destinations } from "../src/services/pipeline/destinations/config.ts";
import { batchOf, LIVE, never, senderOf, temporary } from "../src/services/pipeline/destinations/fixture.ts";
import { startMosquitto, startNats } from "./houses/brokers.ts";
import { need } from "./need.ts";

const page = readFileSync(join(import.meta.dirname, "../docs/destinations.md"), "utf8");
const schema = Type.Object({ destinations: Destinations }, { additionalProperties: false });
const examples = [...page.matchAll(/```yaml\n([^]*?)```/g)].flatMap(([, text]) => {
  const { pipeline } = readConfig(text, "docs/destinations.md", [{ key: "pipeline", schema }]);
  return Object.entries((pipeline as { destinations: Destinations }).destinations);
});

test(
  "every example of docs/destinations.md sends to the real server",
  { skip: need("mosquitto", "nats") },
  async (t) => {
    const directory = temporary(t);
    const secret = join(directory, "secret");
    writeFileSync(secret, "s3cret\n");
    const http = createServer((request, response) => request.resume().once("end", () => response.writeHead(204).end()));
    http.listen(0, "127.0.0.1");
    await once(http, "listening");
    t.after(() => http.close());
    const broker = await startMosquitto(t, directory);
    const host = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker.port}`);
    t.after(() => host.end(true));
    await host.publishAsync("spBv1.0/STATE/scada", '{"online":true,"timestamp":1}', { qos: 1, retain: true });
    const nats = await startNats(t, directory);
    const client = await connectNats({ servers: `127.0.0.1:${nats.port}` });
    t.after(() => client.close());
    await (await jetstreamManager(client)).streams.add({ name: "READINGS", subjects: ["plant.>"] });

    // What differs here: the server is on this machine, without TLS, and the files are others.
    const here = {
      https: { url: `http://127.0.0.1:${(http.address() as AddressInfo).port}` },
      mqtt: { url: `mqtt://127.0.0.1:${broker.port}` },
      sparkplug: { url: `mqtt://127.0.0.1:${broker.port}` },
      nats: { url: `nats://127.0.0.1:${nats.port}` },
    } as const;
    const seen = new Set<string>();
    for (const [name, config] of examples) {
      // That of telemetry takes no events: its example is in docs/telemetry.md.
      assert.ok(config.kind !== "cloud" && config.kind !== "otlp");
      const given: Record<string, unknown> = { ...config, ...here[config.kind] };
      if ("passwordFile" in given) given["passwordFile"] = secret;
      if ("headerFiles" in given) given["headerFiles"] = { Authorization: secret };
      delete given["credentialsFile"];
      const sender = await senderOf(given, name);
      t.after(() => sender.close());
      assert.deepEqual(await sender.send(LIVE, [batchOf(1)], never), { durable: 1, refused: [] }, name);
      seen.add(config.kind);
    }
    assert.deepEqual(seen, new Set(["https", "mqtt", "sparkplug", "nats"]));
  },
);
