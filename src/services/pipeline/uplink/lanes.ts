/**
 * The lanes of a class to a destination: what comes now goes in a lane of its own, and what waits from an outage between what
 * is settled. A lane is in order; a backlog that is sent whole closes the gap, and the two are one again.
 */
import type { SequenceSet } from "../../../kernel/sequences.ts";
import type { Lane } from "../destinations/sender.ts";
import type { ClassQueue, ReadLimits } from "../outbox/queue.ts";

/** Ranges that a class may be in at the most; then what comes waits for what came before it. */
const RANGES_MAX = 16;
/** More batches than this behind are a backlog, and so is what waits for longer. */
const BEHIND_BATCHES_MAX = 256;
const BEHIND_NS_MAX = 5_000_000_000n;

export class Lanes {
  readonly queue: ClassQueue;
  readonly #destination: string;
  /** What comes behind it goes in the live lane. */
  #liveFrom = 0;

  constructor(queue: ClassQueue, destination: string) {
    this.queue = queue;
    this.#destination = destination;
  }

  get settled(): SequenceSet {
    return this.queue.settled(this.#destination);
  }

  /** Begins anew, with what the destination has by now. */
  begin(): void {
    const { settled } = this;
    this.#liveFrom = Math.max(settled.high, settled.through(0));
  }

  /** Where a lane is to be read after, and before what; undefined where nothing is in it. */
  at(kind: Lane["kind"]): { after: number; before: number } | undefined {
    const { settled } = this;
    const { last } = this.queue.journal;
    const liveFrom = Math.max(this.#liveFrom, settled.through(this.#liveFrom));
    const after = kind === "live" ? liveFrom : settled.through(0);
    const end = kind === "live" ? last : Math.min(liveFrom, last);
    if (after >= end) return undefined;
    return { after, before: Math.min(settled.next(after) ?? Number.POSITIVE_INFINITY, end + 1) };
  }

  /** Lets what comes from now on go first, where what is in the live lane is too old or too much for that: true where it is. */
  split(oldestNs: bigint, nowNs: bigint): boolean {
    const { settled } = this;
    const { last } = this.queue.journal;
    const behind = last - Math.max(this.#liveFrom, settled.through(this.#liveFrom));
    if (behind <= 1 || (behind <= BEHIND_BATCHES_MAX && nowNs - oldestNs <= BEHIND_NS_MAX)) return false;
    return this.setAside();
  }

  /** Makes a backlog of all that is here, unless there are too many ranges by now: true where it does. */
  setAside(): boolean {
    if (this.settled.size >= RANGES_MAX) return false;
    this.#liveFrom = this.queue.journal.last;
    return true;
  }

  /** Sequences that are not settled, all destinations' batches among them. */
  get waiting(): number {
    const { last } = this.queue.journal;
    let count = Math.max(0, last);
    for (const { from, to } of this.settled.ranges()) count -= Math.min(last, to) - Math.min(from - 1, last);
    return Math.max(0, count);
  }

  read({ after, before }: { after: number; before: number }, limits: Omit<ReadLimits, "before">) {
    return this.queue.read(this.#destination, after, { ...limits, before });
  }
}
