/** A clock for the tests of pacing, both hands of which are turned by hand. */
import type { Clock } from "../../../kernel/clock.ts";

export class HandClock implements Clock {
  wall: number;
  mono = 1_000_000;

  constructor(wall: string | number) {
    this.wall = typeof wall === "string" ? Date.parse(wall) : wall;
  }

  monotonicMs(): number {
    return this.mono;
  }
  wallMs(): number {
    return this.wall;
  }
  wallNs(): bigint {
    return BigInt(this.wall) * 1_000_000n;
  }
  /** Lets time pass on both hands. */
  pass(ms: number): void {
    this.mono += ms;
    this.wall += ms;
  }
}
