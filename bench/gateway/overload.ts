/**
 * What the gateway adds to a request at a load that it carries, and what becomes of one in a crowd: wrk with 2,000 connections that
 * ask again as soon as they are answered, and beside it a slow open loop that sees what anybody else would. Peers in the same way.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { info, median, type Row, rowOf } from "../table.ts";
import { load, type LoadOptions } from "./load.ts";
import { OTHER_CORE, saturate, type Target } from "./machine.ts";

const ROUNDS = 3;
/** Clients that ask at once where there is too much. */
const CROWD = 2_000;
const CROWD_S = 8;
const ADDED_P50_MS = 0.3;
const ADDED_P99_MS = 3;

export interface Door extends Target {
  readonly port: number;
  readonly path: string;
}

/** Measures both: ours first of the doors, all of them before the service that listens at `behind`. */
export async function overload(doors: readonly Door[], behind: number): Promise<Row[]> {
  const steady = { tls: false, headers: "", requestsPerS: 1_000, seconds: 4, connections: 50 };
  const added = new Map<string, { p50Ms: number; p99Ms: number }[]>(doors.map(({ name }) => [name, []]));
  for (let round = 0; round < ROUNDS; round++) {
    const without = await load({ ...steady, port: behind, path: "/" });
    for (const { name, port, path } of doors) {
      const having = await load({ ...steady, port, path });
      added.get(name)!.push({ p50Ms: having.p50Ms - without.p50Ms, p99Ms: having.p99Ms - without.p99Ms });
    }
  }
  const rows: Row[] = [];
  for (const [at, { name }] of doors.entries()) {
    const [p50, p99] = (["p50Ms", "p99Ms"] as const).map((key) => median(added.get(name)!.map((each) => each[key])));
    const row = (what: string, value: number, reach: number) =>
      at === 0
        ? rowOf(`added at 1,000/s, ${what}`, value, "ms", reach)
        : info(`${name}: the same, ${what}`, value, "ms");
    rows.push(row("p50", p50, ADDED_P50_MS), row("p99", p99, ADDED_P99_MS));
  }
  for (const [at, door] of doors.entries()) {
    const { good, refusedPerS, slower } = await crowded(door);
    rows.push(
      ...(at === 0
        ? [
            rowOf("goodput in a crowd", good, "of the peak", 0.9, true),
            info("refused then", refusedPerS, "a second"),
            rowOf("p99 of what is admitted then", slower, "x idle", 5),
          ]
        : [
            info(`${door.name}: goodput in it`, good, "of the peak"),
            info(`${door.name}: p99 in it`, slower, "x idle"),
          ]),
    );
  }
  return rows;
}

interface Crowded {
  /** Of the peak. */
  readonly good: number;
  readonly refusedPerS: number;
  /** The p99 of the slow loop's good answers, against that without the crowd. */
  readonly slower: number;
}

async function crowded(door: Door): Promise<Crowded> {
  const { port, path } = door;
  const seen: LoadOptions = { port, path, tls: false, headers: "", requestsPerS: 100, seconds: 4, connections: 100 };
  const { p99Ms: idleMs } = await load(seen);
  const { requestsPerS: peak } = await saturate(door, 4);
  const asking = flood(door.url);
  const { p99Ms, p50Ms } = await load(seen);
  const { goodPerS, refusedPerS } = await asking;
  console.log(
    `${door.name} in a crowd: ${Math.round(goodPerS)}/s of ${Math.round(peak)}/s, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms (idle ${idleMs.toFixed(1)} ms)`,
  );
  return { good: goodPerS / peak, refusedPerS, slower: p99Ms / idleMs };
}

/** Asks with a crowd; niced, since the slow loop and the service behind have that core too. */
async function flood(url: string): Promise<{ goodPerS: number; refusedPerS: number }> {
  const wrk = ["wrk", "-t1", `-c${CROWD}`, `-d${CROWD_S}s`, "--timeout", "10s", url];
  const { stdout } = await promisify(execFile)("taskset", ["-c", String(OTHER_CORE), "nice", "-n", "10", ...wrk]);
  const count = Number(/(\d+) requests in/.exec(stdout)?.[1] ?? 0);
  const refused = Number(/Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? 0);
  return { goodPerS: (count - refused) / CROWD_S, refusedPerS: refused / CROWD_S };
}
