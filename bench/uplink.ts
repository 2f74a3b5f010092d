/**
 * From bus to cloud: bytes of the wire per reading against EdgeX's JSON of the same, how fast a backlog drains, and what
 * pipeline and cloud cost a reading. Both run in processes of their own (this file with `--cloud`, `--pipeline`).
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock as clock } from "../src/kernel/clock.ts";
import { connect } from "../src/kernel/connect.ts";
import { encodeBlocks } from "../src/kernel/events/codec.ts";
import { rowToEvent } from "../src/kernel/events/edgex.ts";
import type { Block } from "../src/kernel/events/model.ts";
import { createAuthority } from "../src/kernel/identity/authority.ts";
import { makeKeyAndRequest } from "../src/kernel/identity/request.ts";
import { TlsIdentity } from "../src/kernel/identity/tls.ts";
import { stringifyJson } from "../src/kernel/json.ts";
import { makeLog } from "../src/kernel/log.ts";
import { serve } from "../src/kernel/serve.ts";
import { type Span, Tracer } from "../src/kernel/trace.ts";
import { deriveKey, localClient, makeLocalHouse } from "../src/node/local.ts";
import { bus } from "../src/services/bus/api.ts";
import { main as busMain } from "../src/services/bus/main.ts";
import { pipeline, type Pipeline } from "../src/services/pipeline/api.ts";
import { main as pipelineMain } from "../src/services/pipeline/main.ts";
import {
  call,
  EDGE,
  events as encoded,
  pipelineOf,
  seriesOf,
  startCloud,
  temporary,
  until,
} from "../test/houses/uplink.ts";
import { Wire } from "../test/houses/wire.ts";
import { report, type Row, rowOf } from "./table.ts";

const DATA = path.join(import.meta.dirname, "..", "..", "shared", "data");
const KEY = Buffer.alloc(32, 5);
const BATCH = 1_000;
const BATCH_MS = 10;
const BACKLOG_READINGS = 5_000_000;
const LIVE_EVERY_MS = 25;
const IDLE_SECONDS = 8;
const DRAIN_SECONDS = 15;
const STEADY = { readingsPerSecond: 30_000, seconds: Number(process.env["BENCH_SECONDS"] ?? 15) };
const rows: Row[] = [];
const log = makeLog("bench", { level: "error", to: 2 });
const info = (name: string, value: number, unit: string): Row => ({
  name,
  value,
  unit,
  met: null,
  reason: "no reach is set",
});

type Asked =
  | { stop: true }
  | { latencies: true }
  | { cpu: true }
  | { code: true }
  | { enroll: { url: string; code: string } }
  | { status: true };

/** A process that answers questions, one at a time. */
class Peer {
  readonly #child: ChildProcess;
  #answered: Promise<unknown> = Promise.resolve();

  constructor(role: string, hello: object) {
    this.#child = fork(import.meta.filename, [role], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      execArgv: process.execArgv,
    });
    this.#child.send(hello);
  }

  async answer<T>(asked?: Asked): Promise<T> {
    // One after the other: an answer does not say what it answers.
    const answered = this.#answered.then(async () => {
      const said = once(this.#child, "message");
      if (asked) this.#child.send(asked);
      return (await said)[0] as T;
    });
    this.#answered = answered;
    return answered;
  }

  async cpuSeconds(): Promise<number> {
    const { cpu } = await this.answer<{ cpu: NodeJS.CpuUsage }>({ cpu: true });
    return (cpu.user + cpu.system) / 1e6;
  }

  async memoryMiB(): Promise<number> {
    return (await this.answer<{ rss: number }>({ cpu: true })).rss / 2 ** 20;
  }

  end(): void {
    this.#child.kill("SIGKILL");
  }
}

/** Events that the latency is measured with are of this epoch, one a batch. */
const LIVE_EPOCH = 9_000;

/** How long it took from the outbox to the cloud's acknowledgement, by the spans of both steps. */
class Latencies {
  readonly #queued = new Map<number, bigint>();
  #ms: number[] = [];

