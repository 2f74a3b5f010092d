/**
 * The bus: events made durable against Mosquitto at the same window, what its process costs at 30,000 readings a second
 * over mutual TLS, and how fast a follower reads. The bus runs in a process of its own (this file with `--bus`).
 */
import { fork, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectSocket, createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import mqtt, { type MqttClient } from "mqtt";
import { systemClock as clock } from "../src/kernel/clock.ts";
import { connect } from "../src/kernel/connect.ts";
import { makeCall } from "../src/kernel/call.ts";
import { headOfBlocks } from "../src/kernel/events/codec.ts";
import { createAuthority } from "../src/kernel/identity/authority.ts";
import { makeKeyAndRequest } from "../src/kernel/identity/request.ts";
import { TlsIdentity } from "../src/kernel/identity/tls.ts";
import { makeLog } from "../src/kernel/log.ts";
import { serve } from "../src/kernel/serve.ts";
import { StoreKeys } from "../src/kernel/seal/store-keys.ts";
import { bus, type Bus } from "../src/services/bus/api.ts";
import { batch } from "../test/houses/bus.ts";
import { main } from "../src/services/bus/main.ts";
import { Auditor } from "../src/kernel/audit.ts";
import { Metrics } from "../src/kernel/metrics/metrics.ts";
import { Tracer } from "../src/kernel/trace.ts";

interface Row {
  name: string;
  value: number | null;
  unit: string;
  reach?: number;
  met: boolean | null;
  reason?: string;
}
const rows: Row[] = [];
const WINDOW = 1000;
const RUN_MS = 4_000;
const CORE_SHARE_MAX = 25;
const MOSQUITTO = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].find(existsSync);
const log = makeLog("bench", { level: "error", to: 2 });
const call = (signal?: AbortSignal) =>
  makeCall({ caller: "bench", timeoutMs: signal ? Number.POSITIVE_INFINITY : 15_000, ...(signal ? { signal } : {}) });

interface Hello {
  directory: string;
  caPem: string;
  certPem: string;
  keyPem: string;
}

