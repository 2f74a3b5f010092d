/** What waits, and what goes: bytes of the wire a reading, a backlog of 5 million readings, and the cost of a steady stream. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { encodeBlocks } from "../../src/kernel/events/codec.ts";
import { rowToEvent } from "../../src/kernel/events/edgex.ts";
import type { Block } from "../../src/kernel/events/model.ts";
import { stringifyJson } from "../../src/kernel/json.ts";
import { events as encoded, seriesOf, temporary, until } from "../../test/houses/uplink.ts";
import { info, type Row, rowOf } from "../table.ts";
import { BATCH, LIVE_EPOCH, makeRig, type Rig } from "./rig.ts";

const DATA = path.join(import.meta.dirname, "..", "..", "..", "shared", "data");
const BACKLOG_READINGS = 5_000_000;
const LIVE_EVERY_MS = 25;
/** How often live data is measured alone and beside a drain, and for how long each time at most. */
const LIVE_ROUNDS = 3;
const LIVE_SECONDS = 6;
const STEADY = { readingsPerSecond: 30_000, seconds: Number(process.env["BENCH_SECONDS"] ?? 15) };

/** Does something with a node and its cloud, and takes them away. */
async function withRig<T>(work: (rig: Rig) => Promise<T>): Promise<T> {
  const ends: (() => unknown)[] = [];
  const rig = await makeRig(temporary({ after: (end) => void ends.push(end) }));
  try {
    return await work(rig);
  } finally {
    await rig.end();
    for (const end of ends) await end();
  }
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

/** Measures bytes of the wire a reading, HTTP and TLS included, against EdgeX's JSON. */
export async function measureWire(): Promise<Row[]> {
  const name = "smaller than EdgeX JSON";
  if (!existsSync(DATA))
    return [{ name, value: null, unit: "times", met: null, reason: "the recorded series are not here" }];
  return withRig(async (rig) => {
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
    return [
      info(`bytes sent per reading, ${batches} batches of ${BATCH}, HTTP and TLS included`, sent / readings, "bytes"),
      info("EdgeX JSON of the same event, nothing around it", json / readings, "bytes"),
      rowOf(name, json / sent, "times", 60, true),
    ];
  });
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

/** Cuts the link and has all of a backlog gathered behind it. */
async function gather(rig: Rig, epoch: number): Promise<void> {
  rig.wire.mode = "cut";
  rig.wire.drop();
  for (let from = 1; from <= BACKLOG_READINGS / READINGS; from += 500) await rig.append(some(from, from + 499, epoch));
  await until("all wait", async () => (await rig.status()).position >= (await rig.last()), 120_000);
}

const acknowledged = async (rig: Rig): Promise<number> => (await rig.status()).destinations[0].acknowledged.readings;

/** Joins the link, and resolves with the first byte that goes: the pause before it is none of the drain. */
async function join(rig: Rig): Promise<void> {
  rig.wire.mode = "pass";
  const { up } = rig.wire;
  await until("it begins", () => rig.wire.up > up, 90_000);
}

/** Measures a backlog of 5 million readings: memory, a restart with it, how fast it drains, and live data meanwhile. */
export const measureBacklog = (): Promise<Row[]> =>
  withRig(async (rig) => [...(await measureWaiting(rig)), ...(await measureDrain(rig)), ...(await measureLive(rig))]);

const PER_READING_US = 1e6 / BACKLOG_READINGS;
const NAMED = `a backlog of ${BACKLOG_READINGS.toLocaleString("en")} readings`;

async function measureWaiting(rig: Rig): Promise<Row[]> {
  rig.wire.mode = "cut";
  rig.wire.drop();
  const readyMs = await rig.restart();
  const [cpu, memory] = [await rig.pipeline.cpuSeconds(), await rig.pipeline.memoryMiB()];
  await gather(rig, 2_000);
  const used = (await rig.pipeline.cpuSeconds()) - cpu;
  const gathered = (await rig.pipeline.memoryMiB()) - memory;
  const laterMs = (await rig.restart()) - readyMs;
  const grown = (await rig.pipeline.memoryMiB()) - memory;
  return [
    info("CPU of the pipeline to gather a backlog", used * PER_READING_US, "us/reading"),
    rowOf(`memory of the pipeline more when it has gathered ${NAMED}`, gathered, "MiB", 30),
    rowOf(`memory of the pipeline more when it starts with ${NAMED}`, grown, "MiB", 30),
    rowOf(`ready later with ${NAMED}`, laterMs, "ms", 1_000),
  ];
}

async function measureDrain(rig: Rig): Promise<Row[]> {
  const before = await acknowledged(rig);
  const [cloud, own] = [await rig.cloud.cpuSeconds(), await rig.pipeline.cpuSeconds()];
  await join(rig);
  const startMs = performance.now();
  await until("all is there", async () => (await acknowledged(rig)) >= before + BACKLOG_READINGS, 120_000);
  const rate = BACKLOG_READINGS / ((performance.now() - startMs) / 1000);
  return [
    rowOf(`${NAMED} drains over loopback`, rate, "readings/s", 300_000, true),
    info("CPU of the cloud meanwhile", ((await rig.cloud.cpuSeconds()) - cloud) * PER_READING_US, "us/reading"),
    info("CPU of the pipeline meanwhile", ((await rig.pipeline.cpuSeconds()) - own) * PER_READING_US, "us/reading"),
  ];
}

/** Measures live data alone and beside a drain, in turns: what else the machine does is to meet both alike. */
async function measureLive(rig: Rig): Promise<Row[]> {
  const [alone, beside]: number[][] = [[], []];
  let [sequence, drainedReadings, drainedMs] = [1, 0, 0];
  await latencies(rig);
  for (let round = 0; round < LIVE_ROUNDS; round++) {
    let endMs = performance.now() + LIVE_SECONDS * 1000;
    sequence = await live(rig, sequence, () => performance.now() > endMs);
    // None of them is to be cut off from its answer.
    await until("all is there", async () => (await rig.status()).destinations[0].waiting.batches === 0);
    alone.push(...(await latencies(rig)));
    const before = await acknowledged(rig);
    await gather(rig, 2_001 + round);
    await join(rig);
    // Until then the connection is made, and nothing is drained.
    await until("it drains", async () => (await acknowledged(rig)) > before, 90_000);
    const [fromMs, from] = [performance.now(), await acknowledged(rig)];
    let isDone = false;
    const drained = until(
      "it is drained",
      // Who asks without a pause is a load of its own.
      async () => (isDone = (await acknowledged(rig)) >= before + BACKLOG_READINGS) || (await sleep(100, false)),
      300_000,
    );
    endMs = fromMs + LIVE_SECONDS * 1000;
    sequence = await live(rig, sequence, () => isDone || performance.now() > endMs);
    drainedReadings += (await acknowledged(rig)) - from;
    drainedMs += performance.now() - fromMs;
    await drained;
    beside.push(...(await latencies(rig)));
  }
  return [
    info(`p99 of live data alone, ${alone.length} events`, p99(alone), "ms"),
    info(`p99 of live data during a drain, ${beside.length} events`, p99(beside), "ms"),
    rowOf("p99 of live data during a drain, against alone", p99(beside) / p99(alone), "times", 2),
    info("readings of the backlog meanwhile", drainedReadings / (drainedMs / 1000), "readings/s"),
  ];
}

/** Measures what a steady stream costs the pipeline and the cloud. */
export const measureSteady = (): Promise<Row[]> =>
  withRig(async (rig) => {
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
    const name = `CPU of the pipeline at ${Math.round(total / STEADY.seconds)} readings/s in events of ${READINGS}, mutual TLS`;
    return [
      info(name, (used / total) * 1e6, "us/reading"),
      info("the same, as a share of a core", (used / STEADY.seconds) * 100, "%"),
      info("CPU of the cloud meanwhile", (((await rig.cloud.cpuSeconds()) - cloud) / total) * 1e6, "us/reading"),
    ];
  });