  learn(spans: readonly Span[]): void {
    for (const operation of ["queue", "send"])
      for (const span of spans) {
        if (span.operation !== operation) continue;
        const endNs = span.startNs + BigInt(Math.round(span.durationUs * 1000));
        for (const { epoch, from, to } of span.ranges ?? []) {
          if (epoch !== LIVE_EPOCH) continue;
          if (operation === "queue") this.#queued.set(from, endNs);
          else for (let sequence = from; sequence <= to; sequence++) this.#end(sequence, endNs);
        }
      }
  }

  #end(sequence: number, endNs: bigint): void {
    const startNs = this.#queued.get(sequence);
    if (startNs === undefined || !this.#queued.delete(sequence)) return;
    this.#ms.push(Number(endNs - startNs) / 1e6);
  }

  take(): number[] {
    const taken = this.#ms;
    this.#ms = [];
    return taken;
  }
}

const cpu = () => ({ cpu: process.cpuUsage(), rss: process.memoryUsage().rss });

const answerWith = (answer: (asked: Asked) => Promise<object>): void => {
  process.on("message", (asked: Asked) => void answer(asked).then((found) => process.send?.(found)));
};

async function runCloud(): Promise<void> {
  const [{ directory }] = (await once(process, "message")) as [{ directory: string }];
  const cloud = await startCloud(directory);
  answerWith(async (asked) => ("code" in asked ? { code: await cloud.code() } : cpu()));
  process.send?.({ port: cloud.port });
}

interface Hello {
  directory: string;
  busPort: number;
  caPem: string;
  certPem: string;
  keyPem: string;
}

async function runPipeline(): Promise<void> {
  const [{ directory, busPort, ...certificate }] = (await once(process, "message")) as [Hello];
  const identity = new TlsIdentity({ node: EDGE, service: "pipeline", caPem: certificate.caPem });
  identity.update(certificate);
  const target = { host: "127.0.0.1", port: busPort, agent: identity.agent("bus"), secure: true };
  const tracer = new Tracer("pipeline", clock);
  const startMs = performance.now();
  const stopping = new AbortController();
  const latencies = new Latencies();
  setInterval(() => latencies.learn(tracer.take()), 100);
  const started = await pipelineMain.start({
    name: "pipeline",
    node: EDGE,
    instance: "pipeline-1",
    version: "bench",
    config: {
      rules: {},
      pipelines: { all: pipelineOf(BATCH_MS, BATCH) },
      destinations: {
        cloud: {
          kind: "cloud",
          askEveryMs: 300_000,
          pace: { windows: [], zone: "UTC", overridePriority: 10 },
          uplinks: [],
        },
      },
      outboxBytesMax: 2 ** 30,
      outboxWhenFull: "refuse",
      outboxAgeMsMax: 0,
      backfill: "refuse",
    },
    directory,
    key: (purpose) => deriveKey(KEY, "pipeline", purpose),
    secrets: {},
    log,
    clock,
    tracer,
    supervisor: { on: () => undefined, send: () => undefined },
    identity,
    doors: {},
    connect: (contract) => connect(contract, { resolver: { pick: () => target, failed: () => undefined } }),
    stopping: stopping.signal,
  });
  const own: Pipeline = localClient(pipeline, "gateway", () => started.service);
  answerWith(async (asked) => {
    if ("enroll" in asked) return await own.enroll({ body: asked.enroll }, call());
    if ("stop" in asked) {
      stopping.abort();
      await started.stop?.();
      return {};
    }
    if ("latencies" in asked) return { ms: latencies.take() };
    return "status" in asked ? await own.status({}, call()) : cpu();
  });
  process.send?.({ readyMs: performance.now() - startMs });
}

interface Rig {
  readonly wire: Wire;
  readonly cloud: Peer;
  pipeline: Peer;
  /** Ends the pipeline and starts it anew; answers how long it took until it served. */
  restart(): Promise<number>;
  append(blocks: Uint8Array): Promise<void>;
  /** The end of the bus. */
  last(): Promise<number>;
  status(): Promise<Awaited<ReturnType<Pipeline["status"]>>>;
  end(): Promise<void>;
}

