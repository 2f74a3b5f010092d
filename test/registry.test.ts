/** docs/registry.md: each of its commands does what the page says, on a whole node with EdgeX's and DNS's doors open. */
import assert from "node:assert/strict";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import mqtt from "mqtt";
import { type Ask, plainDoor } from "./houses/ask.ts";
import { doorsOf, freePorts } from "./houses/edgex.ts";
import { Whole } from "./houses/whole.ts";

const ports = freePorts();
const dnsPort = freePorts()["core-data"];
const house = new Whole({
  args: ["--open-edgex", "--only", "trace,bus,core-metadata,core-data,gateway"],
  doors: { ...doorsOf(ports), "core-keeper.dns": { port: dnsPort } },
});
const page = readFileSync(join(import.meta.dirname, "../docs/registry.md"), "utf8");
const commands = [...page.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, text]) => text.trim().split("\n"));
const keeper: Ask = plainDoor(ports["core-keeper"]);
const resolver = new Resolver({ timeout: 2_000, tries: 2 });

before(async () => {
  await house.start();
  resolver.setServers([`127.0.0.1:${dnsPort}`]);
});
after(() => house.remove());

/** Runs a line of the page: holdfast, curl, dig. */
async function run(line: string): Promise<string> {
  const [program, ...words] = line.match(/'[^']*'|\S+/g)!.map((word) => word.replaceAll("'", ""));
  if (program === "holdfast") return house.text(...words);
  if (program === "dig") {
    const [type, name] = [words.at(-1)!, words.at(-2)!];
    assert.deepEqual(words.slice(0, 3), ["@127.0.0.1", "-p", "8653"]);
    return JSON.stringify(await resolver.resolve(name, type));
  }
  assert.equal(program, "curl", line);
  const option = (name: string) => (words.includes(name) ? words[words.indexOf(name) + 1] : undefined);
  const url = new URL(words.find((word) => word.startsWith("http://"))!);
  assert.equal(url.port, "59890");
  const body = option("-d");
  const answered = await keeper(option("-X") ?? (body === undefined ? "GET" : "POST"), url.pathname + url.search, {
    body,
  });
  assert.ok(answered.status < 300, `${line}: ${answered.status} ${answered.text}`);
  return answered.text;
}

test("every command of the page works", async () => {
  assert.ok(commands.length > 8);
  for (const line of commands) await run(line);
});

test("EdgeX's software is sent to the port of ours that it can speak to, and waits until that is UP", async () => {
  const { body } = await keeper("GET", "/api/v3/registry/serviceId/core-metadata");
  const { host, port, status } = body["registration"] as { host: string; port: number; status: string };
  assert.deepEqual([host, port, status], ["localhost", ports["core-metadata"], "UP"]);
});

test("a service of EdgeX is checked from within the sandbox, listed, and out of it when it dies", async () => {
  const server = createServer((_request, response) => void response.end("{}"));
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const healthCheck = { interval: "200ms", path: "/api/v3/ping", type: "http" };
  const registration = { serviceId: "device-pump", host: "localhost", port, healthCheck };
  const added = await keeper("POST", "/api/v3/registry", { body: { apiVersion: "v3", registration } });
  assert.equal(added.status, 201);
  const isIn = (state: string) => async () => {
    const { body } = await keeper("GET", "/api/v3/registry/serviceId/device-pump");
    return (body["registration"] as { status: string }).status === state;
  };
  await house.until(isIn("UP"), "the check", 10_000);
  assert.match(await house.text("instances", "device-pump"), /passing.*http check/);
  assert.equal((await resolver.resolveSrv("_device-pump._tcp.holdfast.internal"))[0].port, port);
  server.close();
  server.closeAllConnections();
  await house.until(isIn("DOWN"), "the check to fail", 10_000);
});

test("a written key is told to MQTT clients; keys and registrations survive the registry's death by kill -9", async () => {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${ports.mqtt}`, { protocolVersion: 4, reconnectPeriod: 0 });
  await client.subscribeAsync("edgex/configs/edgex/v4/device-pump/Writable/#");
  const told = new Promise<[string, Buffer]>((resolve) =>
    client.once("message", (...got) => resolve([got[0], got[1]])),
  );
  const path = "/api/v3/kvs/key/edgex%2Fv4%2Fdevice%2Dpump%2FWritable%2FLogLevel";
  await keeper("PUT", path, { body: { value: "DEBUG" } });
  const [topic, payload] = await told;
  assert.equal(topic, "edgex/configs/edgex/v4/device-pump/Writable/LogLevel");
  assert.equal((JSON.parse(payload.toString()) as { payload: { value: string } }).payload.value, "DEBUG");
  await client.endAsync();
  const pid = (await house.pids()).get("core-keeper")!;
  process.kill(pid, "SIGKILL");
  // 'status' ends with 1 while a service is not up.
  const now = async () => (await house.pids().catch(() => undefined))?.get("core-keeper") ?? pid;
  await house.until(async () => (await now()) !== pid, "the registry to be back", 30_000);
  const read = async () => (await keeper("GET", `${path}?plaintext=true`).catch(() => undefined))?.text ?? "";
  await house.until(async () => (await read()).includes("DEBUG"), "the key", 10_000);
  await house.until(
    async () => /^core-data .*passing/m.test(await house.text("instances").catch(() => "")),
    "all to be registered again",
    10_000,
  );
});
