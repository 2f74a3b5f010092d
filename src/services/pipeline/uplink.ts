/** Drains the outbox to the cloud, in order, one request at a time; offline is a position that stands still. */
import { X509Certificate } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCall, newSpanId } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { asFailure } from "../../kernel/error.ts";
import { headOfBlocks } from "../../kernel/events/codec.ts";
import { makeKeyAndRequest } from "../../kernel/identity/request.ts";
import { spiffeName } from "../../kernel/identity/names.ts";
import type { Log } from "../../kernel/log.ts";
import type { Range, Tracer } from "../../kernel/trace.ts";
import { CLOUD_SEQUENCE_GAP } from "../cloud/api.ts";
import type { Destination } from "./api.ts";
import { type Link, openLink } from "./link.ts";
import type { Outbox, QueuedBatch } from "./outbox.ts";
import type { Enrollment, PipelineStore, Totals } from "./store.ts";

/** One request: small enough for a bad link to get it through, large enough for its overhead not to count. */
const REQUEST_BYTES_MAX = 1_048_576;
const REQUEST_BATCHES_MAX = 64;
const REQUEST_TIMEOUT_MS = 30_000;
/** Pauses after failures: full jitter between nothing and this, doubling from the first to the second. */
const RETRY_MS = { first: 250, most: 30_000 };
const SAVE_EVERY_MS = 2_000;
export const STREAM = "main";

export interface UplinkOptions {
  readonly outbox: Outbox;
  readonly store: PipelineStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly signal: AbortSignal;
}

export class Uplink {
  readonly #o: UplinkOptions;
  readonly #totals: Totals;
  readonly #base: { sent: number; received: number };
  #link: Link | undefined;
  #enrollment: Enrollment | undefined;
  /** All up to here is durable at the cloud; undefined until the cloud has said so. */
  #durable: number | undefined;
  #state: Destination["state"] = "not-enrolled";
  #reason: string | undefined;
  #failures = 0;
  #savedMs = 0;
  #wake: () => void = () => undefined;

