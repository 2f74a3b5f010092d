/** The cloud as a destination: it keeps itself what it has, and is asked for it at every beginning. */
import { newSpanId } from "../../../kernel/call.ts";
import { SequenceSet } from "../../../kernel/sequences.ts";
import type { Tracer } from "../../../kernel/trace.ts";
import type { Lane, Sender, Sent } from "../destinations/sender.ts";
import type { Outbox } from "../outbox/outbox.ts";
import type { ClassQueue } from "../outbox/queue.ts";
import type { QueuedBatch } from "../outbox/record.ts";
import { type QueueClass } from "../pacing/priority.ts";
import { rangesIn } from "../ranges.ts";
import type { Accepted, Link, Marked } from "./link.ts";

export interface CloudSenderOptions {
  readonly name: string;
  readonly link: Link;
  readonly outbox: Outbox;
  readonly tracer: Tracer;
}

export class CloudSender implements Sender {
  readonly link: Link;
  readonly #o: CloudSenderOptions;
  /** What the cloud has said to have, or to wait for no more. */
  readonly #settled = new Map<QueueClass, SequenceSet>();

  constructor(options: CloudSenderOptions) {
    this.link = options.link;
    this.#o = options;
  }

  get bytes(): { readonly sent: number; readonly received: number } {
    return this.link.bytes;
  }

  /** Asks what the cloud has of a class. */
  async ask({ name, stream }: ClassQueue, signal: AbortSignal): Promise<Marked> {
    const marked = await this.link.mark(name, stream.epoch, signal);
    this.#settled.set(name, new SequenceSet(marked.settled));
    return marked;
  }

  async send(lane: Lane, batches: readonly QueuedBatch[], signal: AbortSignal): Promise<Sent> {
    const theirs = this.#settled.get(lane.class) ?? new SequenceSet();
    const ours = this.#o.outbox.queues[lane.class].settled(this.#o.name);
    const first = batches[0].sequence;
    const { previous, opens } = placeOf(first, ours, theirs);
    const absent = holes(ours, theirs);
    const to = { stream: lane.class, epoch: lane.epoch, previous, opens, absent, batches };
    const answer = await this.link.accept(to, signal);
    for (const { from, to: end } of absent) theirs.add(from, end);
    theirs.add(Math.min(previous + 1, first), answer.durable);
    this.#trace(batches, answer);
    return answer;
  }

  close(): void {
    this.link.close();
  }

  /** What the cloud did is told to this node's trace by the node: the story is whole where it is asked. */
  #trace(batches: readonly QueuedBatch[], { durable, receivedNs, durationUs }: Accepted): void {
    const done = batches.filter((b) => b.sequence <= durable);
    this.#o.tracer.add({
      spanId: newSpanId(),
      service: "cloud",
      operation: "accept",
      startNs: receivedNs,
      durationUs,
      status: 0,
      ranges: rangesIn(done),
      note: `${done.length} ${done.length === 1 ? "batch" : "batches"} durable`,
    });
  }
}

/** What the first batch of a request follows; it opens a lane where the cloud has nothing of what is before it. */
export function placeOf(
  first: number,
  ours: SequenceSet,
  theirs: SequenceSet,
): { readonly previous: number; readonly opens: boolean } {
  // Nothing between here and the batch is ever sent.
  const before = ours.has(first - 1) ? ours.start(first - 1) - 1 : first - 1;
  const known = theirs.last(first - 1);
  if (known >= before) return { previous: known, opens: false };
  return { previous: before, opens: before > 0 };
}

/** What lies between two ranges of theirs, and is never sent: told, it makes one of them. */
export function holes(ours: SequenceSet, theirs: SequenceSet): { from: number; to: number }[] {
  const found: { from: number; to: number }[] = [];
  const ranges = theirs.ranges();
  for (let i = 1; i < ranges.length; i++) {
    const hole = { from: ranges[i - 1].to + 1, to: ranges[i].from - 1 };
    if (ours.through(hole.from - 1) >= hole.to) found.push(hole);
  }
  return found;
}
