/** Records made durable and taken again, and what of them the disk gets: our outbox against its peers, in rotation. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { info, median, type Row, rowOf } from "../table.ts";
import { startMosquitto } from "./stores/mosquitto.ts";
import { openOwn } from "./stores/own.ts";
import { startPostgres } from "./stores/postgres.ts";
import { startRedis } from "./stores/redis.ts";
import { type Store, WINDOW } from "./stores/store.ts";

const RECORD_BYTES = 200;
/** Of two the median would be the mean of a good and a bad one. */
const ROUNDS = Math.max(3, Number(process.env["BENCH_ROUNDS"] ?? 5));
const ENQUEUE_MS = 1_500;
const GROUP = 10;
const GROUPS = 200;
/** Ticks of a processor's time in /proc, a second (`getconf CLK_TCK` on every Linux that we run on). */
const TICKS_PER_S = 100;

interface Peer {
  readonly name: string;
  readonly start: (directory: string) => Promise<Store | undefined>;
  /** How many times as fast the outbox is to be. */
  readonly reach: number;
}
const PEERS: readonly Peer[] = [
  { name: "Redis Streams, appendfsync always", start: startRedis, reach: 2 },
  { name: "PostgreSQL", start: startPostgres, reach: 3 },
  { name: "Mosquitto, autosave_on_changes true", start: startMosquitto, reach: 20 },
];

interface Speed {
  readonly enqueuedPerS: number;
  readonly drainedPerS: number;
  readonly bothPerS: number;
  /** Of all processes, this one with its client included. */
  readonly cpuUs: number;
}

/** Payload that does not compress, as encoded batches: none of the stores is to have it easier. */
function recordsOf(count: number): Buffer[] {
  let state = 1;
  const bytes = Buffer.alloc(count * RECORD_BYTES);
  for (let at = 0; at < bytes.length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * RECORD_BYTES, (i + 1) * RECORD_BYTES));
}

function cpuUs(store: Store): number {
  const { user, system } = process.cpuUsage();
  let sum = user + system;
  for (const pid of store.pids()) {
    // The name in parentheses may have spaces.
    const words = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
    sum += ((Number(words[11]) + Number(words[12])) / TICKS_PER_S) * 1e6;
  }
  return sum;
}

const writtenBytes = (pid: number | "self"): number =>
  Number(/^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]);

async function speedOf(store: Store, put: (records: readonly Buffer[]) => Promise<void>): Promise<Speed> {
  const records = recordsOf(WINDOW / store.lanes);
  const cpu = cpuUs(store);
  const startMs = performance.now();
  let count = 0;
  const lane = async () => {
    while (performance.now() - startMs < ENQUEUE_MS) {
      await put(records);
      count += records.length;
    }
  };
  await Promise.all(Array.from({ length: store.lanes }, lane));
  const filledMs = performance.now();
  await store.drain(count);
  const endMs = performance.now();
  return {
    enqueuedPerS: count / ((filledMs - startMs) / 1000),
    drainedPerS: count / ((endMs - filledMs) / 1000),
    bothPerS: count / ((endMs - startMs) / 1000),
    cpuUs: (cpuUs(store) - cpu) / count,
  };
}

const medianOf = (speeds: readonly Speed[]): Speed => ({
  enqueuedPerS: median(speeds.map((one) => one.enqueuedPerS)),
  drainedPerS: median(speeds.map((one) => one.drainedPerS)),
  bothPerS: median(speeds.map((one) => one.bothPerS)),
  cpuUs: median(speeds.map((one) => one.cpuUs)),
});

/** Opens all stores that are here, does something with them, and takes them away. */
async function withStores<T>(work: (own: Store, peers: ReadonlyMap<string, Store>) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(path.join(tmpdir(), "holdfast-bench-outbox-"));
  // Servers that do not run as this user must get through.
  chmodSync(directory, 0o711);
  const opened: Store[] = [];
  try {
    const own = await openOwn(directory);
    opened.push(own);
    const peers = new Map<string, Store>();
    for (const { name, start } of PEERS) {
      const folder = path.join(directory, `peer-${peers.size}`);
      mkdirSync(folder, { mode: 0o711 });
      const store = await start(folder);
      if (!store) continue;
      opened.push(store);
      peers.set(name, store);
    }
    return await work(own, peers);
  } finally {
    for (const store of opened) await store.end();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Measures durable enqueue and drain, against the peers. */
export const measureEnqueue = (): Promise<Row[]> =>
  withStores(async (own, peers) => {
    const runs: [string, Store, Store["put"]][] = [own, ...peers.values()].map((store) => [
      store.name,
      store,
      store.put,
    ]);
    for (const store of [own, ...peers.values()])
      if (store.putGroup) runs.push([`${store.name}, in one call for many`, store, store.putGroup]);
    const speeds = new Map<string, Speed[]>(runs.map(([name]) => [name, []]));
    // The first round warms up: code that is not compiled yet, files that do not exist.
    for (let round = -1; round < ROUNDS; round++)
      for (const [name, store, put] of runs) {
        const speed = await speedOf(store, put);
        if (round >= 0) speeds.get(name)!.push(speed);
      }
    const rows: Row[] = [];
    for (const [name, all] of speeds) {
      const speed = medianOf(all);
      rows.push(info(`${name}: enqueued`, speed.enqueuedPerS, "records/s"));
      rows.push(info(`${name}: drained`, speed.drainedPerS, "records/s"));
      rows.push(info(`${name}: CPU, enqueued and drained`, speed.cpuUs, "us/record"));
    }
    for (const { name, reach } of PEERS) {
      const title = `durable enqueue and drain, window ${WINDOW}, against ${name}`;
      const theirs = speeds.get(name);
      if (!theirs) rows.push({ name: title, value: null, unit: "times", reach, met: null, reason: "not installed" });
      else {
        // Round by round: what else the machine does meets both alike.
        const ours = speeds.get(own.name)!;
        const ratios = ours.map((speed, i) => speed.bothPerS / theirs[i].bothPerS);
        rows.push(rowOf(title, median(ratios), "times", reach, true));
        const cpu = median(ours.map((speed, i) => theirs[i].cpuUs / speed.cpuUs));
        rows.push(info(`CPU of ${name} for a record, against ours`, cpu, "times"));
      }
    }
    return rows;
  });

/** Measures what the disk gets for a byte of payload: groups of records, each synced before the next. */
export const measureWritten = (): Promise<Row[]> =>
  withStores(async (own, peers) => {
    const records = recordsOf(GROUP);
    const rows: Row[] = [];
    for (const store of [own, ...peers.values()]) {
      const pids = store.pids().length > 0 ? store.pids() : (["self"] as const);
      const sum = () => pids.reduce<number>((bytes, pid) => bytes + writtenBytes(pid), 0);
      const put = store.putGroup ?? store.put;
      await put(records);
      const before = sum();
      for (let group = 0; group < GROUPS; group++) await put(records);
      const perByte = (sum() - before) / (GROUPS * GROUP * RECORD_BYTES);
      const name = `bytes written per byte of payload, ${GROUP} x ${RECORD_BYTES} bytes a sync: ${store.name}`;
      rows.push(store === own ? rowOf(name, perByte, "bytes", 4) : info(name, perByte, "bytes"));
    }
    return rows;
  });