async function makeRig(directory: string): Promise<Rig> {
  const authority = await createAuthority({ node: EDGE, clock });
  const certify = async (service: string) => {
    const name = `spiffe://${EDGE}/service/${service}`;
    const { csrPem, keyPem } = await makeKeyAndRequest(name);
    const { certPem } = await authority.issue({
      csrPem,
      name,
      dns: [],
      ips: [],
      lifetimeMs: 3_600_000,
      client: true,
      server: true,
    });
    return { caPem: authority.certPem, certPem, keyPem };
  };
  const house = makeLocalHouse({ node: EDGE, directory, version: "bench", log, dataKey: async () => KEY });
  const { service } = await house.start(busMain, { sizeBytesMax: 2 ** 31, followers: ["pipeline"], keepBytes: 0 });
  const identity = new TlsIdentity({ node: EDGE, service: "bus", caPem: authority.certPem });
  identity.update(await certify("bus"));
  const served = await serve({
    contract: bus,
    service,
    listen: { host: "127.0.0.1", port: 0 },
    identity,
    log,
    clock,
    tracer: new Tracer("bus", clock),
  });
  const cloud = new Peer("--cloud", { directory: path.join(directory, "cloud") });
  const { port } = await cloud.answer<{ port: number }>();
  const wire = await Wire.open(port);
  const hello = { directory: path.join(directory, "pipeline"), busPort: served.port, ...(await certify("pipeline")) };
  const peer = new Peer("--pipeline", hello);
  await peer.answer();
  const { code } = await cloud.answer<{ code: string }>({ code: true });
  await peer.answer({ enroll: { url: wire.url, code } });
  const device = house.connect(bus, "device-a");
  const rig: Rig = {
    wire,
    cloud,
    pipeline: peer,
    async restart() {
      await rig.pipeline.answer({ stop: true });
      rig.pipeline.end();
      rig.pipeline = new Peer("--pipeline", hello);
      return (await rig.pipeline.answer<{ readyMs: number }>()).readyMs;
    },
    append: async (blocks) => void (await device.append({ body: { blocks } }, call())),
    last: async () => (await house.connect(bus, "pipeline").backlog({}, call())).last,
    status: () => rig.pipeline.answer({ status: true }),
    async end() {
      rig.pipeline.end();
      cloud.end();
      await wire.close();
      await served.close();
      await house.stop();
    },
  };
  return rig;
}

/** The recorded series as one device each, an event of one reading a line. */
function recorded(): Block[] {
  return readdirSync(DATA)
    .filter((name) => name.endsWith(".csv"))
    .map((name, index) => {
      const lines = readFileSync(path.join(DATA, name), "utf8").trim().split("\n").slice(1);
      const series = {
        ...seriesOf(name.slice(0, -4)),
        sourceName: "value",
        resources: [{ name: "value", valueType: "Float64" as const }],
      };
      const cells = lines.map((line) => line.split(","));
      return {
        publisher: { name: "device-a", epoch: index + 1 },
        series,
        sequences: lines.map((_, i) => i + 1),
        origins: cells.map(([stamp]) => BigInt(Date.parse(`${stamp}Z`)) * 1_000_000n),
        columns: [cells.map(([, value]) => Number(value))],
        extras: new Map(),
      };
    });
}