  constructor(options: UplinkOptions) {
    this.#o = options;
    this.#totals = options.store.totals;
    this.#base = { sent: this.#totals.bytesSent, received: this.#totals.bytesReceived };
    options.signal.addEventListener("abort", () => this.#wake(), { once: true });
    if (options.store.enrollment) this.use(options.store.enrollment);
  }

  /** Sends to this cloud from now on. */
  use(enrollment: Enrollment): void {
    const bytes = this.#bytes();
    this.#base.sent = bytes.sent;
    this.#base.received = bytes.received;
    this.#link?.close();
    this.#link = openLink(enrollment, this.#o.clock);
    this.#enrollment = enrollment;
    this.#durable = undefined;
    this.#failures = 0;
    this.#state = "idle";
    this.#wake();
  }

  status(): Destination {
    const { outbox, clock, store } = this.#o;
    const { journal } = outbox;
    const durable = Math.max(this.#durable ?? 0, journal.first - 1);
    const { batches, events, readings, lastAtMs } = this.#totals;
    const oldestMs = this.#oldestNs === undefined ? undefined : Math.max(0, Number((clock.wallNs() - this.#oldestNs) / 1_000_000n));
    return {
      name: "cloud",
      url: this.#enrollment?.url ?? "",
      state: this.#state,
      ...(this.#reason ? { reason: this.#reason } : {}),
      waiting: { batches: Math.max(0, journal.last - durable), bytes: journal.last > durable ? journal.sizeBytes : 0, ...(oldestMs === undefined ? {} : { oldestMs }) },
      acknowledged: { batches, events, readings, ...(lastAtMs === undefined ? {} : { lastAtMs }) },
      wireBytes: this.#bytes(),
      deadLetters: store.deadLetters,
    };
  }

  /** Runs until the signal aborts. */
  async run(): Promise<void> {
    const { signal, log } = this.#o;
    while (!signal.aborted) {
      try {
        if (this.#link) await this.#round(this.#link);
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      } catch (error) {
        if (signal.aborted) break;
        const failure = asFailure(error);
        this.#state = "offline";
        this.#reason = failure.message;
        if (this.#failures++ === 0) log.warn({ code: failure.code, err: failure.message }, "the cloud does not answer; readings wait in the outbox");
        const mostMs = Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** Math.min(this.#failures, 16));
        const pauseMs = failure.retryAfterS ? failure.retryAfterS * 1000 : Math.random() * mostMs;
        await this.#pause(Math.min(pauseMs, RETRY_MS.most));
      }
    }
    this.#save();
    this.#link?.close();
  }

  #oldestNs: bigint | undefined;

  /** Sends what waits, or waits for something to send. */
  async #round(link: Link): Promise<void> {
    const { outbox, log, signal } = this.#o;
    await this.#renewIfDue(link);
    this.#durable ??= await this.#mark(link);
    const { batches, gap } = await outbox.read(this.#durable, { bytesMax: REQUEST_BYTES_MAX, recordsMax: REQUEST_BATCHES_MAX });
    if (gap) log.warn({ from: gap.from, to: gap.to }, "batches of the outbox were lost to damage before the cloud had them");
    if (batches.length === 0) {
      this.#oldestNs = undefined;
      this.#state = "idle";
      this.#save();
      // Woken by the next batch, by another cloud to send to, or by the end.
      const other = new AbortController();
      this.#wake = () => other.abort();
      await outbox.journal.wait(Math.max(this.#durable, outbox.journal.last), AbortSignal.any([signal, other.signal])).catch((error: unknown) => {
        if (!other.signal.aborted && !signal.aborted) throw error;
      });
      return;
    }
    this.#oldestNs = batches[0].queuedNs;
    this.#state = "sending";
    await this.#send(link, this.#durable, batches);
  }

  async #send(link: Link, durable: number, batches: readonly QueuedBatch[]): Promise<void> {
    const { clock, log, outbox, signal, store, tracer } = this.#o;
    const startMs = clock.monotonicMs();
    const call = makeCall({ caller: "pipeline", timeoutMs: REQUEST_TIMEOUT_MS, signal });
    const body = {
      stream: STREAM,
      epoch: outbox.epoch,
      batches: batches.map(({ sequence, queuedNs, blocks }, i) => ({ sequence, previous: i === 0 ? durable : batches[i - 1].sequence, queuedNs, blocks })),
    };
    const answer = await link.client.accept({ body }, call).catch((error: unknown) => {
      // The cloud knows less than we thought (it was restored from a backup): ask it again where it stands.
      if (asFailure(error).code === CLOUD_SEQUENCE_GAP.code) this.#durable = undefined;
      throw error;
    });
    call.end(false);
    const kept = batches.filter((b) => b.sequence <= answer.durable);
    for (const { sequence, reason } of answer.refused) {
      const batch = batches.find((b) => b.sequence === sequence);
      log.error({ sequence, reason }, "the cloud can never keep a batch; it is set aside");
      if (batch) store.addDeadLetter(batch, reason, clock.wallMs());
    }
    const ranges = kept.flatMap((b) => rangesIn(b.blocks));
    tracer.batch("send", startMs, ranges, `batches ${batches[0].sequence} to ${answer.durable}`);
    // What the cloud did is told to this node's trace by the node: the story is whole where it is asked.
    tracer.add({ spanId: newSpanId(), service: "cloud", operation: "accept", startNs: BigInt(answer.receivedNs), durationUs: answer.durationUs, status: 0, ranges, note: `${kept.length} batches durable` });
    this.#count(kept);
    this.#durable = answer.durable;
    this.#failures = 0;
    this.#reason = undefined;
    await outbox.done(answer.durable);
    if (clock.monotonicMs() - this.#savedMs > SAVE_EVERY_MS) this.#save();
  }

  async #mark(link: Link): Promise<number> {
    const call = makeCall({ caller: "pipeline", timeoutMs: REQUEST_TIMEOUT_MS, signal: this.#o.signal });
    const { durable } = await link.client.mark({ stream: STREAM, epoch: this.#o.outbox.epoch }, call);
    call.end(false);
    return durable;
  }

  /** Renews the node's certificate at a third of its lifetime; failing that the old one serves on. */
  async #renewIfDue(link: Link): Promise<void> {
    const { clock, log, signal, store } = this.#o;
    const enrollment = this.#enrollment!;
    const cert = new X509Certificate(enrollment.certPem);
    const [from, to] = [Date.parse(cert.validFrom), Date.parse(cert.validTo)];
    if (clock.wallMs() < from + (to - from) / 3 || this.#failures > 0) return;
    const call = makeCall({ caller: "pipeline", timeoutMs: REQUEST_TIMEOUT_MS, signal });
    const { csrPem, keyPem } = await makeKeyAndRequest(spiffeName(enrollment.cloud, `edge.${enrollment.edge}`));
    const { certPem } = await link.client.renew({ body: { csrPem } }, call);
    call.end(false);
    link.renew(certPem, keyPem);
    this.#enrollment = { ...enrollment, certPem, keyPem };
    store.enrollment = this.#enrollment;
    log.info({ requestId: call.requestId }, "the node's certificate at the cloud was renewed");
  }

  #count(kept: readonly QueuedBatch[]): void {
    for (const { events, readings } of kept) {
      this.#totals.batches++;
      this.#totals.events += events;
      this.#totals.readings += readings;
    }
    if (kept.length > 0) this.#totals.lastAtMs = this.#o.clock.wallMs();
  }

  #bytes(): { sent: number; received: number } {
    const now = this.#link?.bytes ?? { sent: 0, received: 0 };
    return { sent: this.#base.sent + now.sent, received: this.#base.received + now.received };
  }

  #save(): void {
    this.#savedMs = this.#o.clock.monotonicMs();
    const { sent, received } = this.#bytes();
    this.#o.store.save(this.#o.outbox.followed, { ...this.#totals, bytesSent: sent, bytesReceived: received });
  }

  async #pause(ms: number): Promise<void> {
    const other = new AbortController();
    this.#wake = () => other.abort();
    await sleep(ms, undefined, { signal: AbortSignal.any([this.#o.signal, other.signal]), ref: false }).catch(() => undefined);
  }
}

function rangesIn(blocks: Uint8Array): Range[] {
  return headOfBlocks(blocks).map((h) => ({ publisher: h.publisher.name, epoch: h.publisher.epoch, from: h.firstSequence, to: h.lastSequence }));
}
