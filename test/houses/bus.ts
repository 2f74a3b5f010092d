/** What the bus's tests and bench share: a house with a bus in it, and events to put in. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { Auditor } from "../../src/kernel/audit.ts";
import { type Call, makeCall } from "../../src/kernel/call.ts";
import { systemClock } from "../../src/kernel/clock.ts";
import { BlockBuilder } from "../../src/kernel/events/blocks.ts";
import { decodeBlocks, encodeBlocks } from "../../src/kernel/events/codec.ts";
import type { Series, Value } from "../../src/kernel/events/model.ts";
import type { TlsIdentity } from "../../src/kernel/identity/tls.ts";
import { makeLog } from "../../src/kernel/log.ts";
import type { ListenAt } from "../../src/kernel/serve.ts";
import { Metrics } from "../../src/kernel/metrics/metrics.ts";
import { Tracer } from "../../src/kernel/trace.ts";
import { StoreKeys } from "../../src/kernel/seal/store-keys.ts";
import { localClient, makeLocalHouse } from "../../src/node/local.ts";
import { type Bus, bus, type FollowItem } from "../../src/services/bus/api.ts";
import { main } from "../../src/services/bus/main.ts";

const KEY = Buffer.alloc(32, 7);
const node = "edge1";
const version = "test";

/** A new directory, removed when the test ends. */
export function temporary(t: { after(work: () => void): void }): string {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-bus-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface BusConfig {
  sizeBytesMax?: number;
  keepBytes?: number;
  followers?: string[];
  foreignIdsMax?: number;
}

export interface Running {
  /** The bus as a service of this name sees it. */
  as(caller: string): Bus;
  readonly lines: Readonly<Record<string, unknown>>[];
  readonly tracer: Tracer;
  health(): { state: string; reason?: string };
  /** The port that a door got. */
  port(door: "mqtt" | "mqtts"): number;
  stop(): Promise<void>;
}

function recorder(): { log: ReturnType<typeof makeLog>; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const to = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  return { log: makeLog("bus", { to }), lines };
}

const portOf = (lines: readonly Record<string, unknown>[], door: string): number => {
  const text = door === "mqtts" ? "MQTT with certificates" : "MQTT without TLS";
  const port = lines.find((line) => String(line["msg"]).startsWith(text))?.["port"];
  if (typeof port !== "number") throw new Error(`the door '${door}' is not open`);
  return port;
};

/** Starts a bus in a house of this process; `open` opens the plain door for MQTT. */
export async function startBus(directory: string, config: BusConfig = {}, open = false): Promise<Running> {
  const { log, lines } = recorder();
  const doors: Record<string, Record<string, ListenAt>> = open ? { bus: { mqtt: { host: "127.0.0.1", port: 0 } } } : {};
  const house = makeLocalHouse({ node, directory, version, log, doors, dataKey: async () => KEY });
  const local = await house.start(main, config);
  return {
    as: (caller) => house.connect(bus, caller),
    lines,
    tracer: local.tracer,
    health: () => local.started.health?.() ?? { state: "passing" },
    port: (door) => portOf(lines, door),
    stop: () => house.stop(),
  };
}

/** Starts a bus as a process of its own would have it: with an identity, and the door for certificates open. */
export async function startSecureBus(directory: string, identity: TlsIdentity): Promise<Running> {
  const { log, lines } = recorder();
  const stopping = new AbortController();
  const tracer = new Tracer("bus", systemClock);
  const doors: Record<string, ListenAt> = { mqtts: { host: "127.0.0.1", port: 0 } };
  const config = { sizeBytesMax: 2 ** 28, keepBytes: 0, followers: [], foreignIdsMax: 1000 };
  const keys = new StoreKeys("bus", [{ id: 0, key: KEY }]);
  const started = await main.start({
    name: "bus",
    node,
    instance: "bus-1",
    version,
    config,
    directory,
    key: (purpose) => keys.key(purpose),
    keys: (purpose) => keys.keys(purpose),
    secrets: {},
    log,
    clock: systemClock,
    tracer,
    audit: new Auditor(systemClock),
    metrics: new Metrics(),
    supervisor: { on: () => undefined, send: () => undefined },
    identity,
    doors,
    connect: () => {
      throw new Error("the bus calls nobody");
    },
    stopping: stopping.signal,
  });
  return {
    as: (caller) => localClient(bus, caller, () => started.service),
    lines,
    tracer,
    health: () => started.health?.() ?? { state: "passing" },
    port: (door) => portOf(lines, door),
    async stop() {
      stopping.abort();
      await started.stop?.();
    },
  };
}

export const call = (signal?: AbortSignal): Call =>
  makeCall({ caller: "test", timeoutMs: signal ? Number.POSITIVE_INFINITY : 20_000, ...(signal ? { signal } : {}) });

export const seriesOf = (device: string, resources = 1): Series => ({
  deviceName: device,
  profileName: "Thermometer",
  sourceName: "All",
  resources: Array.from({ length: resources }, (_, i) => ({ name: `r${i}`, valueType: "Float64" as const })),
});

/** Encodes events `from` to `to` of a publisher, spread over its devices; the value of each is its sequence. */
export function batch(
  name: string,
  epoch: number,
  from: number,
  to: number,
  devices: readonly string[] = ["d1"],
  resources = 1,
): Uint8Array {
  const builder = new BlockBuilder({ publisher: { name, epoch } });
  const series = devices.map((device) => seriesOf(device, resources));
  for (let s = from; s <= to; s++) {
    builder.add(
      series[s % series.length],
      s,
      1_700_000_000_000_000_000n + BigInt(s),
      Array.from({ length: resources }, (): Value => s),
    );
  }
  return encodeBlocks(builder.blocks());
}

/** Follows until `enough`, and gives what came. */
export async function followUntil(
  of: Bus,
  input: Parameters<Bus["follow"]>[0],
  enough: (items: readonly FollowItem[]) => boolean,
): Promise<FollowItem[]> {
  const stop = new AbortController();
  const items: FollowItem[] = [];
  for await (const item of of.follow(input, call(stop.signal))) {
    items.push(item);
    if (enough(items)) break;
  }
  stop.abort();
  return items;
}

/** The events in followed items: publisher, epoch and sequence as text, in order. */
export const eventsIn = (items: readonly FollowItem[]): string[] =>
  items.flatMap(({ records }) =>
    records
      .filter((r) => r.kind === "events")
      .flatMap((r) =>
        decodeBlocks(r.payload).flatMap(({ publisher, sequences }) =>
          sequences.map((s) => `${publisher.name}/${publisher.epoch}/${s}`),
        ),
      ),
  );

export const span = (name: string, epoch: number, from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, i) => `${name}/${epoch}/${from + i}`);

/** Everything in the journal from a position on, as events. */
export async function allEvents(of: Bus, follower: string, after = 0): Promise<string[]> {
  const { last } = await of.backlog({}, call());
  if (last <= after) return [];
  return eventsIn(await followUntil(of, { follower, after }, (items) => (items.at(-1)?.next ?? 0) >= last));
}
