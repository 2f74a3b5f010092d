/** One request: what goes into it, and what is done with the answer. */
import type { Lane, Sender } from "../destinations/sender.ts";
import { BACKFILL_PREFIX } from "../../cloud/backfill.api.ts";
import { Tally } from "../outbox/gaps.ts";
import type { QueuedBatch } from "../outbox/record.ts";
import { rangesIn } from "../ranges.ts";
import type { Drain } from "./drain.ts";
import type { Lanes } from "./lanes.ts";
import type { Totals } from "./totals.ts";
import type { UplinkOptions } from "./uplink.ts";

/** One request: small enough for a bad link to get it through, large enough for its overhead not to count. */
const REQUEST_BYTES_MAX = 1_048_576;
const REQUEST_BATCHES_MAX = 64;
/** Events and readings of one request: the far side reads them all before it answers. */
const REQUEST_WORK_MAX = 1_048_576;

export class Sending {
  readonly #o: UplinkOptions;
  readonly #totals: Totals;
  readonly #drain: Drain;

  constructor(options: UplinkOptions, totals: Totals, drain: Drain) {
    this.#o = options;
    this.#totals = totals;
    this.#drain = drain;
  }

  /** Reads what goes next in a lane; nothing where what there was is not for this destination, too old, or gone. */
  async next(kind: Lane["kind"], lanes: Lanes, isProbe = false): Promise<readonly QueuedBatch[]> {
    const { clock, name, outbox } = this.#o;
    const at = lanes.at(kind);
    if (!at) return [];
    // A probe is the least that there is.
    const share = isProbe ? 0 : kind === "live" ? 1 : this.#drain.share;
    const { batches, next, gap } = await lanes.read(at, {
      bytesMax: REQUEST_BYTES_MAX * share,
      recordsMax: Math.max(1, Math.floor(REQUEST_BATCHES_MAX * share)),
    });
    const { settled } = lanes;
    if (gap) this.#tellGone(lanes, gap);
    const fresh = batches.filter((batch) => !outbox.isExpired(batch));
    if (fresh.length < batches.length) this.#tellExpired(lanes, batches);
    // Up to the first that is sent nothing is for this destination, or it never comes.
    settled.add(at.after + 1, (fresh[0]?.sequence ?? next + 1) - 1);
    if (fresh.length === 0) return [];
    // It yields to what is new, also to what is new in its own class.
    if (kind === "live" && fresh[0].pipeline.startsWith(BACKFILL_PREFIX) && lanes.setAside()) return [];
    if (kind === "live" && next < lanes.queue.journal.last && lanes.split(fresh[0].queuedNs, clock.wallNs())) {
      this.#o.log.info(
        { destination: name, class: lanes.queue.name },
        "what waits goes beside what is new from now on",
      );
      return [];
    }
    return withinWork(fresh, REQUEST_WORK_MAX * share);
  }

  /** Sends, and settles what is durable or refused. */
  async send(
    kind: Lane["kind"],
    lanes: Lanes,
    sender: Sender,
    batches: readonly QueuedBatch[],
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, name, tracer } = this.#o;
    const { queue } = lanes;
    const startMs = clock.monotonicMs();
    const lane = { class: queue.name, epoch: queue.stream.epoch, kind };
    const answered = kind === "live" ? this.#drain.live() : this.#drain.backlog();
    let durable: number, refused: readonly { sequence: number; reason: string }[];
    try {
      ({ durable, refused } = await sender.send(lane, batches, signal));
    } catch (error) {
      answered(false);
      throw error;
    }
    answered(true);
    // What another way has said meanwhile is not this one's.
    signal.throwIfAborted();
    this.#setAside(lanes, refused, batches);
    const done = batches.filter(({ sequence }) => sequence <= durable);
    if (done.length === 0) return;
    const from = batches[0].sequence;
    const kept = done.filter(({ sequence }) => !refused.some((r) => r.sequence === sequence));
    lanes.settled.add(from, durable);
    this.#totals.count(queue, lanes.settled.start(from), kept);
    // Telemetry holds no events; told of, it would go on for ever.
    if (done.every(({ events }) => events === 0)) return;
    const sent = from === durable ? `batch ${from}` : `batches ${from} to ${durable}`;
    tracer.batch("send", startMs, rangesIn(done), `${name}, ${queue.name} ${kind}: ${sent}`);
  }

  /** What the far side can never keep is kept here, before it is let go of. */
  #setAside(
    { queue }: Lanes,
    refused: readonly { sequence: number; reason: string }[],
    batches: readonly QueuedBatch[],
  ): void {
    const { clock, log, name, store } = this.#o;
    for (const { sequence, reason } of refused) {
      const batch = batches.find((b) => b.sequence === sequence);
      if (!batch || store.deadLetters.has(name, queue, sequence)) continue;
      log.error(
        { destination: name, class: queue.name, sequence, reason },
        "a batch is refused for good; it is set aside",
      );
      store.deadLetters.add({ destination: name, queue, batch, reason, atMs: clock.wallMs() });
    }
  }

  /** Tells of batches that are not there any more. */
  #tellGone({ queue, settled }: Lanes, { from, to }: { from: number; to: number }): void {
    const { gaps, name } = this.#o;
    const wasThere = this.#totals.counted(queue).has(from);
    const tally = new Tally(queue.name, queue.stream.epoch);
    tally.addRange(name, { from, to });
    gaps.add(tally, wasThere ? "cloud-restored" : "damaged");
    settled.add(from, to);
  }

  #tellExpired({ queue, settled }: Lanes, batches: readonly QueuedBatch[]): void {
    const { gaps, name, outbox } = this.#o;
    const tally = new Tally(queue.name, queue.stream.epoch);
    for (const batch of batches) {
      if (!outbox.isExpired(batch)) continue;
      tally.add(name, batch.sequence, batch);
      settled.add(batch.sequence, batch.sequence);
    }
    gaps.add(tally, "expired");
  }
}

/** The first batches that are no more than so much work together; one at the least. */
function withinWork(batches: readonly QueuedBatch[], most: number): readonly QueuedBatch[] {
  let work = 0;
  const end = batches.findIndex(({ events, readings }, i) => (work += events + readings) > most && i > 0);
  return end < 0 ? batches : batches.slice(0, end);
}
