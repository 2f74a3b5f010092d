/** The whole job, as issue and README promise it: start, memory, throughput, commands, bytes on the wire and on the disk. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { Agent as PlainAgent } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { makeCall } from "../src/kernel/call.ts";
import { connect } from "../src/kernel/connect.ts";
import { cloud as cloudContract } from "../src/services/cloud/api.ts";
import { Whole } from "../test/houses/whole.ts";
import { asker } from "./asker.ts";
import { report, type Row, rowOf } from "./table.ts";

const LOAD = { eventsPerSecond: 3_600, readingsPerEvent: 10, seconds: Number(process.env["BENCH_SECONDS"] ?? 60) };
const IDLE_MS = Number(process.env["BENCH_SECONDS"] ?? 60) * 1000;
const STARTS = 5;
const COMMANDS = 300;
const rows: Row[] = [];
const call = (timeoutMs = 10_000) => makeCall({ caller: "cli", timeoutMs });
const MACHINE = "box";
const quantile = (values: number[], q: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))];

/** The cloud beside a node, asked over its Unix socket: no process has to start for a question. */
function cloudOf(house: Whole) {
  const target = {
    host: "",
    port: 0,
    socketPath: join(house.state, "cloud.sock"),
    agent: new PlainAgent({ keepAlive: true }),
    secure: false,
  };
  return connect(cloudContract, { resolver: { pick: () => target, failed: () => undefined } });
}

async function readingsAtCloud(house: Whole): Promise<number> {
  const { edges } = await cloudOf(house)
    .edges({}, call())
    .catch(() => ({ edges: [] }));
  return edges.reduce((n, edge) => n + edge.readings, 0);
}

/** Whether the cloud has a reading of this node's machine that was made since. */
async function hasReadingSince(house: Whole, sinceMs: number): Promise<boolean> {
  const cloud = cloudOf(house);
  const { edges } = await cloud.edges({}, call()).catch(() => ({ edges: [] }));
  for (const { edge } of edges) {
    const { readings } = await cloud.readings({ edge, device: MACHINE, offset: 0, limit: 1 }, call());
    if (readings.some(({ origin }) => Number(origin) / 1e6 >= sinceMs)) return true;
  }
  return false;
}

/** From exec to every service up and the first reading of this run at the cloud, the state made before. */
async function measureStart(): Promise<void> {
  const house = new Whole({ config: `device-host: { deviceName: ${MACHINE}, interval: 200ms }\n` });
  await house.start();
  await house.stop();
  const times: number[] = [];
  for (let n = 0; n < STARTS; n++) {
    const [startMs, startWallMs] = [performance.now(), Date.now()];
    await house.start();
    while (!(await hasReadingSince(house, startWallMs))) await sleep(10);
    times.push((performance.now() - startMs) / 1000);
    await house.stop();
  }
  await house.remove();
  console.log(`starts: ${times.map((t) => t.toFixed(2)).join(" ")} s`);
  rows.push(
    rowOf("from exec to all up and the first reading of this run at the cloud, median", quantile(times, 0.5), "s", 4),
  );
}

function pssMb(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8").match(/^Pss: +(\d+) kB/m)?.[1] ?? 0) / 1024;
}

/** Memory of supervisor and services after idling, the cloud apart. */
async function measureMemory(compact: boolean): Promise<void> {
  const name = `memory idle, ${compact ? "--compact" : "separate processes"}, PSS`;
  const house = new Whole({ args: compact ? ["--compact"] : [] });
  await house.start();
  await sleep(IDLE_MS);
  const pids = await house.pids();
  const cloud = pids.get("cloud");
  pids.delete("cloud");
  const processes = new Set([house.pid, ...pids.values()].filter((pid) => pid > 0 && (compact || pid !== cloud)));
  rows.push(
    rowOf(
      name,
      [...processes].reduce((mb, pid) => mb + pssMb(pid), 0),
      "MB",
      compact ? 150 : 400,
    ),
  );
  await house.remove();
}

interface Backlog {
  readonly bus: {
    readonly last: number;
    readonly followers: { name: string; position: number }[];
    readonly publishers: { name: string; last: number }[];
  };
  readonly pipeline: { readonly destinations: { waiting: { batches: number } }[] };
}

