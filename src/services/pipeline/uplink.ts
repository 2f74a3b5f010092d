/** Drains the outbox to the cloud, in order, one request at a time; offline is a position that stands still. */
import { newSpanId } from "../../kernel/call.ts";
import { CALLER_REFUSED, asFailure, type Failure } from "../../kernel/error.ts";
import type { Destination } from "./api.ts";
import { type Accepted, type Link, openLink, type Signed } from "./link.ts";
import { Mark, type MarkOptions } from "./mark.ts";
import type { QueuedBatch } from "./outbox.ts";
import { rangesIn } from "./ranges.ts";
import { Renewal } from "./renewal.ts";
import type { Enrollment, Totals } from "./store.ts";
import { Waking } from "./waking.ts";

/** One request: small enough for a bad link to get it through, large enough for its overhead not to count. */
const REQUEST_BYTES_MAX = 1_048_576;
const REQUEST_BATCHES_MAX = 64;
/** Events and readings of one request: the cloud reads them all before it answers. */
const REQUEST_WORK_MAX = 1_048_576;
/** Pauses after failures: full jitter between nothing and this, doubling from the first to the second. */
const RETRY_MS = { first: 250, most: 10_000 };
/** Totals go to the disk so often while something is sent: a kill may cost so much of them, and nothing else. */
const SAVE_EVERY_MS = 10_000;

export type UplinkOptions = MarkOptions;

export class Uplink {
  readonly #o: UplinkOptions;
  readonly #totals: Totals;
  readonly #waking: Waking;
  readonly #mark: Mark;
  #link: Link | undefined;
  #enrollment: Enrollment | undefined;
  #renewal: Renewal | undefined;
  #state: Destination["state"] = "not-enrolled";
  #reason: string | undefined;
  #failures = 0;
  #savedMs: number;
  #isDirty = false;

