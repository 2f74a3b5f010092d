/** The rules of the bus: what is kept, once and in order; who may say and hear what; who has read how far. */
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { TOPIC } from "../../kernel/edgex.ts";
import { asFailure, fail } from "../../kernel/error.ts";
import { decodeBlocks, headOfBlocks } from "../../kernel/events/codec.ts";
import { partsOf } from "../../kernel/identity/needs.ts";
import { JOURNAL_DISK_FULL, JOURNAL_FULL } from "../../kernel/journal/errors.ts";
import type { Log } from "../../kernel/log.ts";
import type { Tracer } from "../../kernel/trace.ts";
import { type Bus, BUS_EVENT_INVALID, BUS_FULL, BUS_TOPIC_REFUSED } from "./api.ts";
import { cut, orRefuse, ownRange, within } from "./batch.ts";
import { readEvent } from "./envelope.ts";
import { follow } from "./follow.ts";
import { Followers, FULLNESS_WARNED } from "./followers.ts";
import { eventTopic, serviceOf, strangerOf } from "../../kernel/event-topic.ts";
import { blockOf, Foreign, type Kept } from "./foreign.ts";
import { Hub } from "./hub.ts";
import { Intake } from "./intake.ts";
import { Live } from "./live.ts";
import { Occasional } from "./occasional.ts";
import type { Run } from "./sequences.ts";
import { KIND } from "./records.ts";
import type { Store } from "./store.ts";
import { covers, faultOf, isEventTopic, isJournalled, mayUse, serviceInTopic } from "./topics.ts";

/** What a refused appender waits before it tries again. */
const FULL_RETRY_S = 1;

export interface BusParts {
  readonly node: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly tracer: Tracer;
  readonly stopping: AbortSignal;
  readonly config: { readonly followers: readonly string[]; readonly sizeBytesMax: number; readonly keepBytes: number };
  /** Connected MQTT clients. */
  readonly mqttClients: () => number;
}

/** Who sends a message: a service by its name, an MQTT client by its role and, where it has no name, its id. */
export interface Sender {
  readonly role: string;
  readonly id: string;
}

export class BusService {
  readonly hub = new Hub();
  /** Messages on event topics that were no events. */
  dropped = 0;
  readonly #parts: BusParts;
  readonly #intake: Intake;
  readonly #foreign: Foreign;
  readonly #followers: Followers;
  readonly #live: Live;
  readonly #drops: Occasional;

