/** What the gateway adds to a request at a load that it carries, and what becomes of one at three times what it can. */
import { info, type Row, rowOf } from "../table.ts";
import { load } from "./load.ts";
import { median, saturate } from "./machine.ts";
import type { Ours } from "./ours.ts";

const ROUNDS = 3;
/** Clients that ask at once where there is too much. */
const CROWD = 2_000;
const ADDED_P50_MS = 0.3;
const ADDED_P99_MS = 3;

/** Measures both. */
export async function overload(ours: Ours, behind: number): Promise<Row[]> {
  const steady = { tls: false, headers: "", requestsPerS: 1_000, seconds: 4, connections: 50 };
  const direct = { ...steady, port: behind, path: "/" };
  const through = { ...steady, port: ours.plainPort, path: "/plain" };
  const added: { p50Ms: number; p99Ms: number }[] = [];
  const idle: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const without = await load(direct);
    const having = await load(through);
    idle.push(having.p99Ms);
    added.push({ p50Ms: having.p50Ms - without.p50Ms, p99Ms: having.p99Ms - without.p99Ms });
  }
  const target = { name: "ours", url: `http://127.0.0.1:${ours.plainPort}/plain`, pid: ours.pid };
  const { requestsPerS: peak } = await saturate(target, 4);
  const flood = await load({ ...through, requestsPerS: Math.round(peak * 3), seconds: 10, connections: CROWD });
  return [
    rowOf("added latency at 1,000/s, p50", median(added.map((a) => a.p50Ms)), "ms", ADDED_P50_MS),
    rowOf("added latency at 1,000/s, p99", median(added.map((a) => a.p99Ms)), "ms", ADDED_P99_MS),
    rowOf("goodput at 3 times saturation", flood.goodPerS / peak, "of the peak", 0.9, true),
    info("refused then", flood.refusedPerS, "a second"),
    rowOf("p99 of what is admitted then", flood.p99Ms / median(idle), "x idle", 5),
  ];
}
