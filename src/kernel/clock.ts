/** Time, injected: `monotonicMs` for every lease, timeout and duration; the wall clock only to show and to stamp. */
export interface Clock {
  /** Milliseconds since some fixed moment; never goes back, whatever happens to the wall clock. */
  monotonicMs(): number;
  /** Milliseconds since 1970, as the machine believes. */
  wallMs(): number;
  /** Nanoseconds since 1970, as EdgeX's `origin` wants them. */
  wallNs(): bigint;
}

/** The machine's own clocks. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  // timeOrigin + now() would not follow a step of the wall clock; Date.now() does, and the microseconds keep
  // stamps of one millisecond apart and in order.
  wallNs: () => BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n),
};
