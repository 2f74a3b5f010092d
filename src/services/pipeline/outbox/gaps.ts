/** What did not arrive, and why: every batch that was dropped, expired, lost or let go of is in a range of the gap ledger. */
import type { Clock } from "../../../kernel/clock.ts";
import type { Log } from "../../../kernel/log.ts";
import type { Gap, GapReason } from "../../cloud/api.ts";
import type { QueueClass } from "../pacing/priority.ts";
import type { BatchNote } from "./record.ts";

/** Where the ledger is kept. */
export interface GapStore {
  /** Adds an entry, or lengthens the one that it goes on with; false where all of it is known. */
  add(gap: Gap): boolean;
}

export class Gaps {
  readonly #store: GapStore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #listeners: (() => void)[] = [];

  constructor(store: GapStore, clock: Clock, log: Log) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  /** Calls back after each entry. */
  onAdded(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Enters a range. */
  add(tally: Tally, reason: GapReason): void {
    for (const gap of tally.gaps(reason, this.#clock.wallNs())) {
      if (!this.#store.add(gap)) continue;
      const { destination, class: of, from, to, events } = gap;
      for (const listener of this.#listeners) listener();
      this.#log.warn({ destination, class: of, from, to, events, reason }, "batches do not reach their destination");
    }
  }
}

type Ranged = Omit<Gap, "reason" | "atNs" | "pipelines"> & { readonly pipelines: Set<string> };

/** Adds up what goes, by destination. */
export class Tally {
  readonly #ranges = new Map<string, Ranged>();
  readonly #of: { readonly class: QueueClass; readonly epoch: number };

  constructor(name: QueueClass, epoch: number) {
    this.#of = { class: name, epoch };
  }

  /** Adds a batch that a destination does not get. */
  add(destination: string, sequence: number, note: BatchNote): void {
    this.addRange(destination, { from: sequence, to: sequence });
    const range = this.#ranges.get(destination)!;
    const { pipeline, events, readings, queuedNs } = note;
    range.pipelines.add(pipeline);
    this.#ranges.set(destination, {
      ...range,
      events: range.events + events,
      readings: range.readings + readings,
      firstNs: range.firstNs === undefined || queuedNs < range.firstNs ? queuedNs : range.firstNs,
      lastNs: range.lastNs === undefined || queuedNs > range.lastNs ? queuedNs : range.lastNs,
    });
  }

  /** Adds sequences of which nothing else is known. */
  addRange(destination: string, { from, to }: { from: number; to: number }): void {
    const known = this.#ranges.get(destination);
    const { class: name, epoch } = this.#of;
    this.#ranges.set(
      destination,
      known
        ? { ...known, from: Math.min(known.from, from), to: Math.max(known.to, to) }
        : { destination, class: name, epoch, from, to, pipelines: new Set(), events: 0, readings: 0 },
    );
  }

  gaps(reason: GapReason, atNs: bigint): Gap[] {
    return [...this.#ranges.values()].map((range) => ({
      ...range,
      pipelines: [...range.pipelines].sort(),
      reason,
      atNs,
    }));
  }
}