  constructor(parts: BusParts) {
    const { store, clock, log, config } = parts;
    this.#parts = parts;
    this.#intake = new Intake({
      marks: store.marks,
      monotonicMs: () => clock.monotonicMs(),
      end: () => store.journal.last,
    });
    this.#followers = new Followers({
      store,
      clock,
      log,
      expected: config.followers,
      sizeBytesMax: config.sizeBytesMax,
      keepBytes: config.keepBytes,
      settledThrough: () => this.#intake.settledThrough,
    });
    this.#foreign = new Foreign({
      epoch: store.epoch,
      seen: store.seen,
      recalled: store.recalled,
      end: () => store.journal.last,
      append: (topic, payload) => this.#append(KIND.foreign, topic, payload),
    });
    this.#live = new Live(this.hub, parts.node);
    this.#drops = new Occasional(clock);
  }

  /** The operations of the contract. */
  readonly operations: Bus = {
    append: ({ body }, call) => this.#appendBlocks(body.blocks, body.requestId, call),
    appendForeign: async ({ body }, call) => {
      const startMs = this.#parts.clock.monotonicMs();
      const blocks = orRefuse(() => decodeBlocks(within(body.blocks)));
      const topic = eventTopic(body.publisher, blocks[0].series, TOPIC.coreEvents);
      const kept = await this.#foreign.keep(strangerOf(body.publisher), topic, blocks);
      this.#noteForeign(kept, startMs);
      this.#live.send(kept.blocks, call.requestId, kept.position, TOPIC.coreEvents);
      return { position: kept.position, duplicate: kept.duplicate };
    },
    follow: (input, call) => this.#follow(input, call),
    confirm: async ({ body }, call) => {
      this.#followers.confirm(body.follower, call.caller, body.position);
      return {};
    },
    publish: async ({ body }, call) => {
      const { topic } = body;
      this.#allow(call.caller, "publish", topic);
      const payload = within(body.payload);
      const position = isJournalled(topic)
        ? await this.#keepMessage({ role: call.caller, id: call.caller }, topic, payload)
        : undefined;
      this.hub.publish(topic, payload, position);
      return position === undefined ? {} : { position };
    },
    listen: ({ topics, begin }, call) => this.#listen(topics, begin === true, call),
    request: async ({ body }, call) => {
      const { topic, responseTopic, timeoutMs } = body;
      this.#allow(call.caller, "publish", topic);
      this.#allow(call.caller, "subscribe", responseTopic);
      const payload = within(body.payload);
      return {
        payload: await this.hub.answerOn(responseTopic, async () => this.hub.publish(topic, payload), timeoutMs, call),
      };
    },
    forgetDevice: async ({ body }) => {
      const { store } = this.#parts;
      store.forgotten.add(body.device, store.journal.last);
      await store.save(this.#intake.settledThrough);
      return { position: store.journal.last };
    },
    backlog: async () => {
      const { first, last, sizeBytes, losses, lossesBefore } = this.#parts.store.journal;
      return {
        first,
        last,
        sizeBytes,
        followers: this.#followers.list(),
        publishers: [...this.#parts.store.marks.all()].map(({ name, epoch, runs }) => ({
          name,
          epoch,
          last: runs.last,
        })),
        losses: [...lossesBefore, ...losses].map(({ reason, firstPosition, lastPosition, bytes }) => ({
          reason,
          firstPosition,
          bytes,
          ...(lastPosition === undefined ? {} : { lastPosition }),
        })),
        mqttClients: this.#parts.mqttClients(),
      };
    },
  };

  async #appendBlocks(
    bytes: Uint8Array,
    requestId: string | undefined,
    call: Call,
  ): Promise<{ position: number; last: number }> {
    const startMs = this.#parts.clock.monotonicMs();
    const heads = orRefuse(() => headOfBlocks(within(bytes)));
    const { publisher, epoch, from, to } = ownRange(heads, call.caller);
    const topic = eventTopic(publisher, heads[0].series);
    const put = (missing: readonly Run[]) => {
      const first = missing[0];
      const whole = missing.length === 1 && first.from === from && first.to === to;
      return this.#append(KIND.events, topic, whole ? bytes : orRefuse(() => cut(bytes, missing)));
    };
    const { position, last } = await this.#intake.take(publisher, epoch, from, to, put);
    if (position === undefined) return { position: this.#parts.store.journal.last, last };
    this.#parts.tracer.batch(
      "append",
      startMs,
      [{ publisher, epoch, from, to }],
      `${bytes.length} bytes at ${position}`,
    );
    this.#followers.saveLater();
    this.#live.sendEncoded(bytes, heads, requestId, position);
    return { position, last };
  }

  /** Appends to the journal, with its refusals in the bus's words. */
  async #append(kind: number, topic: string, payload: Uint8Array): Promise<number> {
    // A topic of long names does not fit a key: such a record carries the part that says what it is (`topicOf` makes
    // it whole).
    const key = faultOf(topic, false) === undefined ? topic : TOPIC.deviceEvents;
    try {
      return await this.#parts.store.journal.append(kind, key, payload);
    } catch (error) {
      const failure = asFailure(error);
      if (failure.code !== JOURNAL_FULL.code && failure.code !== JOURNAL_DISK_FULL.code) throw error;
      this.#followers.saveLater();
      throw fail(BUS_FULL, `${failure.message}; the bus takes nothing until its followers have caught up`, {
        cause: error,
        retryAfterS: FULL_RETRY_S,
      });
    }
  }

  async *#follow(input: Parameters<Bus["follow"]>[0], call: Call): ReturnType<Bus["follow"]> & AsyncGenerator {
    for (const topic of input.topics ?? ["edgex/events/#"]) this.#allow(call.caller, "subscribe", topic);
    const end = this.#followers.begin(input.follower, call.caller, input.after);
    const signal = AbortSignal.any([call.signal, this.#parts.stopping]);
    try {
      yield* follow(this.#parts.store, input, signal);
    } finally {
      end();
    }
  }

  async *#listen(topics: readonly string[], begin: boolean, call: Call): ReturnType<Bus["listen"]> & AsyncGenerator {
    // What the certificate names of the bus (`bus:edgex/events/#`) is heard beside what the caller's name may.
    const given = partsOf(call.needs, "bus");
    for (const topic of topics)
      if (!given.some((filter) => covers(filter, topic))) this.#allow(call.caller, "subscribe", topic);
    yield* this.hub.listen(topics, AbortSignal.any([call.signal, this.#parts.stopping]), begin);
  }

  #allow(client: string, action: "publish" | "subscribe", topic: string): void {
    if (!mayUse(client, action, topic))
      throw fail(
        BUS_TOPIC_REFUSED,
        `'${client}' may not ${action === "publish" ? "publish to" : "listen to"} '${topic.slice(0, 200)}'`,
      );
  }

  /** How many records each follower has not confirmed yet. */
  lags(): { follower: string; records: number }[] {
    const { last } = this.#parts.store.journal;
    return this.#followers
      .list()
      .map(({ name, position }) => ({ follower: name, records: Math.max(0, last - position) }));
  }

  /** Takes an MQTT client's message before it is acknowledged: what is no event is counted, logged and not kept. */
  async takeMessage(sender: Sender, topic: string, payload: Uint8Array): Promise<void> {
    try {
      await this.#keepMessage(sender, topic, payload);
    } catch (error) {
      const failure = asFailure(error);
      if (failure.code !== BUS_EVENT_INVALID.code) throw error;
      this.dropped++;
      const unsaid = this.#drops.mayHappen();
      if (unsaid !== undefined)
        this.#parts.log.warn(
          {
            topic: topic.slice(0, 300),
            client: sender.id.slice(0, 100),
            code: failure.code,
            unsaid,
            dropped: this.dropped,
          },
          `a message is not kept: ${failure.message}`,
        );
    }
  }

  async #keepMessage(sender: Sender, topic: string, payload: Uint8Array): Promise<number> {
    if (!isEventTopic(topic)) {
      const position = await this.#append(KIND.message, topic, payload);
      this.#followers.saveLater();
      return position;
    }
    const startMs = this.#parts.clock.monotonicMs();
    const row = readEvent(topic, payload);
    const kept = await this.#foreign.keep(strangerOf(serviceInTopic(topic) ?? sender.id), topic, [blockOf(row)]);
    this.#noteForeign(kept, startMs);
    return kept.position;
  }

  #noteForeign({ blocks, position }: Kept, startMs: number): void {
    if (blocks.length === 0) return;
    this.#followers.saveLater();
    const ranges = blocks.map(({ publisher, sequences }) => ({
      publisher: publisher.name,
      epoch: publisher.epoch,
      from: sequences[0],
      to: sequences.at(-1)!,
    }));
    this.#parts.tracer.batch("append", startMs, ranges, `of ${serviceOf(ranges[0].publisher)} at ${position}`);
  }

  health(): { state: "passing" | "warning"; reason?: string } {
    const { losses } = this.#parts.store.journal;
    if (this.#followers.fullness > FULLNESS_WARNED) {
      return {
        state: "warning",
        reason: `the journal has ${Math.round(this.#followers.fullness * 100)}% of its bytes: a follower is far behind`,
      };
    }
    return losses.length > 0
      ? { state: "warning", reason: `the journal lost something: ${losses[0].reason}` }
      : { state: "passing" };
  }

  stop(): Promise<void> {
    return this.#followers.stop();
  }
}
