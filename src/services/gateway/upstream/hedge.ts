/** Asks a second instance where the first takes longer than most answers do, and takes whichever answers first. */
import { type Failure, fail } from "../../../kernel/error.ts";
import { GATEWAY_CLIENT_GONE } from "../api.ts";
import type { Metrics } from "../metrics.ts";
import type { Ticket } from "../ticket.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Group } from "./group.ts";
import type { Budget } from "./guards.ts";
import type { Sent } from "./upstream.ts";

/** So many second requests may come at once; then as many as the share allows. */
export const HEDGE_RESERVE = 10;

export interface Hedge {
  readonly quantile: number;
  /** Of the route: so many second requests may be sent. */
  readonly budget: Budget;
}

export interface HedgedOptions {
  readonly hedge: Hedge;
  readonly group: Group;
  readonly ticket: Ticket;
  readonly metrics: Metrics;
  readonly ask: (ticket: Ticket, tried: Set<Endpoint>, picked?: (endpoint: Endpoint) => void) => Promise<Sent>;
}

/** Answers with the first head that comes; the other request is given up. Fails where all that were sent fail. */
export async function hedged({ hedge, group, ticket, metrics, ask }: HedgedOptions): Promise<Sent> {
  hedge.budget.earn();
  const delayMs = group.endpoints.length > 1 ? group.latencies.quantile(hedge.quantile) : undefined;
  if (delayMs === undefined) return ask(ticket, new Set());
  const busy = new Set<Endpoint>();
  const runs = [run(ticket, (own) => ask(own, new Set(), (endpoint) => busy.add(endpoint)))];
  const timer = { passed: false, stop: () => undefined as void };
  const slow = new Promise<void>((resolve) => {
    const timeout = setTimeout(() => {
      timer.passed = true;
      resolve();
    }, delayMs);
    timer.stop = () => clearTimeout(timeout);
  });
  await Promise.race([slow, runs[0].settled]);
  timer.stop();
  if (timer.passed && group.choose(busy) && hedge.budget.spend()) {
    metrics.hedged(group.name);
    runs.push(run(ticket, (own) => ask(own, new Set(busy))));
  }
  try {
    const first = await Promise.any(runs.map(async (each) => ({ by: each, sent: await each.sent })));
    for (const each of runs) if (each !== first.by) void giveUp(each);
    return first.sent;
  } catch (error) {
    throw (error as AggregateError).errors[0];
  }
}

interface Run {
  readonly ticket: Ticket;
  readonly sent: Promise<Sent>;
  /** Resolves when it has an answer or has failed. */
  readonly settled: Promise<void>;
}

function run(ticket: Ticket, ask: (own: Ticket) => Promise<Sent>): Run {
  const own = ticket.child();
  const sent = ask(own);
  const settled = sent.then(
    () => undefined,
    () => undefined,
  );
  return { ticket: own, sent, settled };
}

async function giveUp({ ticket, sent }: Run): Promise<void> {
  ticket.end(lost());
  try {
    const { answer, done } = await sent;
    answer.cut();
    done();
  } catch {
    // It was given up: that it failed is what was asked for.
  }
}

const lost = (): Failure => fail(GATEWAY_CLIENT_GONE, "the other of two requests was answered first");
