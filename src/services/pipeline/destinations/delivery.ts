/** Delivers batches message by message, in order, and knows after a failure where to go on. */
import type { Message, MessageMaker } from "./messages.ts";
import type { BatchToSend, Lane, Refusal, Sent } from "./sender.ts";

/** A message that the destination will never take, with its reason. */
export class Refused extends Error {}

export interface DeliveryOptions {
  readonly maker: Pick<MessageMaker, "messages">;
  /** Messages on their way at once. */
  readonly inFlightMax: number;
  /** Names what an id is unique among: node and destination. */
  readonly scope: string;
  /**
   * Sends a message; resolves when it is durable. Rejects with Refused for good, with anything else where it is to be tried again. `id` is the
   * same whenever the same message is sent.
   */
  post(message: Message, id: string, signal: AbortSignal): Promise<void>;
}

/** How far a batch is whose delivery broke off. */
interface Progress {
  readonly batch: string;
  /** Messages from its first on that are durable or refused. */
  done: number;
  readonly reasons: string[];
}

/** Reasons that are told of one batch: it may have thousands of messages, all refused for the same. */
const REASONS_MAX = 3;

export class Delivery {
  readonly #o: DeliveryOptions;
  readonly #progress = new Map<Lane["class"], Progress>();
  /** What stopped the last batches, after others had gone. */
  #owed: { readonly error: unknown } | undefined;

  constructor(options: DeliveryOptions) {
    this.#o = options;
  }

  /** Delivers; see Sender.send. */
  async send(lane: Lane, batches: readonly BatchToSend[], signal: AbortSignal): Promise<Sent> {
    const owed = this.#owed;
    this.#owed = undefined;
    if (owed) throw owed.error;
    const refused: Refusal[] = [];
    let durable = 0;
    for (const batch of batches) {
      try {
        signal.throwIfAborted();
        const reasons = await this.#deliver(lane, batch, signal);
        if (reasons.length > 0) refused.push({ sequence: batch.sequence, reason: reasons.join("; ") });
      } catch (error) {
        if (durable === 0) throw error;
        this.#owed = { error };
        break;
      }
      durable = batch.sequence;
    }
    return { durable, refused };
  }

  /** Delivers a batch; tells why messages of it were refused. */
  async #deliver(lane: Lane, { sequence, blocks }: BatchToSend, signal: AbortSignal): Promise<string[]> {
    const name = `${lane.class}.${lane.epoch}.${sequence}`;
    const known = this.#progress.get(lane.class);
    const progress: Progress = known?.batch === name ? known : { batch: name, done: 0, reasons: [] };
    this.#progress.set(lane.class, progress);
    const flight = new Flight(this.#o.inFlightMax, progress);
    try {
      for await (const message of this.#o.maker.messages(blocks, progress.done)) {
        const id = `${this.#o.scope}.${name}.${message.index}`;
        flight.add(message.index, this.#o.post(message, id, signal));
        if (!(await flight.hasRoom())) break;
      }
    } catch (error) {
      // Only what was made of the batch can fail here: it would fail again.
      progress.reasons.push(`the batch cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    }
    await flight.landed();
    this.#progress.delete(lane.class);
    return progress.reasons;
  }
}

/** Messages of one batch on their way. */
class Flight {
  readonly #inFlightMax: number;
  readonly #progress: Progress;
  readonly #flying = new Set<Promise<void>>();
  /** Ended out of turn: an earlier one is still on its way. */
  readonly #ended = new Set<number>();
  #failure: { error: unknown } | undefined;

  constructor(inFlightMax: number, progress: Progress) {
    this.#inFlightMax = inFlightMax;
    this.#progress = progress;
  }

  add(index: number, posted: Promise<void>): void {
    const flying = this.#follow(index, posted).finally(() => this.#flying.delete(flying));
    this.#flying.add(flying);
  }

  async #follow(index: number, posted: Promise<void>): Promise<void> {
    try {
      await posted;
    } catch (error) {
      if (!(error instanceof Refused)) {
        this.#failure ??= { error };
        return;
      }
      const { reasons } = this.#progress;
      if (reasons.length < REASONS_MAX) reasons.push(`message ${index}: ${error.message}`);
    }
    this.#ended.add(index);
    while (this.#ended.delete(this.#progress.done)) this.#progress.done++;
  }

  /** Resolves when another message may go; false: none may any more. */
  async hasRoom(): Promise<boolean> {
    while (this.#flying.size >= this.#inFlightMax && !this.#failure) await Promise.race(this.#flying);
    return !this.#failure;
  }

  /** Resolves when all have ended; rejects with the first failure. */
  async landed(): Promise<void> {
    await Promise.all(this.#flying);
    if (this.#failure) throw this.#failure.error;
  }
}
