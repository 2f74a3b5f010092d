/** Keeps a certificate young, by the monotonic clock, and notices when the wall clock was set. */
import type { Clock } from "../clock.ts";
import { DEADLINE, fail } from "../error.ts";
import type { Certificate, TlsIdentity } from "./tls.ts";

/** Half of what certificates are set back: a smaller jump spoils none. */
const JUMP_TOLERANCE_MS = 120_000;
const LOOK_EVERY_MS = 5_000;
const RETRY_MS_MAX = 60_000;
const RENEW_TIMEOUT_MS = 30_000;
/** setTimeout's own limit is 24 days; past it, it would fire at once. */
const SLEEP_MS_MAX = 86_400_000;

/** Calls `onJump` with the jump in milliseconds when the wall clock left the monotonic one by over two minutes, slowly or at once (a sleep of the machine too); returns how to stop. */
export function watchClockJump(
  clock: Clock,
  onJump: (jumpMs: number) => void,
  options: { toleranceMs?: number; everyMs?: number } = {},
): () => void {
  const { toleranceMs = JUMP_TOLERANCE_MS, everyMs = LOOK_EVERY_MS } = options;
  const offset = (): number => clock.wallMs() - clock.monotonicMs();
  let known = offset();
  const timer = setInterval(() => {
    const jumpMs = offset() - known;
    if (Math.abs(jumpMs) <= toleranceMs) return;
    known += jumpMs;
    onJump(jumpMs);
  }, everyMs).unref();
  return () => clearInterval(timer);
}

export interface RenewalOptions {
  identity: Pick<TlsIdentity, "update">;
  /** Gets a new certificate. After a jump of the clock it must do without valid certificates (see tls.ts). */
  renew: () => Promise<Certificate>;
  lifetimeMs: number;
  clock: Clock;
  signal: AbortSignal;
  log?: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  /** How often the wall clock is looked at. */
  lookEveryMs?: number;
}

export interface Renewal {
  /** Renews at once, without waiting for the third of the lifetime. */
  now(): void;
  /** Resolves when the signal ended it. */
  readonly done: Promise<void>;
}

/**
 * Renews at a third of the lifetime (give or take a tenth of that, so that services do not come together), at a jump of the
 * wall clock at once, and after a failure again and again, waiting twice as long each time up to a minute.
 */
export function keepRenewed(options: RenewalOptions): Renewal {
  const { clock, signal, lifetimeMs } = options;
  let wake: (() => void) | undefined;
  const asked = { now: false };
  const now = (): void => {
    asked.now = true;
    wake?.();
  };
  const stopWatch = watchClockJump(
    clock,
    (jumpMs) => {
      options.log?.warn({ jumpMs }, "the wall clock jumped; the certificate is renewed");
      now();
    },
    options.lookEveryMs === undefined ? {} : { everyMs: options.lookEveryMs },
  );
  const sleep = async (ms: number): Promise<void> => {
    const dueMs = clock.monotonicMs() + ms;
    while (!signal.aborted && !asked.now && clock.monotonicMs() < dueMs) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        wake = resolve;
        timer = setTimeout(resolve, Math.min(SLEEP_MS_MAX, Math.ceil(dueMs - clock.monotonicMs()))).unref();
      });
      clearTimeout(timer);
    }
    asked.now = false;
  };
  const onAbort = (): void => wake?.();
  signal.addEventListener("abort", onAbort, { once: true });
  const run = async (): Promise<void> => {
    for (let failures = 0, waitMs = jittered(lifetimeMs / 3); ;) {
      await sleep(waitMs);
      if (signal.aborted) break;
      try {
        options.identity.update(await inTime(options.renew()));
        failures = 0;
        waitMs = jittered(lifetimeMs / 3);
        options.log?.info({ nextMs: Math.round(waitMs) }, "the certificate was renewed");
      } catch (error) {
        waitMs = jittered(Math.min(RETRY_MS_MAX, Math.min(1000, lifetimeMs / 30) * 2 ** Math.min(failures++, 20)));
        options.log?.warn(
          { err: error, failures, againMs: Math.round(waitMs) },
          "the certificate could not be renewed yet",
        );
      }
    }
    stopWatch();
    signal.removeEventListener("abort", onAbort);
  };
  return { now, done: run() };
}

const jittered = (ms: number): number => ms * (0.9 + 0.2 * Math.random());

/** A renewal that never answers would otherwise be the last. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(fail(DEADLINE, `the renewal did not answer within ${RENEW_TIMEOUT_MS} ms`)),
      RENEW_TIMEOUT_MS,
    ).unref();
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
