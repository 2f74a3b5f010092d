/** How fast a death is known, and that no clock makes one. */
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { Change } from "../../src/services/registry/api.ts";
import { Cable } from "../../test/houses/cable.ts";
import { allKnow, sharedMs, startHerd } from "../../test/houses/herd.ts";
import { observe, startProcess } from "../../test/houses/registry.ts";
import { need } from "../../test/need.ts";
import type { Etcd } from "../etcd.ts";
import { rowOf } from "../table.ts";
import { type Bench, end, quantile, serveAlone } from "./rig.ts";

const KILLS = 20;
const WATCHERS = 50;
const STEADY = 20;
const STEPS = 40;
/** The whole is several leases long. */
const STEP_EVERY_MS = 250;
const TEN_YEARS_MS = 3.15e11;

/** kill -9 and a stopped process, with 50 watchers in two processes. */
export async function deaths(bench: Bench): Promise<void> {
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

/** A holder at the other end of a cable that is unplugged. */
export async function cut(bench: Bench): Promise<void> {
  const name = "a cable unplugged until it is known";
  const reason = need("netns");
  if (reason !== false) return void bench.rows.push({ name, value: null, unit: "ms", reach: 3_500, met: null, reason });
  const cable = new Cable();
  const serving = await serveAlone({ ...bench, registryPort: 0 }, cable.host);
  const { host: registryHost } = cable;
  const observer = await observe(await bench.papers("node"), serving.port, registryHost);
  const papers = await bench.papers("core-data");
  const far = await startProcess("hold", { papers, registryHost, registryPort: serving.port, instance: "far" }, cable);
  const known = observer.down("far");
  const startMs = performance.now();
  cable.unplug();
  bench.rows.push(rowOf(name, (await known) - startMs, "ms", 3_500));
  observer.stop();
  for (const child of [far, serving]) await end(child);
  cable.remove();
}

/** Steps the registry's wall clock by up to ten years, to and fro, while a herd holds leases. */
export async function clockSteps(bench: Bench, serving: ChildProcess): Promise<void> {
  const { rows, registryPort } = bench;
  const herd = await startHerd({
    papers: await bench.papers("core-data"),
    registryPort,
    name: "steady",
    holders: STEADY,
    watchers: 0,
  });
  let lost = 0;
  const onChange = ({ kind, instances }: Change) => {
    if (kind === "down" || instances.some(({ state }) => state !== "passing")) lost += instances.length;
  };
  const observer = await observe(await bench.papers("node"), registryPort, undefined, onChange);
  for (let n = 0; n < STEPS; n++) {
    serving.send({ stepMs: (n % 2 === 0 ? 1 : -1) * TEN_YEARS_MS * ((n + 1) / STEPS) });
    await sleep(STEP_EVERY_MS);
  }
  serving.send({ stepMs: 0 });
  rows.push(rowOf(`leases of ${STEADY} late or ended while the clock stepped ${STEPS} times`, lost, "", 1));
  observer.stop();
  await end(herd);
}

/** The smallest lease that etcd gives, not kept alive any more. */
export async function deathsAtEtcd({ rows }: Bench, etcd: Etcd | undefined): Promise<void> {
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
