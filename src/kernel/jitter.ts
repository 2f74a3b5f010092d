/** How long to wait before something that failed is tried again. */

export interface JitterRange {
  /** Milliseconds that the first wait lasts at the most. */
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Draws a wait in milliseconds after so many failures before this one: anything between nothing and a bound that doubles each
 * time (full jitter), so that what fell together does not rise together.
 */
export const fullJitterMs = (
  failures: number,
  { firstMs, mostMs }: JitterRange,
  random: () => number = Math.random,
): number => random() * Math.min(mostMs, firstMs * 2 ** Math.min(failures, 30));