/** Sustained readings a second, all protection on, generator on the same machine; how old the newest queryable one is. */
async function measureThroughput(): Promise<void> {
  const house = new Whole({
    config: `device-virtual: { loadEventsPerSecond: ${LOAD.eventsPerSecond}, loadReadingsPerEvent: ${LOAD.readingsPerEvent}, loadDevices: 10 }\n`,
  });
  await house.start();
  const ask = await asker(house);
  await sleep(3_000);
  const [startMs, startReadings] = [performance.now(), await readingsAtCloud(house)];
  const ages: number[] = [];
  while (performance.now() - startMs < LOAD.seconds * 1000) {
    const body = await ask("/core-data/api/v3/reading/device/name/load-1?limit=1");
    const origin = Number(/"origin":(\d+)/.exec(body)?.[1] ?? 0) / 1e6;
    ages.push(Date.now() - origin);
    await sleep(200);
  }
  const seconds = (performance.now() - startMs) / 1000;
  const readings = (await readingsAtCloud(house)) - startReadings;
  const { bus, pipeline } = await house.json<Backlog>("backlog");
  const behind = bus.last - Math.min(...bus.followers.map((f) => f.position));
  console.log(
    `throughput: ${readings} readings in ${seconds.toFixed(1)} s at the cloud; followers ${behind} records behind, ${pipeline.destinations[0]?.waiting.batches ?? 0} batches waiting`,
  );
  rows.push(
    rowOf(
      `readings a second at the cloud, ${Math.round(seconds)} s sustained`,
      readings / seconds,
      "readings/s",
      30_000,
      true,
    ),
  );
  rows.push(rowOf("age of the newest queryable reading, p99", quantile(ages, 0.99), "ms", 2_000));
  await house.remove();
}

async function measureCommand(): Promise<void> {
  const house = new Whole();
  await house.start();
  const ask = await asker(house);
  const times: number[] = [];
  for (let n = 0; n < COMMANDS; n++) {
    const startMs = performance.now();
    await ask("/core-command/api/v3/device/name/virtual-1/Int8");
    if (n >= COMMANDS / 3) times.push(performance.now() - startMs);
  }
  rows.push(rowOf("a device command from the gateway and back, p50", quantile(times, 0.5), "ms", 5));
  await house.remove();
}

/** Rows of a bench that stands by itself, under the names of this table. */
async function rowsOf(
  bench: string,
  part: string,
  wanted: readonly (readonly [has: string, name: string, reach: number, over: boolean])[],
): Promise<void> {
  const file = join(import.meta.dirname, `${bench}.ts`);
  const args = ["--no-function-context-cells", file, "--json"];
  const env = { ...process.env, BENCH_ONLY: part };
  const { stdout } = await promisify(execFile)(process.execPath, args, { env, maxBuffer: 16 * 1024 * 1024 });
  const found = (JSON.parse(stdout.trimEnd().split("\n").at(-1)!) as { rows: Row[] }).rows;
  for (const [has, name, reach, over] of wanted) {
    const row = found.find((one) => one.name.includes(has));
    if (row?.value == null)
      rows.push({ name, value: null, unit: "", reach, met: null, reason: row?.reason ?? "not measured" });
    else rows.push(rowOf(name, row.value, row.unit, reach, over));
  }
}

const parts: Record<string, () => Promise<void>> = {
  start: measureStart,
  memory: () => measureMemory(false),
  compact: () => measureMemory(true),
  throughput: measureThroughput,
  command: measureCommand,
  mosquitto: () =>
    rowsOf("bus", "", [
      ["saves every change: by append", "single-reading events made durable, against Mosquitto: our SDK", 10, true],
      ["saves every change: by MQTT", "the same, MQTT QoS 1 on both sides", 10, true],
    ]),
  uplink: () =>
    rowsOf("outbox", "wire", [["smaller than EdgeX JSON", "uplink bytes, smaller than EdgeX's JSON", 60, true]]),
  disk: () => rowsOf("disk", "", [["bytes on the disk", "bytes on the disk per reading in core-data", 8, false]]),
};
const only = process.env["BENCH_ONLY"]?.split(",");
for (const [name, measure] of Object.entries(parts)) if (!only || only.includes(name)) await measure();
report("reading", rows);
