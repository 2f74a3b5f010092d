/** The ways to a destination: which is taken, when one that failed is tried again, and how much may go. */
import type { Clock } from "../../../kernel/clock.ts";
import type { Failure } from "../../../kernel/error.ts";
import type { DestinationConfig } from "../destinations/config.ts";
import type { Sender } from "../destinations/sender.ts";
import { Breaker } from "../pacing/breaker.ts";
import type { Spent } from "../pacing/budget.ts";
import { type Hold, Pacer, type Turn } from "../pacing/pacer.ts";
import { PRIORITY_MAX, type QueueClass } from "../pacing/priority.ts";
import { Uplinks } from "../pacing/uplinks.ts";

/** One way to a destination, and what it needs besides its sender. */
export interface Way {
  readonly name: string;
  readonly sender: Sender;
  readonly pacer: Pacer;
  /** Finds out what the destination has; runs before anything is sent, and after every failure. */
  begin?(isWanted: () => boolean, signal: AbortSignal): Promise<void>;
  /** Does what is due besides sending; runs now and then, and before each request of what is new. */
  tend?(signal: AbortSignal): Promise<void>;
  /** Milliseconds until that is due though nothing is sent. */
  tendInMs?(): number;
  /** Is told what is sent, before it is. */
  sending?(name: QueueClass, sequence: number): void;
  /** Tells whether the destination can be reached by it. */
  probe(): Promise<boolean>;
  /** Why it fails, for people, where the failure does not say it. */
  explain?(failure: Failure): string;
}

/** What the config says of a way. */
export interface WayConfig {
  readonly name: string;
  readonly url?: string | undefined;
  readonly localAddress?: string | undefined;
  readonly pacer: Pacer;
}

/** What the config says of a destination's pace and of the ways to it. */
export class Paces {
  readonly #clock: Clock;
  readonly #pacer: Pacer;
  readonly #ways: readonly WayConfig[];

  /** `spent` is what `Route.save` gave. Error where a cron pattern or a zone is none. */
  constructor(clock: Clock, { pace, uplinks }: DestinationConfig, spent: Readonly<Record<string, Spent>> = {}) {
    const pacer = (of: typeof pace, name: string) =>
      new Pacer({ clock, pace: of, ...(spent[name] ? { spent: spent[name] } : {}) });
    this.#clock = clock;
    this.#pacer = pacer(pace, "");
    const ways = uplinks.map(({ pace: of, ...way }) => ({ ...way, pacer: pacer(of, way.name) }));
    this.#ways = ways.length > 0 ? ways : [{ name: "", pacer: FREE(clock) }];
  }

  /** Makes the route of all ways. */
  route(make: (way: WayConfig) => Way): Route {
    return new Route({ clock: this.#clock, pacer: this.#pacer, ways: this.#ways.map(make) });
  }

  /** Makes the route where that takes a while. */
  async routeLater(make: (way: WayConfig) => Promise<Way>): Promise<Route> {
    return new Route({ clock: this.#clock, pacer: this.#pacer, ways: await Promise.all(this.#ways.map(make)) });
  }
}

/** The pace of the one way that has none of its own. */
const FREE = (clock: Clock): Pacer =>
  new Pacer({ clock, pace: { windows: [], zone: "UTC", overridePriority: PRIORITY_MAX + 1 } });

const HOLDS: { readonly [H in Hold]: string } = {
  rate: "the rate that the config allows is used up",
  budget: "the budget of bytes is spent",
  window: "no window is open",
};

export class Route {
  readonly breaker: Breaker;
  readonly ways: readonly Way[];
  readonly #choice: Uplinks;
  readonly #pacer: Pacer;
  /** Bytes of each way that were counted. */
  readonly #spent: number[];
  #isProbing = false;

  /** `pacer` is that of all ways together; `ways` are in order of cost, one at the least. */
  constructor(options: { readonly clock: Clock; readonly ways: readonly Way[]; readonly pacer: Pacer }) {
    const { clock, ways, pacer } = options;
    this.ways = ways;
    this.breaker = new Breaker(clock);
    this.#choice = new Uplinks(clock, ways.length);
    this.#pacer = pacer;
    this.#spent = ways.map(() => 0);
  }

  get way(): Way {
    return this.ways[this.#choice.current];
  }

  get bytes(): { readonly sent: number; readonly received: number } {
    const all = this.ways.map(({ sender }) => sender.bytes);
    return {
      sent: all.reduce((sum, { sent }) => sum + sent, 0),
      received: all.reduce((sum, { received }) => sum + received, 0),
    };
  }

  succeeded(): void {
    this.breaker.succeeded();
    this.#choice.succeeded();
  }

  /** Counts a failure; the next way may be another one. */
  failed(failure: Failure): void {
    // One that says when it wants to be asked again is obeyed; a broken connection (which has a cause) says nothing.
    this.breaker.failed(failure.cause === undefined ? (failure.retryAfterS ?? 0) * 1000 : 0);
    if (this.#choice.failed()) this.breaker.retryNow();
  }

  /** Tells when something of a priority may go by the way that is taken, and why not now. */
  turn(priority: number): Turn & { readonly reason?: string } {
    const turns = [this.#pacer.turn(priority), this.way.pacer.turn(priority)];
    const turn = turns[0].waitMs >= turns[1].waitMs ? turns[0] : turns[1];
    return turn.hold ? { ...turn, reason: HOLDS[turn.hold] } : turn;
  }

  /** Counts what went over the wires since it was last asked to. */
  spend(): void {
    for (const [i, { sender, pacer }] of this.ways.entries()) {
      const { sent, received } = sender.bytes;
      const bytes = sent + received - this.#spent[i];
      this.#spent[i] += bytes;
      pacer.spend(bytes);
      this.#pacer.spend(bytes);
    }
  }

  /** What of the budgets is to be kept for the next start, by way; that of all of them together under "". */
  save(): Record<string, Spent> {
    const all = [["", this.#pacer] as const, ...this.ways.map(({ name, pacer }) => [name, pacer] as const)];
    return Object.fromEntries(
      all.flatMap(([name, pacer]) => {
        const spent = pacer.save();
        return spent ? [[name, spent]] : [];
      }),
    );
  }

  /** Milliseconds until a cheaper way should be probed; infinity where none is. */
  get probeInMs(): number {
    return this.#isProbing ? Number.POSITIVE_INFINITY : this.#choice.probeInMs();
  }

  /** Probes a cheaper way where that is due; true: it is taken from now on. */
  async probe(): Promise<boolean> {
    const place = this.#choice.probeDue();
    if (place === undefined || this.#isProbing) return false;
    this.#isProbing = true;
    try {
      return this.#choice.probed(place, await this.ways[place].probe());
    } finally {
      this.#isProbing = false;
    }
  }

  /** Milliseconds until the destination may be tried. */
  get waitMs(): number {
    return this.breaker.leave().waitMs;
  }

  async close(): Promise<void> {
    for (const { sender } of this.ways) await sender.close();
  }
}
