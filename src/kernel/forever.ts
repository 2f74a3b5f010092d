/** Keeps a piece of work going: runs it again after it ends or fails, with full-jitter backoff, until told to stop. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "./clock.ts";
import { fullJitterMs } from "./jitter.ts";
import type { Log } from "./log.ts";

export interface ForeverOptions {
  readonly what: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly baseMs?: number;
  readonly maxMs?: number;
}

/** Work that lived so long counts as well: the next pause is the shortest again. */
const STABLE_MS = 10_000;

/** Runs `work` until `signal` aborts; resolves then. A failure is logged once per pause, never thrown. */
export async function forever(options: ForeverOptions, work: () => Promise<void>): Promise<void> {
  const { what, clock, log, signal, baseMs = 100, maxMs = 5_000 } = options;
  let tries = 0;
  while (!signal.aborted) {
    const startMs = clock.monotonicMs();
    try {
      await work();
    } catch (error) {
      if (signal.aborted) return;
      // The first failure may be a neighbour's restart; only what lasts is worth a warning.
      log[tries > 2 ? "warn" : "info"](
        { err: error instanceof Error ? error.message : String(error), tries },
        `${what} broke off`,
      );
    }
    if (signal.aborted) return;
    tries = clock.monotonicMs() - startMs > STABLE_MS ? 0 : tries + 1;
    const pauseMs = fullJitterMs(tries, { firstMs: baseMs, mostMs: maxMs });
    await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
  }
}