/** The process that is measured. */
async function runBus(): Promise<void> {
  process.send?.({ ready: true });
  const [hello] = (await once(process, "message")) as [Hello];
  const identity = new TlsIdentity({ node: "edge1", service: "bus", caPem: hello.caPem });
  identity.update(hello);
  const mqttPort = await freePort();
  const tracer = new Tracer("bus", clock);
  const keys = new StoreKeys("bus", [{ id: 0, key: Buffer.alloc(32, 1) }]);
  const started = await main.start({
    name: "bus",
    node: "edge1",
    instance: "bus-1",
    version: "bench",
    directory: hello.directory,
    secrets: {},
    log,
    clock,
    tracer,
    audit: new Auditor(clock),
    metrics: new Metrics(),
    identity,
    config: { sizeBytesMax: 2 ** 31, keepBytes: 0, followers: [], foreignIdsMax: 100_000 },
    key: (purpose) => keys.key(purpose),
    keys: (purpose) => keys.keys(purpose),
    supervisor: { on: () => undefined, send: () => undefined },
    doors: { mqtt: { host: "127.0.0.1", port: mqttPort } },
    connect: () => {
      throw new Error("the bus calls nobody");
    },
    stopping: new AbortController().signal,
  });
  setInterval(() => tracer.take(), 1000);
  const served = await serve({
    contract: bus,
    service: started.service,
    listen: { host: "127.0.0.1", port: 0 },
    identity,
    log,
    clock,
    tracer,
  });
  process.on("message", (asked) => {
    if (asked === "cpu") process.send?.({ cpu: process.cpuUsage(), memory: process.memoryUsage().rss });
  });
  process.send?.({ port: served.port, mqttPort });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

interface Peer {
  child: ChildProcess;
  mqttPort: number;
  as(service: string): Promise<Bus>;
  cpuSeconds(): Promise<number>;
}

async function startBus(directory: string): Promise<Peer> {
  const authority = await createAuthority({ node: "edge1", clock });
  const certificate = async (service: string) => {
    const { keyPem, csrPem } = await makeKeyAndRequest(`spiffe://edge1/service/${service}`);
    const { certPem } = await authority.issue({
      name: `spiffe://edge1/service/${service}`,
      csrPem,
      dns: [],
      ips: [],
      lifetimeMs: 3_600_000,
      client: true,
      server: true,
    });
    return { certPem, keyPem };
  };
  const child = fork(import.meta.filename, ["--bus"], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const said = () => once(child, "message") as Promise<[Record<string, number> & { cpu: NodeJS.CpuUsage }]>;
  await said();
  child.send({ directory, caPem: authority.certPem, ...(await certificate("bus")) });
  const [{ port, mqttPort }] = await said();
  return {
    child,
    mqttPort: mqttPort,
    async as(service) {
      const identity = new TlsIdentity({ node: "edge1", service, caPem: authority.certPem });
      identity.update(await certificate(service));
      const target = { host: "127.0.0.1", port: port, agent: identity.agent("bus"), secure: true };
      return connect(bus, { resolver: { pick: () => target, failed: () => undefined } });
    },
    async cpuSeconds() {
      const answer = said();
      child.send("cpu");
      const [{ cpu }] = await answer;
      return (cpu.user + cpu.system) / 1e6;
    },
  };
}

/** Keeps a window of single-reading events on their way, each flush of it one batch, as the device SDK does. */
async function appendSingles(peer: Peer): Promise<void> {
  const device = await peer.as("device-a");
  const untilMs = performance.now() + RUN_MS;
  const cpu = await peer.cpuSeconds();
  let next = 1;
  // Half the window is being made while the other half is being kept.
  const lane = async () => {
    while (performance.now() < untilMs) {
      const from = next;
      next += WINDOW / 2;
      await device.append({ body: { blocks: batch("device-a", 1, from, next - 1, ["d1", "d2", "d3"]) } }, call());
    }
  };
  const startMs = performance.now();
  await Promise.all([lane(), lane()]);
  const seconds = (performance.now() - startMs) / 1000;
  const perEvent = (((await peer.cpuSeconds()) - cpu) / (next - 1)) * 1e6;
  rows.push({
    name: `single-reading events made durable by append, window ${WINDOW}`,
    value: Math.round((next - 1) / seconds),
    unit: "events/s",
    met: null,
    reason: "no peer has batches",
  });
  rows.push({
    name: "CPU of the bus per event so appended",
    value: Number(perEvent.toFixed(2)),
    unit: "us",
    met: null,
    reason: "no peer has batches",
  });
}

/** 30,000 readings a second in events of 10, flushed every 50 ms, with two followers on it. */
async function steady(peer: Peer): Promise<void> {
  const device = await peer.as("device-b");
  const after = (await (await peer.as("trace")).backlog({}, call())).last;
  const stop = new AbortController();
  const counts = await Promise.all(
    ["core-data", "pipeline"].map(async (follower) => {
      const client = await peer.as(follower);
      const count = { readings: 0, position: after };
      void (async () => {
        for await (const item of client.follow({ follower, after }, call(stop.signal))) {
          for (const { payload } of item.records)
            for (const head of headOfBlocks(payload)) count.readings += head.rows * head.series.resources.length;
          await client.confirm({ body: { follower, position: item.next } }, call());
        }
      })();
      return count;
    }),
  );
  const devices = Array.from({ length: 20 }, (_, i) => `d${i}`);
  const cpu = await peer.cpuSeconds();
  const startMs = performance.now();
  let sent = 0;
  let slowestMs = 0;
  const send = async (from: number, to: number) => {
    const sentMs = performance.now();
    await device.append({ body: { blocks: batch("device-b", 1, from, to, devices, 10) } }, call());
    slowestMs = Math.max(slowestMs, performance.now() - sentMs);
  };
  const flying: Promise<void>[] = [];
  while (performance.now() - startMs < RUN_MS * 2) {
    const from = sent + 1;
    sent = Math.floor((performance.now() - startMs) * 3);
    if (sent >= from) {
      flying.push(send(from, sent));
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await Promise.all(flying);
  const seconds = (performance.now() - startMs) / 1000;
  while (counts.some((c) => c.readings < sent * 10)) await new Promise((resolve) => setTimeout(resolve, 5));
  const share = (((await peer.cpuSeconds()) - cpu) / seconds) * 100;
  stop.abort();
  rows.push({
    name: `CPU of the bus at ${Math.round((sent * 10) / seconds)} readings/s in events of 10, two followers, mutual TLS`,
    value: Number(share.toFixed(1)),
    unit: "% of a core",
    reach: CORE_SHARE_MAX,
    met: share < CORE_SHARE_MAX,
  });
  rows.push({
    name: "slowest append of it",
    value: Math.round(slowestMs),
    unit: "ms",
    met: null,
    reason: "for information",
  });
}

/** Reads all of it again, as a follower that lost its store would. */
async function catchUp(peer: Peer): Promise<void> {
  const client = await peer.as("core-data");
  const { first, last } = await client.backlog({}, call());
  const startMs = performance.now();
  let readings = 0;
  const stop = new AbortController();
  for await (const item of client.follow({ follower: "core-data", after: first - 1 }, call(stop.signal))) {
    for (const { payload } of item.records)
      for (const head of headOfBlocks(payload)) readings += head.rows * head.series.resources.length;
    if (item.next >= last) break;
  }
  rows.push({
    name: "a follower catches up",
    value: Math.round(readings / ((performance.now() - startMs) / 1000)),
    unit: "readings/s",
    met: null,
    reason: "for information",
  });
}

async function publishSingles(port: number): Promise<number> {
  const client = await mqtt.connectAsync({
    host: "127.0.0.1",
    port,
    protocol: "mqtt",
    clientId: "device-c",
    reconnectPeriod: 0,
  });
  let sequence = 0;
  let done = 0;
  const untilMs = performance.now() + RUN_MS;
  const startMs = performance.now();
  const lane = async (of: MqttClient) => {
    while (performance.now() < untilMs) {
      const id = `00000000-0000-4000-8000-${String(++sequence).padStart(12, "0")}`;
      const reading = `{"id":"${id.replace("4000", "4001")}","origin":1700000000123456789,"deviceName":"d1","resourceName":"T","profileName":"P","valueType":"Float64","value":"${sequence / 8}"}`;
      await of.publishAsync(
        "edgex/events/device/device-c/P/d1/T",
        `{"apiVersion":"v3","event":{"apiVersion":"v3","id":"${id}","deviceName":"d1","profileName":"P","sourceName":"T","origin":1700000000123456789,"readings":[${reading}]}}`,
        { qos: 1 },
      );
      done++;
    }
  };
  await Promise.all(Array.from({ length: WINDOW }, () => lane(client)));
  await client.endAsync(true);
  return done / ((performance.now() - startMs) / 1000);
}

/** Saves after every change (`interval` 1: what was acknowledged is on the disk), or as it does by itself (every 1,800 changes: it is not). */
async function mosquitto(directory: string, interval?: number): Promise<number> {
  const port = await freePort();
  const file = path.join(directory, "mosquitto.conf");
  writeFileSync(
    file,
    `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location ${directory}/\nautosave_on_changes true\n${interval === undefined ? "" : `autosave_interval ${interval}\n`}max_inflight_messages 0\nmax_queued_messages 0\nuser root\n`,
  );
  const child = spawn(MOSQUITTO!, ["-c", file], { stdio: "ignore" });
  try {
    for (let tries = 0; ; tries++) {
      const socket = connectSocket(port, "127.0.0.1");
      const isUp = await Promise.race([
        once(socket, "connect").then(() => true),
        once(socket, "close").then(() => false),
      ]).catch(() => false);
      socket.destroy();
      if (isUp) break;
      if (tries === 50) throw new Error("mosquitto did not come up");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const away = await mqtt.connectAsync({
      host: "127.0.0.1",
      port,
      protocol: "mqtt",
      clientId: "away",
      clean: false,
      reconnectPeriod: 0,
    });
    await away.subscribeAsync("edgex/events/#", { qos: 1 });
    await away.endAsync();
    return await publishSingles(port);
  } finally {
    child.kill("SIGKILL");
  }
}

async function bench(): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "holdfast-bench-bus-"));
  const peer = await startBus(directory);
  try {
    await appendSingles(peer);
    await steady(peer);
    await catchUp(peer);
    const own = await publishSingles(peer.mqttPort);
    rows.push({
      name: `MQTT QoS 1 events made durable, window ${WINDOW}`,
      value: Math.round(own),
      unit: "events/s",
      met: null,
      reason: "see the ratio",
    });
    const reach = 10;
    const name = "single-reading events made durable, against Mosquitto that saves every change";
    if (MOSQUITTO && spawnSync(MOSQUITTO, ["-h"]).error === undefined) {
      const theirs = await mosquitto(mkdtempSync(path.join(directory, "mosquitto-")), 1);
      const lazy = await mosquitto(mkdtempSync(path.join(directory, "mosquitto-")));
      const append = rows[0].value!;
      rows.push({
        name: "Mosquitto 2, autosave_on_changes, offline durable subscriber",
        value: Math.round(theirs),
        unit: "events/s",
        met: null,
        reason: "the peer",
      });
      rows.push({
        name: `${name}: by append`,
        value: Number((append / theirs).toFixed(1)),
        unit: "x mosquitto",
        reach,
        met: append / theirs > reach,
      });
      rows.push({
        name: `${name}: by MQTT`,
        value: Number((own / theirs).toFixed(1)),
        unit: "x mosquitto",
        reach,
        met: own / theirs > reach,
      });
      rows.push({
        name: "the same against its default autosave_interval (1,800 changes), which acknowledges what is not on the disk",
        value: Number((append / lazy).toFixed(1)),
        unit: "x mosquitto",
        met: null,
        reason: "not durable, so no peer; for the record",
      });
    } else
      rows.push({ name, value: null, unit: "x mosquitto", reach, met: null, reason: "mosquitto is not installed" });
  } finally {
    peer.child.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  }
  for (const { name, value, unit, reach, met, reason } of rows) {
    console.log(
      `${String(value ?? "-").padStart(9)} ${unit.padEnd(12)} ${name}${reach === undefined ? "" : ` (reach ${reach}: ${met === null ? reason : met ? "met" : "missed"})`}`,
    );
  }
  if (process.argv.includes("--json")) console.log(JSON.stringify({ bench: "bus", rows }));
}

await (process.argv.includes("--bus") ? runBus() : bench());
if (!process.argv.includes("--bus")) process.exit(0);
