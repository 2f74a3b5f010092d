/** An answer put together of four, against the slowest of them alone. */
import { median, type Row, rowOf } from "../table.ts";
import { load } from "./load.ts";
import type { Ours } from "./ours.ts";

const ROUNDS = 3;

/** Measures it. */
export async function composition(ours: Ours): Promise<Row[]> {
  const asked = { port: ours.plainPort, tls: false, headers: "", requestsPerS: 200, seconds: 4, connections: 20 };
  const ratios: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const one = await load({ ...asked, path: "/one" });
    const four = await load({ ...asked, path: "/composed" });
    ratios.push(four.p50Ms / one.p50Ms);
  }
  return [rowOf("composition of 4, latency p50", median(ratios), "x the slowest", 1.2)];
}
