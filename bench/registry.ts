/**
 * The registry: how fast a death is known to 50 watchers, what a pick and a lookup cost, a herd that comes back, a registry
 * that is dead under load, and what must never happen. etcd runs beside it where the machine has one.
 */
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../src/kernel/call.ts";
import { systemClock } from "../src/kernel/clock.ts";
import { connect } from "../src/kernel/connect.ts";
import { asFailure } from "../src/kernel/error.ts";
import { createAuthority } from "../src/kernel/identity/authority.ts";
import { startHerd } from "../test/houses/herd.ts";
import { echo, holdEcho, instanceOf, NODE, observe, papersOf } from "../test/houses/registry.ts";
import { startEtcd } from "./etcd.ts";
import { clockSteps, cut, deaths, deathsAtEtcd } from "./registry/deaths.ts";
import { lookups } from "./registry/lookups.ts";
import { type Bench, calling, end, freePort, serveAlone } from "./registry/rig.ts";
import { report, type Row, rowOf } from "./table.ts";

const WATCHERS = 50;
const CLIENTS = 200;
const TRIES = 10_000;
/** `--outage=600` for ten minutes. */
const OUTAGE_MS = 1_000 * Number(/--outage=(\d+)/.exec(process.argv.join(" "))?.[1] ?? 5);
/** `--only=deaths,lookups`: not all of it. */
const ONLY = /--only=([a-z,]+)/.exec(process.argv.join(" "))?.[1].split(",");

/** All clients lose the registry at once, and come back to a new one at its port. */
async function herdReturns(bench: Bench, serving: ChildProcess): Promise<ChildProcess> {
  const { rows, registryPort } = bench;
  const papers = await bench.papers("core-data");
  const half = { papers, registryPort, holders: CLIENTS / 2, watchers: WATCHERS / 2 };
  const herds = await Promise.all(["a", "b"].map((name) => startHerd({ ...half, name })));
  await end(serving);
  const startMs = performance.now();
  const again = await serveAlone(bench);
  const { registry, stop } = await observe(await bench.papers("node"), registryPort);
  for (;;) {
    const { instances } = await registry.instances({ service: "core-data" }, calling());
    if (instances.filter(({ state }) => state === "passing").length === CLIENTS) break;
    await sleep(20);
  }
  const name = `${CLIENTS} clients and ${WATCHERS} watchers from the registry's death until all are passing at the next`;
  rows.push(rowOf(name, performance.now() - startMs, "ms", 5_000));
  stop();
  for (const child of herds) await end(child);
  return again;
}

/** Calls go on while the registry is dead. */
async function outage(bench: Bench, serving: ChildProcess): Promise<ChildProcess> {
  const { rows, registryPort } = bench;
  const papers = await bench.papers("core-data");
  const helds = await Promise.all(["x", "y"].map((instance) => holdEcho({ papers, registryPort, instance })));
  const observer = await observe(await bench.papers("node"), registryPort);
  const client = connect(echo, { resolver: observer.resolver });
  const count = { asked: 0, failed: 0, isOver: false };
  const load = (async () => {
    while (!count.isOver) {
      count.asked++;
      await client.who({}, calling()).catch(() => count.failed++);
      await sleep(2);
    }
  })();
  await end(serving);
  await sleep(OUTAGE_MS);
  const again = await serveAlone(bench);
  const startMs = performance.now();
  const whole = () => observer.table.of("core-data").filter(({ confirmed }) => confirmed).length === helds.length;
  await observer.told(whole);
  const consistentMs = performance.now() - startMs;
  count.isOver = true;
  await load;
  rows.push(
    rowOf(`calls failed of ${count.asked}, registry dead for ${OUTAGE_MS / 1_000} s of it`, count.failed, "", 1),
  );
  rows.push(rowOf("consistent after it returns", consistentMs, "ms", 2_000));
  observer.stop();
  for (const held of helds) await held.stop();
  return again;
}

/** What must never happen, ten thousand times. */
async function never(bench: Bench): Promise<void> {
  const { rows, registryPort } = bench;
  const liar = await observe(await bench.papers("device-x"), registryPort);
  const inTurns = async (work: (n: number) => Promise<void>) => {
    let next = 0;
    const lane = async () => {
      while (next < TRIES) await work(next++);
    };
    await Promise.all(Array.from({ length: 8 }, lane));
  };
  let accepted = 0;
  await inTurns(async (n) => {
    const call = makeCall({ caller: "core-data", timeoutMs: 15_000 });
    try {
      for await (const _ of liar.registry.hold({ instance: instanceOf("core-data", `liar-${n}`) }, call)) {
        accepted++;
        break;
      }
    } catch (error) {
      if (asFailure(error).code !== "REGISTRY_NAME_REFUSED") throw error;
    }
    call.end(true);
  });
  rows.push(rowOf(`registrations under a foreign name accepted, of ${TRIES}`, accepted, "", 1));
  liar.stop();
  const held = await holdEcho({ papers: await bench.papers("core-data"), registryPort, instance: "second" });
  const { identity, stop } = await observe(await bench.papers("node"), registryPort);
  const target = {
    instance: "first",
    host: "127.0.0.1",
    port: held.port,
    agent: identity.agent("core-data"),
    secure: true,
  };
  const client = connect(echo, { resolver: { pick: () => target, failed: () => undefined } });
  let misdirected = 0;
  await inTurns(async () => {
    const failure = await client.who({}, calling()).then(() => undefined, asFailure);
    if (failure === undefined) misdirected++;
    else if (failure.code !== "INSTANCE_MISDIRECTED") throw failure;
  });
  rows.push(rowOf(`calls to a reused port answered by the stranger, of ${TRIES}`, misdirected, "", 1));
  stop();
  await held.stop();
}

const authority = await createAuthority({ node: NODE, clock: systemClock });
const rows: Row[] = [];
const papers = (service: string) => papersOf(authority, service);
const bench: Bench = { authority, registryPort: await freePort(), rows, papers };
const etcd = await startEtcd([await freePort(), await freePort()]);
let serving: ChildProcess = await serveAlone(bench);
const parts: Record<string, () => Promise<unknown>> = {
  deaths: () => deaths(bench),
  etcd: () => deathsAtEtcd(bench, etcd),
  cut: () => cut(bench),
  clock: () => clockSteps(bench, serving),
  lookups: () => lookups(bench, serving.pid!, etcd),
  herd: async () => (serving = await herdReturns(bench, serving)),
  outage: async () => (serving = await outage(bench, serving)),
  never: () => never(bench),
};
try {
  for (const [name, part] of Object.entries(parts)) if (ONLY?.includes(name) ?? true) await part();
  report("registry", rows);
} finally {
  await end(serving);
  await etcd?.stop();
}
