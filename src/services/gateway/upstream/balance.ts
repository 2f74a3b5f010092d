/** Ways to choose one of several instances that are all well. */
import type { UpstreamSettings } from "../upstream.api.ts";
import type { Endpoint } from "./endpoint.ts";

export interface Choice {
  /** At least two, in the registry's order. */
  readonly from: readonly Endpoint[];
  /** What is hashed. */
  readonly key: string;
  /** What each may carry: 1, and less where it has just come. */
  readonly share: (endpoint: Endpoint) => number;
  /** Grows with each choice. */
  readonly turn: number;
}

export type Balance = (choice: Choice) => Endpoint;

/** A new instance carries at least so much, or nothing would ever warm it. */
const SHARE_MIN = 0.1;

/** What an instance may carry while it is new. */
export const slowStart = (ageMs: number, slowStartMs: number): number =>
  ageMs >= slowStartMs ? 1 : Math.max(SHARE_MIN, ageMs / slowStartMs);

/** The one with the fewest requests under way; where there are several, in turn. */
const leastRequests: Balance = ({ from, share, turn }) =>
  cheapest(from, turn, (endpoint) => (endpoint.running + 1) / share(endpoint));

/** One after the other; a new one is passed over in most of its turns. */
const roundRobin: Balance = ({ from, share, turn }) => {
  for (let i = 0; i < from.length; i++) {
    const endpoint = from[(turn + i) % from.length];
    const carries = share(endpoint);
    if (carries === 1 || Math.random() < carries) return endpoint;
  }
  return from[turn % from.length];
};

/** The better of two that are drawn: by the peak of its latencies times the requests that are under way. */
const peakEwma: Balance = ({ from, share }) => {
  const first = Math.floor(Math.random() * from.length);
  const second = (first + 1 + Math.floor(Math.random() * (from.length - 1))) % from.length;
  const cost = (endpoint: Endpoint) => ((endpoint.latencyMs + 0.01) * (endpoint.running + 1)) / share(endpoint);
  return cost(from[first]) <= cost(from[second]) ? from[first] : from[second];
};

/** The same for the same key, as long as it is there; when one goes, only its keys move (rendezvous hashing). */
const hashed: Balance = ({ from, key }) => cheapest(from, 0, (endpoint) => -hash(`${key}|${endpoint.instance}`));

function cheapest(from: readonly Endpoint[], turn: number, costOf: (endpoint: Endpoint) => number): Endpoint {
  let best = from[turn % from.length];
  let bestCost = costOf(best);
  for (let i = 1; i < from.length; i++) {
    const endpoint = from[(turn + i) % from.length];
    const cost = costOf(endpoint);
    if (cost < bestCost) [best, bestCost] = [endpoint, cost];
  }
  return best;
}

/** FNV-1a with a final mix, so that texts which differ in their end alone lie far apart. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

export const BALANCES: Readonly<Record<NonNullable<UpstreamSettings["balance"]>, Balance>> = {
  "least-requests": leastRequests,
  "round-robin": roundRobin,
  "peak-ewma": peakEwma,
  hash: hashed,
};
