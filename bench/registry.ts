/**
 * The registry: how fast a death is known to 50 watchers, what a pick and a lookup cost, a herd that comes back, a registry
 * that is dead under load, and what must never happen. etcd runs beside it where the machine has one.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall } from "../src/kernel/call.ts";
import { systemClock } from "../src/kernel/clock.ts";
import { connect } from "../src/kernel/connect.ts";
import { asFailure } from "../src/kernel/error.ts";
import { type Authority, createAuthority } from "../src/kernel/identity/authority.ts";
import { allKnow, sharedMs, startHerd } from "../test/houses/herd.ts";
import {
  echo,
  holdEcho,
  instanceOf,
  NODE,
  observe,
  type Papers,
  papersOf,
  startProcess,
} from "../test/houses/registry.ts";
import { type Etcd, startEtcd } from "./etcd.ts";
import { report, type Row, rowOf } from "./table.ts";

const KILLS = 20;
const WATCHERS = 50;
const CLIENTS = 200;
const TRIES = 10_000;
const LOOKUPS = 2_000;
const OUTAGE_MS = 5_000;
/** Those of the service's config, not of the tests. */
const LEASE = { ttlMs: 3_000, renewMs: 1_000, preserveMs: 15_000 };

interface Bench {
  readonly authority: Authority;
  readonly registryPort: number;
  readonly rows: Row[];
  readonly papers: (service: string) => Promise<Papers>;
}

const calling = () => makeCall({ caller: "bench", timeoutMs: 15_000 });
const quantile = (values: readonly number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))];

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

const serveAlone = async (bench: Pick<Bench, "papers" | "registryPort">): Promise<ChildProcess> =>
  startProcess("serve", {
    papers: await bench.papers("core-keeper"),
    registryPort: bench.registryPort,
    instance: "",
    lease: LEASE,
  });

const end = async (child: ChildProcess, signal: NodeJS.Signals = "SIGKILL"): Promise<void> => {
  const gone = once(child, "exit");
  child.kill(signal);
  await gone;
};

/** kill -9 and a stopped process, with 50 watchers in two processes. */
async function deaths(bench: Bench): Promise<void> {
  const { rows, registryPort } = bench;
  const [papers, node] = [await bench.papers("core-data"), await bench.papers("node")];
  const herd = { papers: node, registryPort, holders: 0, watchers: WATCHERS / 2 };
  const herds = await Promise.all(["a", "b"].map((name) => startHerd({ ...herd, name })));
  const times: number[] = [];
  for (let n = 0; n < KILLS; n++) {
    const child = await startProcess("hold", { papers, registryPort, instance: `victim-${n}` });
    const known = allKnow(herds, `victim-${n}`);
    const startMs = sharedMs();
    child.kill("SIGKILL");
    times.push((await known) - startMs);
  }
  rows.push(rowOf(`kill -9 until all of ${WATCHERS} watchers know, p50 of ${KILLS}`, quantile(times, 0.5), "ms", 25));
  rows.push(rowOf("the same, p99 (the worst)", quantile(times, 0.99), "ms", 250));
  const hung = await startProcess("hold", { papers, registryPort, instance: "hung" });
  const known = allKnow(herds, "hung");
  const startMs = sharedMs();
  hung.kill("SIGSTOP");
  rows.push(rowOf("a hung process until all know", (await known) - startMs, "ms", 3_500));
  for (const child of [hung, ...herds]) await end(child);
}

/** The smallest lease that etcd gives, not kept alive any more. */
async function deathsAtEtcd({ rows }: Bench, etcd: Etcd | undefined): Promise<void> {
  const name = `etcd beside it: its smallest lease until ${WATCHERS} watchers know, p50 of 3`;
  if (!etcd) return void rows.push({ name, value: null, unit: "ms", met: null, reason: "no etcd here" });
  const times: number[] = [];
  for (let n = 0; n < 3; n++) {
    const { ID } = await etcd.post("/v3/lease/grant", { TTL: 1 });
    await etcd.put(`/victim-${n}`, "here", String(ID));
    const watches = await Promise.all(Array.from({ length: WATCHERS }, () => etcd.watch(`/victim-${n}`)));
    await etcd.post("/v3/lease/keepalive", { ID });
    const startMs = performance.now();
    await Promise.all(watches.map(({ deleted }) => deleted));
    times.push(performance.now() - startMs);
  }
  rows.push({ name, value: quantile(times, 0.5), unit: "ms", met: null, reason: "a peer" });
}

/** A pick from the table, and a question to the registry over mutual TLS; etcd's in turns with it, without TLS. */
async function lookups(bench: Bench, etcd: Etcd | undefined): Promise<void> {
  const { rows, registryPort } = bench;
  const held = await holdEcho({ papers: await bench.papers("core-data"), registryPort, instance: "one" });
  const { resolver, registry, stop } = await observe(await bench.papers("node"), registryPort);
  const picks = 2_000_000;
  for (let n = 0; n < picks / 10; n++) void resolver.pick("core-data");
  const cpu = process.cpuUsage();
  for (let n = 0; n < picks; n++) void resolver.pick("core-data");
  const { user, system } = process.cpuUsage(cpu);
  rows.push(rowOf("cached pick, CPU", (user + system) / picks, "us", 0.3));
  const spent = { ours: 0, etcd: 0 };
  await etcd?.put("/core-data/one", JSON.stringify(instanceOf("core-data", "one")));
  const timed = async (which: keyof typeof spent, work: () => Promise<unknown>) => {
    const startMs = performance.now();
    await work();
    spent[which] += performance.now() - startMs;
  };
  for (let n = 0; n < LOOKUPS; n++) {
    await timed("ours", () => registry.instances({ service: "core-data" }, calling()));
    if (etcd) await timed("etcd", () => etcd.range("/core-data/one"));
  }
  rows.push({
    name: "network lookup",
    value: (spent.ours / LOOKUPS) * 1_000,
    unit: "us",
    met: null,
    reason: "a figure",
  });
  const name = "etcd's range through its JSON gateway, against that";
  rows.push(
    etcd
      ? rowOf(name, spent.etcd / spent.ours, "times", 5, true)
      : { name, value: null, unit: "times", reach: 5, met: null, reason: "no etcd here" },
  );
  stop();
  await held.stop();
}

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
let serving = await serveAlone(bench);
try {
  await deaths(bench);
  await deathsAtEtcd(bench, etcd);
  await lookups(bench, etcd);
  serving = await herdReturns(bench, serving);
  serving = await outage(bench, serving);
  await never(bench);
  report("registry", rows);
} finally {
  await end(serving);
  await etcd?.stop();
}
