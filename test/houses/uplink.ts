/** What the tests and benches of pipeline and cloud share: a cloud on real sockets, a node of bus and pipeline, the wire between. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { type Call, makeCall } from "../../src/kernel/call.ts";
import { type Clock, systemClock } from "../../src/kernel/clock.ts";
import type { Service } from "../../src/kernel/contract.ts";
import { BlockBuilder } from "../../src/kernel/events/blocks.ts";
import { encodeBlocks } from "../../src/kernel/events/codec.ts";
import type { Block, Extra, Series, Value } from "../../src/kernel/events/model.ts";
import { makeLog } from "../../src/kernel/log.ts";
import type { TlsIdentity } from "../../src/kernel/identity/tls.ts";
import { serve } from "../../src/kernel/serve.ts";
import { Tracer } from "../../src/kernel/trace.ts";
import { type LocalHouse, localClient, makeLocalHouse } from "../../src/node/local.ts";
import { type Bus, bus } from "../../src/services/bus/api.ts";
import { main as busMain } from "../../src/services/bus/main.ts";
import { type Cloud, cloud } from "../../src/services/cloud/api.ts";
import { main as cloudMain } from "../../src/services/cloud/main.ts";
import { type Destination, type Pipeline, pipeline } from "../../src/services/pipeline/api.ts";
import type { FunctionSpec, PipelineDefinition } from "../../src/services/pipeline/pipelines/definition.ts";
import { main as pipelineMain } from "../../src/services/pipeline/main.ts";

const KEY = Buffer.alloc(32, 9);
export const EDGE = "edge1";

export type After = { after(work: () => unknown): void };
export type Lines = Readonly<Record<string, unknown>>[];

/** A new directory, removed when the test ends. */
export function temporary(t: After): string {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-uplink-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export const call = (timeoutMs = 30_000): Call => makeCall({ caller: "test", timeoutMs });

/** Waits until something holds, and fails when that takes too long. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`it took too long until ${what}`);
    await sleep(5);
  }
}

function recorder(service: string): { log: ReturnType<typeof makeLog>; lines: Lines } {
  const lines: Record<string, unknown>[] = [];
  const to = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  return { log: makeLog(service, { to }), lines };
}

export interface CloudOptions {
  readonly port?: number;
  readonly name?: string;
  readonly clock?: Clock;
  readonly nodeCertificateDays?: number;
  /** Puts something in front of the service. */
  readonly wrap?: (service: Cloud) => Cloud;
}

export interface RunningCloud {
  readonly url: string;
  readonly port: number;
  readonly identity: TlsIdentity;
  readonly lines: Lines;
  /** The cloud as the command line sees it. */
  readonly cli: Cloud;
  /** The cloud as a node sees it, without the wire. */
  as(caller: string): Cloud;
  code(lifetimeS?: number): Promise<string>;
  audit(edge?: string): ReturnType<Cloud["audit"]>;
  stop(): Promise<void>;
}

/** Starts a cloud on a socket of its own, with its own identity. */
export async function startCloud(directory: string, options: CloudOptions = {}): Promise<RunningCloud> {
  const { log, lines } = recorder("cloud");
  const clock = options.clock ?? systemClock;
  const house = makeLocalHouse({ node: "there", directory, version: "test", log, clock, dataKey: async () => KEY });
  const { name = "cloud", nodeCertificateDays = 365, wrap, port = 0 } = options;
  const { started, service } = await house.start(cloudMain, { name, nodeCertificateDays });
  const served = await serve({
    contract: cloud,
    service: wrap ? wrap(service) : service,
    listen: { host: "127.0.0.1", port },
    identity: started.identity!,
    log,
    clock,
    tracer: new Tracer("cloud", clock),
  });
  const cli = house.connect(cloud, "cli");
  return {
    url: `https://127.0.0.1:${served.port}`,
    port: served.port,
    identity: started.identity!,
    lines,
    cli,
    as: (caller) => localClient(cloud, caller, () => service),
    code: async (lifetimeS = 60) => (await cli.newCode({ body: { lifetimeS } }, call())).code,
    audit: (edge = EDGE) => cli.audit({ edge }, call(60_000)),
    async stop() {
      await served.close();
      await house.stop();
    },
  };
}

