/** What a destination has acknowledged, counted once each, over restarts and lost answers. */
import type { Clock } from "../../../kernel/clock.ts";
import { type SequenceRange, SequenceSet } from "../../../kernel/sequences.ts";
import type { ClassQueue } from "../outbox/queue.ts";
import type { QueuedBatch } from "../outbox/record.ts";
import type { QueueClass } from "../pacing/priority.ts";

export interface SavedTotals {
  readonly batches: number;
  readonly events: number;
  readonly readings: number;
  readonly lastAtMs?: number | undefined;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** The batches in these counts, of each class in one count of sequences. */
  readonly counted: Partial<Record<QueueClass, { readonly epoch: number; readonly ranges: readonly SequenceRange[] }>>;
}

const NONE: SavedTotals = { batches: 0, events: 0, readings: 0, bytesSent: 0, bytesReceived: 0, counted: {} };

export class Totals {
  readonly #clock: Clock;
  #batches: number;
  #events: number;
  #readings: number;
  #lastAtMs: number | undefined;
  readonly #counted = new Map<QueueClass, { epoch: number; set: SequenceSet }>();
  #bytes: { sent: number; received: number };

  constructor(clock: Clock, saved: SavedTotals = NONE) {
    this.#clock = clock;
    this.#batches = saved.batches;
    this.#events = saved.events;
    this.#readings = saved.readings;
    this.#lastAtMs = saved.lastAtMs;
    this.#bytes = { sent: saved.bytesSent, received: saved.bytesReceived };
    for (const [name, { epoch, ranges }] of Object.entries(saved.counted))
      this.#counted.set(name as QueueClass, { epoch, set: new SequenceSet(ranges) });
  }

  /** What the destination has acknowledged of a class, as far as is known: of the present count of its sequences. */
  counted({ name, stream }: ClassQueue): SequenceSet {
    const known = this.#counted.get(name);
    if (known?.epoch === stream.epoch) return known.set;
    const set = new SequenceSet(stream.before);
    this.#counted.set(name, { epoch: stream.epoch, set });
    return set;
  }

  /** Counts batches, all there are from a sequence on; those that were acknowledged before count no more. */
  count(queue: ClassQueue, from: number, kept: readonly QueuedBatch[]): void {
    const counted = this.counted(queue);
    for (const { sequence, events, readings } of kept) {
      if (counted.has(sequence)) continue;
      this.#batches++;
      this.#events += events;
      this.#readings += readings;
    }
    if (kept.length === 0) return;
    counted.add(Math.min(from, kept[0].sequence), kept.at(-1)!.sequence);
    this.#lastAtMs = this.#clock.wallMs();
  }

  /** Adds the bytes of a connection that has ended. */
  addBytes({ sent, received }: { readonly sent: number; readonly received: number }): void {
    this.#bytes = { sent: this.#bytes.sent + sent, received: this.#bytes.received + received };
  }

  get acknowledged() {
    const lastAtMs = this.#lastAtMs === undefined ? {} : { lastAtMs: this.#lastAtMs };
    return { batches: this.#batches, events: this.#events, readings: this.#readings, ...lastAtMs };
  }

  /** Bytes so far, with those of the connection that there is. */
  bytes(now: { readonly sent: number; readonly received: number } = { sent: 0, received: 0 }) {
    return { sent: this.#bytes.sent + now.sent, received: this.#bytes.received + now.received };
  }

  state(now?: { readonly sent: number; readonly received: number }): SavedTotals {
    const { sent, received } = this.bytes(now);
    const counted: Partial<Record<QueueClass, { epoch: number; ranges: SequenceRange[] }>> = {};
    for (const [name, { epoch, set }] of this.#counted) counted[name] = { epoch, ranges: set.ranges() };
    return { ...this.acknowledged, bytesSent: sent, bytesReceived: received, counted };
  }
}