async function measureBytes(rig: Rig): Promise<void> {
  if (!existsSync(DATA)) {
    rows.push({
      name: "bytes of the wire per reading",
      value: null,
      unit: "bytes",
      met: null,
      reason: "the recorded series are not here",
    });
    return;
  }
  let [readings, json, sent, batches] = [0, 0, 0, 0];
  const done = async (events: number) =>
    until(
      "the batch is acknowledged",
      async () => (await rig.status()).destinations[0].acknowledged.events >= events,
      30_000,
    );
  // The first batch opens the connection: its handshake is not counted.
  await rig.append(encoded("device-a", 1, 1, { epoch: 1_000 }));
  await done(1);
  for (const { publisher, series, sequences, origins, columns } of recorded()) {
    for (let from = 0; from + BATCH <= sequences.length; from += BATCH) {
      const cut = <T>(list: readonly T[]): T[] => list.slice(from, from + BATCH);
      const block: Block = {
        publisher,
        series,
        sequences: cut(sequences),
        origins: cut(origins),
        columns: [cut(columns[0])],
        extras: new Map(),
      };
      for (let row = 0; row < BATCH; row++) json += Buffer.byteLength(stringifyJson(rowToEvent(block, row, 7)));
      const before = (await rig.status()).destinations[0].wireBytes.sent;
      await rig.append(encodeBlocks([block]));
      readings += BATCH;
      await done(1 + readings);
      sent += (await rig.status()).destinations[0].wireBytes.sent - before;
      batches++;
    }
  }
  rows.push(
    info(`bytes sent per reading, ${batches} batches of ${BATCH}, HTTP and TLS included`, sent / readings, "bytes"),
  );
  rows.push(info("EdgeX JSON of the same event, nothing around it", json / readings, "bytes"));
  rows.push(rowOf("smaller than EdgeX JSON", json / sent, "times", 60, true));
}

const READINGS = 10;
const devices = Array.from({ length: 20 }, (_, i) => `d${i}`);
const some = (from: number, to: number, epoch: number) =>
  encoded("device-a", from, to, {
    epoch,
    devices,
    resources: READINGS,
    value: (s, k) => Math.round(2_000 * Math.sin(s / 50 + k)) / 100,
  });

/** Sends an event now and then, each in a batch of its own. */
async function live(rig: Rig, from: number, isOver: () => boolean): Promise<number> {
  let sequence = from;
  for (; !isOver(); sequence++) {
    await rig.append(encoded("device-a", sequence, sequence, { epoch: LIVE_EPOCH }));
    await sleep(LIVE_EVERY_MS);
  }
  return sequence;
}

const p99 = (list: readonly number[]): number => list.toSorted((a, b) => a - b)[Math.ceil(list.length * 0.99) - 1];
const latencies = async (rig: Rig): Promise<number[]> =>
  (await rig.pipeline.answer<{ ms: number[] }>({ latencies: true })).ms;