  constructor(options: UplinkOptions) {
    const { store, signal, clock, log } = options;
    this.#o = options;
    this.#totals = store.totals;
    this.#savedMs = clock.monotonicMs();
    this.#waking = new Waking(signal);
    this.#mark = new Mark(options);
    try {
      if (store.enrollment) this.use(store.enrollment);
    } catch (error) {
      this.#reason = `the enrollment cannot be used: ${asFailure(error).message}`;
      log.error({ err: error }, this.#reason);
    }
  }

  /** Resolves when the cloud was asked for the first time where it stands; at once where there is no cloud. */
  get asked(): Promise<void> {
    return this.#link ? this.#mark.asked : Promise.resolve();
  }

  /** Sends to this cloud from now on. IDENTITY_CERTIFICATE_INVALID when it is none; then all stays as it was. */
  use(enrollment: Enrollment): void {
    const { clock, log } = this.#o;
    const link = openLink(enrollment, clock);
    this.#countBytes();
    this.#link?.close();
    this.#link = link;
    this.#enrollment = enrollment;
    this.#renewal = new Renewal({ certPem: enrollment.certPem, clock, log });
    this.#mark.begin(enrollment.floor ?? 0);
    this.#failures = 0;
    this.#reason = undefined;
    this.#state = "idle";
    this.#waking.wake();
  }

  /** The enrollment for another cloud: what this one has acknowledged stays with it. */
  moved(enrollment: Enrollment): Enrollment {
    const known = this.#enrollment ?? this.#o.store.enrollment;
    if (!known) return enrollment;
    const floor = known.caPem === enrollment.caPem ? (known.floor ?? 0) : this.#mark.acknowledged;
    return floor > 0 ? { ...enrollment, floor } : enrollment;
  }

  async status(): Promise<Destination> {
    const { outbox, clock, store } = this.#o;
    const { journal } = outbox;
    const after = Math.max(this.#mark.acknowledged, journal.first - 1);
    const waiting = Math.max(0, journal.last - after);
    const [oldest] = waiting > 0 ? (await outbox.read(after, { bytesMax: 1, recordsMax: 1 })).batches : [];
    const { batches, events, readings, lastAtMs } = this.#totals;
    return {
      name: "cloud",
      url: this.#enrollment?.url ?? "",
      state: this.#state,
      ...(this.#reason ? { reason: this.#reason } : {}),
      waiting: {
        batches: waiting,
        // Those acknowledged go segment by segment; batches are of like size over time.
        bytes: Math.round((journal.sizeBytes * waiting) / Math.max(1, journal.last - journal.first + 1)),
        ...(oldest ? { oldestMs: Math.max(0, Number((clock.wallNs() - oldest.queuedNs) / 1_000_000n)) } : {}),
      },
      acknowledged: { batches, events, readings, ...(lastAtMs === undefined ? {} : { lastAtMs }) },
      wireBytes: this.#bytes(),
      deadLetters: store.deadLetters,
    };
  }

  /** Runs until the signal aborts. */
  async run(): Promise<void> {
    const { signal } = this.#o;
    while (!signal.aborted) {
      const link = this.#link;
      try {
        if (link) await this.#round(link);
        else await this.#waking.sleep();
      } catch (error) {
        if (signal.aborted) break;
        if (link === this.#link) await this.#pauseAfter(asFailure(error));
      }
    }
    this.save();
    this.#link?.close();
  }

  /** Notes how far things are. */
  save(): void {
    const { clock, outbox, store } = this.#o;
    this.#savedMs = clock.monotonicMs();
    this.#isDirty = false;
    const { sent, received } = this.#bytes();
    const totals = { ...this.#totals, bytesSent: sent, bytesReceived: received };
    store.save({ followed: outbox.followed, acknowledged: this.#mark.acknowledged, stream: outbox.stream, totals });
  }

  /** Sends what waits, or waits for something to send. */
  async #round(link: Link): Promise<void> {
    const { outbox } = this.#o;
    await this.#renew(link);
    if (!this.#mark.isKnown) await this.#ask(link);
    if (link !== this.#link) return;
    const { batches, next, gap } = await outbox.read(this.#mark.readAfter, {
      bytesMax: REQUEST_BYTES_MAX,
      recordsMax: REQUEST_BATCHES_MAX,
    });
    if (link !== this.#link) return;
    if (gap) this.#mark.tellGap(gap);
    if (batches.length > 0) return await this.#send(link, withinWork(batches));
    this.#mark.readAfter = next;
    this.#answered();
    this.#state = "idle";
    if (this.#isDirty && this.#isSaveDue()) this.save();
    // Woken by the next batch, by another cloud to send to, or by the end.
    await this.#waking.until((signal) => outbox.journal.wait(next, signal));
  }

  /** Asks where the cloud stands, and counts what it has from answers that never arrived. */
  async #ask(link: Link): Promise<void> {
    const { outbox, store } = this.#o;
    await this.#mark.ask(link, () => link === this.#link);
    if (link !== this.#link) return;
    if (this.#totals.epoch !== outbox.stream.epoch) {
      this.#totals.epoch = outbox.stream.epoch;
      this.#totals.counted = Math.min(this.#totals.counted, outbox.stream.floor);
    }
    for (let after = this.#totals.counted; after < this.#mark.durable;) {
      const { batches, next } = await outbox.read(after, {
        bytesMax: REQUEST_BYTES_MAX,
        recordsMax: REQUEST_BATCHES_MAX,
      });
      if (next <= after) break;
      this.#count(batches.filter(({ sequence }) => sequence <= this.#mark.durable && !store.hasDeadLetter(sequence)));
      after = next;
    }
  }

  async #send(link: Link, batches: readonly QueuedBatch[]): Promise<void> {
    const { clock, outbox, signal } = this.#o;
    const startMs = clock.monotonicMs();
    this.#state = "sending";
    const { durable } = this.#mark;
    const { epoch } = outbox.stream;
    this.#mark.sending(batches.at(-1)!.sequence);
    const answer = await link.accept({ epoch, durable, batches }, signal).catch((error: unknown) => {
      // Nobody knows what of it arrived; and the cloud may have been restored from a backup. It is asked where it stands.
      if (link === this.#link) this.#mark.forget();
      throw error;
    });
    // What another cloud has said meanwhile is not this one's.
    if (link !== this.#link) return;
    this.#setAside(answer, batches);
    const kept = batches.filter(
      (b) => b.sequence <= answer.durable && !answer.refused.some((r) => r.sequence === b.sequence),
    );
    this.#count(kept);
    this.#mark.acknowledge(answer.durable);
    this.#trace(startMs, batches, answer);
    this.#answered();
    await outbox.done(answer.durable);
    if (this.#isSaveDue()) this.save();
  }

  /** What the cloud can never keep is kept here, before it is let go of. */
  #setAside({ refused }: Accepted, batches: readonly QueuedBatch[]): void {
    const { clock, log, store } = this.#o;
    for (const { sequence, reason } of refused) {
      const batch = batches.find((b) => b.sequence === sequence);
      if (!batch) continue;
      log.error({ sequence, reason }, "the cloud can never keep a batch; it is set aside");
      store.addDeadLetter(batch, reason, clock.wallMs());
    }
  }

  #trace(startMs: number, batches: readonly QueuedBatch[], { durable, receivedNs, durationUs }: Accepted): void {
    const { tracer } = this.#o;
    const done = batches.filter((b) => b.sequence <= durable);
    const ranges = rangesIn(done);
    tracer.batch("send", startMs, ranges, `batches ${batches[0].sequence} to ${durable}`);
    // What the cloud did is told to this node's trace by the node: the story is whole where it is asked.
    const note = `${done.length} batches durable`;
    tracer.add({
      spanId: newSpanId(),
      service: "cloud",
      operation: "accept",
      startNs: receivedNs,
      durationUs,
      status: 0,
      ranges,
      note,
    });
  }

  /** Renews the node's certificate when it is time; failing that the old one serves on. */
  async #renew(link: Link): Promise<void> {
    const { signal, store } = this.#o;
    const renewed: Signed | undefined = await this.#renewal?.ifDue(link, signal);
    if (!renewed || link !== this.#link || !this.#enrollment) return;
    this.#enrollment = { ...this.#enrollment, ...renewed };
    store.enrollment = this.#enrollment;
  }

  #answered(): void {
    if (this.#failures > 0) this.#o.log.info({ failures: this.#failures }, "the cloud answers again");
    this.#failures = 0;
    this.#reason = undefined;
  }

  async #pauseAfter(failure: Failure): Promise<void> {
    const { log } = this.#o;
    const isRefused = failure.code === CALLER_REFUSED.code;
    this.#state = "offline";
    this.#reason = isRefused
      ? `the cloud does not take the node's certificate (it ended, or the cloud was made anew): enroll again. ${failure.message}`
      : failure.message;
    if (this.#failures++ === 0)
      log.warn({ code: failure.code, err: this.#reason }, "the cloud does not answer; readings wait in the outbox");
    const mostMs = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** Math.min(this.#failures, 16));
    // A cloud that says when it wants to be asked again is obeyed; a broken connection (which has a cause) says nothing.
    const askedMs = failure.cause === undefined ? (failure.retryAfterS ?? 0) * 1000 : 0;
    await this.#waking.sleep(Math.min(RETRY_MS.most, askedMs + Math.random() * mostMs));
  }

  #count(kept: readonly QueuedBatch[]): void {
    this.#isDirty = true;
    for (const { sequence, events, readings } of kept) {
      // A cloud that was restored from an older copy acknowledges some of them again.
      if (sequence <= this.#totals.counted) continue;
      this.#totals.counted = sequence;
      this.#totals.batches++;
      this.#totals.events += events;
      this.#totals.readings += readings;
    }
    if (kept.length > 0) this.#totals.lastAtMs = this.#o.clock.wallMs();
  }

  #isSaveDue(): boolean {
    return this.#o.clock.monotonicMs() - this.#savedMs > SAVE_EVERY_MS;
  }

  /** Takes the bytes of the link into the totals, before it goes. */
  #countBytes(): void {
    const { sent, received } = this.#bytes();
    this.#totals.bytesSent = sent;
    this.#totals.bytesReceived = received;
  }

  #bytes(): { sent: number; received: number } {
    const { bytesSent, bytesReceived } = this.#totals;
    const { sent, received } = this.#link?.bytes ?? { sent: 0, received: 0 };
    return { sent: bytesSent + sent, received: bytesReceived + received };
  }
}

/** The first batches that are no more than REQUEST_WORK_MAX together; one at the least. */
function withinWork(batches: readonly QueuedBatch[]): readonly QueuedBatch[] {
  let work = 0;
  const end = batches.findIndex(({ events, readings }, i) => (work += events + readings) > REQUEST_WORK_MAX && i > 0);
  return end < 0 ? batches : batches.slice(0, end);
}