export interface NodeConfig {
  readonly bus?: Partial<{ sizeBytesMax: number; keepBytes: number }>;
  readonly pipeline?: Partial<{
    batchEvents: number;
    batchMs: number;
    outboxBytesMax: number;
    outboxWhenFull: "refuse" | "drop";
    outboxAgeMsMax: number;
    destinations: Record<string, unknown>;
    /** Of the one pipeline, before its batches are made. */
    functions: readonly FunctionSpec[];
    /** Instead of that one. */
    pipelines: Readonly<Record<string, PipelineDefinition>>;
  }>;
}

export interface RunningNode {
  readonly house: LocalHouse;
  readonly lines: Lines;
  readonly bus: Bus;
  readonly pipeline: Pipeline;
  destination(): Promise<Destination>;
  enroll(url: string, code: string): Promise<{ edge: string; url: string }>;
  /** Appends events of a publisher to the bus. */
  append(name: string, blocks: Uint8Array): Promise<void>;
  spans(): readonly { operation: string; service: string; note?: string }[];
  stop(): Promise<void>;
}

/** The definition of a pipeline of all events. */
export function pipelineOf(
  timeIntervalMs: number,
  batchThreshold = 1_000,
  functions: readonly FunctionSpec[] = [],
  priority = 5,
): PipelineDefinition {
  const batch = { function: "BatchByTimeAndCount" as const, batchThreshold, timeIntervalMs };
  const all = { topics: [], destinations: ["cloud"], priority, ttlMs: 0, from: "oldest" as const };
  return { ...all, functions: [...functions, batch] };
}

/** Starts bus and pipeline in this process. */
export async function startNode(
  directory: string,
  config: NodeConfig = {},
  clock: Clock = systemClock,
): Promise<RunningNode> {
  const { log, lines } = recorder("node");
  const house = makeLocalHouse({ node: EDGE, directory, version: "test", log, clock, dataKey: async () => KEY });
  await house.start(busMain, { keepBytes: 0, ...config.bus });
  const { batchEvents, batchMs = 20, functions, ...settings } = config.pipeline ?? {};
  const pipelines = { all: pipelineOf(batchMs, batchEvents, functions) };
  const { tracer } = await house.start(pipelineMain, { pipelines, ...settings } as object);
  const asGateway: Service<typeof pipeline> = house.connect(pipeline, "gateway");
  return {
    house,
    lines,
    bus: house.connect(bus, "pipeline"),
    pipeline: asGateway,
    destination: async () => (await asGateway.status({}, call())).destinations[0],
    enroll: (url, code) => asGateway.enroll({ body: { url, code } }, call()),
    append: async (name, blocks) => void (await house.connect(bus, name).append({ body: { blocks } }, call())),
    spans: () => tracer.take(),
    stop: () => house.stop(),
  };
}

export const seriesOf = (
  device: string,
  resources = 1,
  type: Series["resources"][0]["valueType"] = "Float64",
): Series => ({
  deviceName: device,
  profileName: "Thermometer",
  sourceName: "All",
  resources: Array.from({ length: resources }, (_, i) => ({ name: `r${i}`, valueType: type })),
});

export interface EventsOptions {
  readonly epoch?: number;
  readonly devices?: readonly string[];
  readonly resources?: number;
  readonly extra?: Extra;
  readonly value?: (sequence: number, resource: number) => Value;
}

/** Builds events `from` to `to` of a publisher, one after the other of its devices; the value of each is its sequence unless told. */
export function blocksOf(name: string, from: number, to: number, options: EventsOptions = {}): Block[] {
  const { epoch = 1, devices = ["d1"], resources = 1, extra, value = (sequence) => sequence } = options;
  const builder = new BlockBuilder({ publisher: { name, epoch } });
  const series = devices.map((device) => seriesOf(device, resources));
  for (let s = from; s <= to; s++) {
    const values = Array.from({ length: resources }, (_, k) => value(s, k));
    builder.add(series[s % series.length], s, 1_700_000_000_000_000_000n + BigInt(s) * 1_000_000n, values, extra);
  }
  return builder.blocks();
}

export const events = (name: string, from: number, to: number, options: EventsOptions = {}): Uint8Array =>
  encodeBlocks(blocksOf(name, from, to, options));
