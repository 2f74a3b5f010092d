/** Time, injected: `monotonicMs` for every lease, timeout and duration; the wall clock only to show and to stamp. */
export interface Clock {
  /** Milliseconds since some fixed moment; never goes back, whatever happens to the wall clock. */
  monotonicMs(): number;
  /** Milliseconds since 1970, as the machine believes. */
  wallMs(): number;
  /** Nanoseconds since 1970, as EdgeX's `origin` wants them. */
  wallNs(): bigint;
}

/** Where the wall clock stood on the monotonic one, to tell the microseconds that Date.now() leaves out. */
const anchor = { wallMs: Date.now(), monotonicMs: performance.now() };

/** Milliseconds since 1970 with a fraction: as fine as the monotonic clock, and following every step of the wall clock. */
function fineWallMs(): number {
  const coarse = Date.now();
  const monotonicMs = performance.now();
  const fine = anchor.wallMs + (monotonicMs - anchor.monotonicMs);
  // The fine time lies within the millisecond that the wall clock tells, or the wall clock was set (or drifted): begin anew.
  if (fine >= coarse && fine < coarse + 1) return fine;
  anchor.wallMs = fine < coarse || fine > coarse + 2 ? coarse : coarse + 0.999;
  anchor.monotonicMs = monotonicMs;
  return anchor.wallMs;
}

/** The machine's own clocks. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  wallNs: () => BigInt(Math.round(fineWallMs() * 1000)) * 1000n,
};