async function measureBacklog(rig: Rig): Promise<void> {
  const acknowledged = async () => (await rig.status()).destinations[0].acknowledged.readings;
  let endMs = performance.now() + IDLE_SECONDS * 1000;
  let sequence = await live(rig, 1, () => performance.now() > endMs);
  await sleep(500);
  const idle = await latencies(rig);
  rig.wire.mode = "cut";
  rig.wire.drop();
  const total = BACKLOG_READINGS / READINGS;
  const readyMs = await rig.restart();
  const [gathering, memory] = [await rig.pipeline.cpuSeconds(), await rig.pipeline.memoryMiB()];
  const before = await acknowledged();
  for (let from = 1; from <= total; from += 500) await rig.append(some(from, from + 499, 2_000));
  await until("all wait", async () => (await rig.status()).position >= (await rig.last()), 120_000);
  const [cloud, own] = [await rig.cloud.cpuSeconds(), await rig.pipeline.cpuSeconds()];
  const per = (seconds: number) => (seconds / BACKLOG_READINGS) * 1e6;
  rows.push(info("CPU of the pipeline to gather a backlog", per(own - gathering), "us/reading"));
  const named = `a backlog of ${BACKLOG_READINGS.toLocaleString("en")} readings`;
  const later = (await rig.restart()) - readyMs;
  rows.push(rowOf(`ready later with ${named}`, later, "ms", 1_000));
  rows.push(rowOf(`memory of the pipeline more with ${named}`, (await rig.pipeline.memoryMiB()) - memory, "MiB", 30));
  const drainCpu = await rig.pipeline.cpuSeconds();
  rig.wire.mode = "pass";
  // From the first byte, not from the end of the pause before it.
  const up = rig.wire.up;
  await until("it begins", () => rig.wire.up > up, 90_000);
  const startMs = performance.now();
  await until("all is there", async () => (await acknowledged()) >= before + BACKLOG_READINGS, 120_000);
  const rate = BACKLOG_READINGS / ((performance.now() - startMs) / 1000);
  rows.push(rowOf(`${named} drains over loopback`, rate, "readings/s", 300_000, true));
  rows.push(info("CPU of the cloud meanwhile", per((await rig.cloud.cpuSeconds()) - cloud), "us/reading"));
  rows.push(info("CPU of the pipeline meanwhile", per((await rig.pipeline.cpuSeconds()) - drainCpu), "us/reading"));
  await latencies(rig);

  rig.wire.mode = "cut";
  rig.wire.drop();
  const again = await acknowledged();
  for (let from = 1; from <= total; from += 500) await rig.append(some(from, from + 499, 2_001));
  await until("all wait", async () => (await rig.status()).position >= (await rig.last()), 120_000);
  rig.wire.mode = "pass";
  const since = rig.wire.up;
  await until("it begins", () => rig.wire.up > since, 90_000);
  const [fromMs, fromReadings] = [performance.now(), await acknowledged()];
  let done = false;
  const drained = until(
    "it is drained",
    async () => (done = (await acknowledged()) >= again + BACKLOG_READINGS),
    300_000,
  );
  endMs = performance.now() + DRAIN_SECONDS * 1000;
  sequence = await live(rig, sequence, () => done || performance.now() > endMs);
  const beside = await latencies(rig);
  const drainedPerS = ((await acknowledged()) - fromReadings) / ((performance.now() - fromMs) / 1000);
  rows.push(info(`p99 of live data alone, ${idle.length} events`, p99(idle), "ms"));
  rows.push(info(`p99 of live data during a drain, ${beside.length} events`, p99(beside), "ms"));
  rows.push(rowOf("p99 of live data during a drain, against alone", p99(beside) / p99(idle), "times", 2));
  rows.push(info("readings of the backlog meanwhile", drainedPerS, "readings/s"));
  await drained;
}

async function measureSteady(rig: Rig): Promise<void> {
  const before = (await rig.status()).destinations[0].acknowledged.readings;
  const [cloud, own] = [await rig.cloud.cpuSeconds(), await rig.pipeline.cpuSeconds()];
  const perMs = STEADY.readingsPerSecond / READINGS / 1000;
  const startMs = performance.now();
  let sent = 0;
  while (performance.now() - startMs < STEADY.seconds * 1000) {
    const to = Math.floor((performance.now() - startMs) * perMs);
    if (to > sent) await rig.append(some(sent + 1, to, 3_000));
    sent = Math.max(sent, to);
    await sleep(50);
  }
  const total = sent * READINGS;
  await until(
    "all is there",
    async () => (await rig.status()).destinations[0].acknowledged.readings >= before + total,
    60_000,
  );
  const used = (await rig.pipeline.cpuSeconds()) - own;
  rows.push(
    info(
      `CPU of the pipeline at ${Math.round(total / STEADY.seconds)} readings/s in events of ${READINGS}, mutual TLS`,
      (used / total) * 1e6,
      "us/reading",
    ),
  );
  rows.push(info("the same, as a share of a core", (used / STEADY.seconds) * 100, "%"));
  rows.push(info("CPU of the cloud meanwhile", (((await rig.cloud.cpuSeconds()) - cloud) / total) * 1e6, "us/reading"));
}

async function bench(): Promise<void> {
  const ends: (() => unknown)[] = [];
  const directory = temporary({ after: (work) => void ends.push(work) });
  const rig = await makeRig(directory);
  try {
    if (!process.argv.includes("--backlog")) await measureBytes(rig);
    await measureBacklog(rig);
    if (!process.argv.includes("--backlog")) await measureSteady(rig);
  } finally {
    await rig.end();
    for (const end of ends) await end();
  }
  report("uplink", rows);
}

if (process.argv.includes("--cloud")) await runCloud();
else if (process.argv.includes("--pipeline")) await runPipeline();
else await bench();
