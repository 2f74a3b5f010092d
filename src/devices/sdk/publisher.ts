/**
 * Sends events to the bus in order and in batches: while one batch is under way the next one gathers, so that the batch
 * grows with the load and a lone event waits for nothing. What was not acknowledged is sent again under the same numbers.
 */
import { makeCall } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { asFailure, Failure } from "../../kernel/error.ts";
import { BlockBuilder } from "../../kernel/events/blocks.ts";
import { encodeBlocks } from "../../kernel/events/codec.ts";
import type { Extra, Publisher, Series, Value } from "../../kernel/events/model.ts";
import { forever } from "../../kernel/forever.ts";
import type { Log } from "../../kernel/log.ts";
import type { Tracer } from "../../kernel/trace.ts";
import type { Bus } from "../../services/bus/api.ts";

/** Events in one batch at the most. */
const BATCH_ROWS_MAX = 4_096;
const BATCH_BYTES_MAX = 512 * 1024;
/** Events in memory that the bus has not acknowledged, and their bytes; above it whoever can wait waits (`full`, `room`), and AutoEvents skip their turn. */
export const WAITING_ROWS_MAX = 65_536;
const WAITING_BYTES_MAX = 32 * 1024 * 1024;
const APPEND_TIMEOUT_MS = 10_000;

export interface PublisherOptions {
  readonly publisher: Publisher;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly signal: AbortSignal;
}

interface Batch {
  readonly builder: BlockBuilder;
  readonly first: number;
  last: number;
  readonly startMs: number;
  /** As it goes to the bus: once encoded it takes no more events, and is sent again as it is. */
  encoded: Uint8Array | undefined;
  readonly acknowledged: Promise<void>;
  acknowledge(this: void): void;
}

export class EventPublisher {
  readonly publisher: Publisher;
  readonly #options: PublisherOptions;
  readonly #queue: Batch[] = [];
  #sequence = 0;
  #rows = 0;
  #bytes = 0;
  #wake: () => void = () => undefined;
  readonly #done: Promise<void>;
  /** Events the bus has acknowledged. */
  acknowledged = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.publisher = options.publisher;
    options.signal.addEventListener("abort", () => this.#wake(), { once: true });
    const { clock, log, signal } = options;
    this.#done = forever({ what: "sending events to the bus", clock, log, signal, maxMs: 2_000 }, () => this.#send());
  }

  get waiting(): number {
    return this.#rows;
  }

  /** True where an event would wait for room: who can, skips. */
  get full(): boolean {
    return this.#rows >= WAITING_ROWS_MAX || this.#bytes >= WAITING_BYTES_MAX;
  }

  /** Takes an event and gives its number and the promise of the bus's acknowledgement (never rejected; pending while the bus is away). */
  emit(
    series: Series,
    origin: bigint,
    values: readonly Value[],
    extra?: Extra,
  ): { sequence: number; durable: Promise<void> } {
    let batch = this.#queue.at(-1);
    if (!batch || batch.encoded || batch.builder.full) {
      batch = this.#newBatch();
      this.#queue.push(batch);
    }
    const sequence = this.#sequence + 1;
    const bytes = batch.builder.bytesEstimate;
    batch.builder.add(series, sequence, origin, values, extra);
    this.#bytes += batch.builder.bytesEstimate - bytes;
    this.#sequence = batch.last = sequence;
    this.#rows++;
    this.#wake();
    return { sequence, durable: batch.acknowledged };
  }

  /** Resolves when there is room again. */
  async room(): Promise<void> {
    while (this.full && !this.#options.signal.aborted) await this.#queue[0].acknowledged;
  }

  /** Sends what waits, bounded by `timeoutMs`, then ends. */
  async flush(timeoutMs: number): Promise<void> {
    const all = Promise.all(this.#queue.map((b) => b.acknowledged));
    const timer = new Promise<void>((resolve) => setTimeout(resolve, timeoutMs).unref());
    await Promise.race([all, timer]);
  }

  async stopped(): Promise<void> {
    await this.#done;
  }

  #newBatch(): Batch {
    let acknowledge: () => void = () => undefined;
    const acknowledged = new Promise<void>((resolve) => (acknowledge = resolve));
    const builder = new BlockBuilder({ publisher: this.publisher, rowsMax: BATCH_ROWS_MAX, bytesMax: BATCH_BYTES_MAX });
    return {
      builder,
      first: this.#sequence + 1,
      last: this.#sequence,
      startMs: this.#options.clock.monotonicMs(),
      encoded: undefined,
      acknowledged,
      acknowledge,
    };
  }

  /** Sends batch after batch; throws when one could not be sent, and is run again. */
  async #send(): Promise<void> {
    const { signal } = this.#options;
    while (!signal.aborted) {
      const batch = this.#queue[0];
      if (!batch) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        // Let the events of this turn gather before the first goes alone.
        await Promise.resolve();
        continue;
      }
      await this.#append(batch);
      this.#queue.shift();
      this.#rows -= batch.builder.rows;
      this.#bytes -= batch.builder.bytesEstimate;
      this.acknowledged += batch.builder.rows;
      batch.acknowledge();
    }
  }

  async #append(batch: Batch): Promise<void> {
    const { bus, clock, tracer, signal } = this.#options;
    const { name, epoch } = this.publisher;
    const range = [{ publisher: name, epoch, from: batch.first, to: batch.last }];
    const startMs = clock.monotonicMs();
    const call = makeCall({ caller: name, timeoutMs: APPEND_TIMEOUT_MS, signal });
    try {
      batch.encoded ??= encodeBlocks(batch.builder.blocks());
      await bus.append({ body: { blocks: batch.encoded, requestId: call.requestId } }, call);
    } catch (error) {
      // What cannot be encoded, or the bus refuses for good, would block all that follows: it is given up, and said.
      const isLasting = !batch.encoded || (error instanceof Failure && /^(invalid|too-large)$/.test(error.kind));
      if (!isLasting) throw error;
      this.#giveUp(batch, error);
      return;
    } finally {
      call.end(false);
    }
    tracer.batch("read", batch.startMs, range);
    tracer.batch("send", startMs, range, `${batch.builder.rows} ${batch.builder.rows === 1 ? "event" : "events"}`);
  }

  #giveUp(batch: Batch, error: unknown): void {
    const { code, message } = asFailure(error);
    this.#options.log.error(
      { code, from: batch.first, to: batch.last, err: error },
      `${batch.builder.rows} events are lost: ${message}`,
    );
  }
}
