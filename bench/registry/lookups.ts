/** What a pick from the table costs, and a question to the registry, beside etcd's. */
import { readFileSync } from "node:fs";
import { holdEcho, instanceOf, observe } from "../../test/houses/registry.ts";
import type { Etcd } from "../etcd.ts";
import { info, rowOf } from "../table.ts";
import { type Bench, calling, quantile } from "./rig.ts";

const PICKS = 2_000_000;
const LOOKUPS = 3_000;
const WARM = 1_000;
const IN_FLIGHT = 32;
const TICK_US = 10_000;

/** A pick from the table; then lookups one at a time, in turns, and many at once. */
export async function lookups(bench: Bench, servingPid: number, etcd: Etcd | undefined): Promise<void> {
  const { rows, registryPort } = bench;
  const held = await holdEcho({ papers: await bench.papers("core-data"), registryPort, instance: "one" });
  const { resolver, registry, stop } = await observe(await bench.papers("node"), registryPort);
  for (let n = 0; n < PICKS / 10; n++) void resolver.pick("core-data");
  const cpu = process.cpuUsage();
  for (let n = 0; n < PICKS; n++) void resolver.pick("core-data");
  const { user, system } = process.cpuUsage(cpu);
  rows.push(rowOf("cached pick, CPU", (user + system) / PICKS, "us", 0.3));
  const ours: Side = {
    pid: servingPid,
    lanes: Array(IN_FLIGHT).fill(() => registry.instances({ service: "core-data" }, calling())) as Side["lanes"],
  };
  if (etcd) await compare(bench, ours, await sideOf(etcd));
  else rows.push({ name: RATIO, value: null, unit: "times", reach: 5, met: null, reason: "no etcd here" });
  stop();
  await held.stop();
}

const RATIO = "lookup over mutual TLS, one at a time: etcd's range (JSON, no TLS, the same codec) against it, p50";

interface Side {
  readonly pid: number;
  /** Each asks one thing at a time. */
  readonly lanes: readonly (() => Promise<unknown>)[];
}

async function sideOf(etcd: Etcd): Promise<Side> {
  await etcd.put("/core-data/one", JSON.stringify(instanceOf("core-data", "one")));
  const ranges = await Promise.all(Array.from({ length: IN_FLIGHT }, () => etcd.ranging()));
  return { pid: etcd.pid, lanes: ranges.map((range) => () => range("/core-data/one")) };
}

async function compare({ rows }: Bench, ours: Side, theirs: Side): Promise<void> {
  for (const side of [ours, theirs, ours, theirs]) await ask(side, 1, WARM);
  const parts = { ours: [] as Asked[], theirs: [] as Asked[] };
  for (let turn = 0; turn < 3; turn++) {
    parts.ours.push(await ask(ours, 1, LOOKUPS));
    parts.theirs.push(await ask(theirs, 1, LOOKUPS));
  }
  const [a, b] = [joined(parts.ours), joined(parts.theirs)];
  rows.push(rowOf(RATIO, b.p50Us / a.p50Us, "times", 5, true));
  rows.push(info("the same, mean", b.meanUs / a.meanUs, "times"));
  rows.push(info("the same, CPU of the server", b.serverUs / a.serverUs, "times"));
  rows.push(info("lookup, p50", a.p50Us, "us"), info("etcd's range, p50", b.p50Us, "us"));
  rows.push(info("lookup, CPU of client and of server together", a.clientUs + a.serverUs, "us"));
  rows.push(info("etcd's range, the same", b.clientUs + b.serverUs, "us"));
  const [many, theirsMany] = [await ask(ours, IN_FLIGHT, LOOKUPS * 3), await ask(theirs, IN_FLIGHT, LOOKUPS * 3)];
  const name = `lookups/s, ${IN_FLIGHT} in flight from one process: ours against etcd's`;
  rows.push(info(name, theirsMany.meanUs / many.meanUs, "times"));
}

interface Asked {
  readonly p50Us: number;
  /** Of the whole time, by how many were asked. */
  readonly meanUs: number;
  readonly clientUs: number;
  readonly serverUs: number;
}

async function ask({ pid, lanes }: Side, inFlight: number, count: number): Promise<Asked> {
  const times: number[] = [];
  const [cpu, serverUs, startMs] = [process.cpuUsage(), cpuUsOf(pid), performance.now()];
  let next = 0;
  const lane = async (once: () => Promise<unknown>) => {
    while (next++ < count) {
      const askedMs = performance.now();
      await once();
      times.push(performance.now() - askedMs);
    }
  };
  await Promise.all(lanes.slice(0, inFlight).map(lane));
  const { user, system } = process.cpuUsage(cpu);
  return {
    p50Us: quantile(times, 0.5) * 1_000,
    meanUs: ((performance.now() - startMs) * 1_000) / count,
    clientUs: (user + system) / count,
    serverUs: (cpuUsOf(pid) - serverUs) / count,
  };
}

/** The middle turn of each figure. */
function joined(turns: readonly Asked[]): Asked {
  const middle = (key: keyof Asked) =>
    quantile(
      turns.map((turn) => turn[key]),
      0.5,
    );
  return {
    p50Us: middle("p50Us"),
    meanUs: middle("meanUs"),
    clientUs: middle("clientUs"),
    serverUs: middle("serverUs"),
  };
}

/** What a process has used of the processors, to a hundredth of a second. */
function cpuUsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}
