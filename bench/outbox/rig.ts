/**
 * A node and its cloud for benches: the bus here, pipeline and cloud in processes of their own (this file, run with their
 * names), over mutual TLS on loopback, and a wire between node and cloud that can be cut.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { Auditor } from "../../src/kernel/audit.ts";
import { systemClock as clock } from "../../src/kernel/clock.ts";
import { connect } from "../../src/kernel/connect.ts";
import { createAuthority } from "../../src/kernel/identity/authority.ts";
import { makeKeyAndRequest } from "../../src/kernel/identity/request.ts";
import { TlsIdentity } from "../../src/kernel/identity/tls.ts";
import { makeLog } from "../../src/kernel/log.ts";
import { Metrics } from "../../src/kernel/metrics/metrics.ts";
import { serve } from "../../src/kernel/serve.ts";
import { type Span, Tracer } from "../../src/kernel/trace.ts";
import { keepHeapSmall } from "../../src/node/heap.ts";
import { StoreKeys } from "../../src/kernel/seal/store-keys.ts";
import { localClient, makeLocalHouse } from "../../src/node/local.ts";
import { bus } from "../../src/services/bus/api.ts";
import { main as busMain } from "../../src/services/bus/main.ts";
import { pipeline, type Pipeline } from "../../src/services/pipeline/api.ts";
import { main as pipelineMain } from "../../src/services/pipeline/main.ts";
import { call, EDGE, pipelineOf, startCloud } from "../../test/houses/uplink.ts";
import { Wire } from "../../test/houses/wire.ts";

/** Events in a batch. */
export const BATCH = 1_000;
const BATCH_MS = 10;
const KEY = Buffer.alloc(32, 5);
const log = makeLog("bench", { level: "error", to: 2 });

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
export const LIVE_EPOCH = 9_000;

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
  const keys = new StoreKeys("pipeline", [{ id: 0, key: KEY }]);
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
    key: (purpose) => keys.key(purpose),
    keys: (purpose) => keys.keys(purpose),
    secrets: {},
    log,
    clock,
    tracer,
    audit: new Auditor(clock),
    metrics: new Metrics(),
    supervisor: { on: () => undefined, send: () => undefined },
    identity,
    doors: {},
    connect: (contract) => connect(contract, { resolver: { pick: () => target, failed: () => undefined } }),
    stopping: stopping.signal,
  });
  // As its process does (node/child.ts).
  keepHeapSmall();
  const own: Pipeline = localClient(pipeline, "gateway", () => started.service);
  answerWith(async (asked) => {
    if ("enroll" in asked) return await own.enroll({ body: asked.enroll }, call());
    if ("stop" in asked) {
      stopping.abort();
      await started.stop?.();
      return {};
    }
    if ("latencies" in asked) {
      latencies.learn(tracer.take());
      return { ms: latencies.take() };
    }
    return "status" in asked ? await own.status({}, call()) : cpu();
  });
  process.send?.({ readyMs: performance.now() - startMs });
}

export interface Rig {
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

export async function makeRig(directory: string): Promise<Rig> {
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

if (process.argv.includes("--cloud")) await runCloud();
else if (process.argv.includes("--pipeline")) await runPipeline();
