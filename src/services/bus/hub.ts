/**
 * Messages as they pass, to whoever listens: services, and MQTT clients, for whom this is the emitter that aedes asks
 * for
 * (`mq`). Nobody is waited for: who is too slow loses messages or its connection, and holds up nobody else.
 */
import { type Call } from "../../kernel/call.ts";
import { fail } from "../../kernel/error.ts";
import { BUS_LISTENER_SLOW, BUS_REQUEST_TIMEOUT, type BusMessage, LISTENING } from "./api.ts";
import { TopicTree } from "./topic-tree.ts";

/** A message on its way, in the form that aedes passes around. */
export interface Packet {
  cmd: "publish";
  topic: string;
  payload: Buffer;
  qos: 0 | 1 | 2;
  retain: boolean;
  dup: boolean;
  brokerId?: string;
  brokerCounter?: number;
  position?: number;
}
export type Handler = (packet: Packet, done: () => void) => void;

/** Messages and bytes that wait for one listener; one that falls further behind is told so and has to listen anew. */
const LISTENER_MESSAGES_MAX = 4096;
const LISTENER_BYTES_MAX = 8 * 1024 * 1024;
/** Topics whose verdict (does it concern anybody) is kept until a subscription changes; then all are forgotten. */
const VERDICTS_MAX = 16_384;

const noop = (): void => undefined;

export const packetOf = (topic: string, payload: Uint8Array, position?: number): Packet => ({
  cmd: "publish",
  topic,
  payload: Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength),
  qos: 0,
  retain: false,
  dup: false,
  ...(position === undefined ? {} : { position }),
});

export class Hub {
  readonly #tree = new TopicTree<Handler>();
  readonly #verdicts = new Map<string, boolean>();
  #verdictsOf = -1;
  /** Counts messages: while handlers run it tells one message from the next. */
  emission = 0;
  /** Told of each message of ours before it goes out: keeps it for sessions that are away. */
  beforePublish: (packet: Packet) => void = noop;

  /** Sends a message of ours to whoever it concerns now. */
  publish(topic: string, payload: Uint8Array, position?: number): void {
    const packet = packetOf(topic, payload, position);
    this.beforePublish(packet);
    this.emit(packet);
  }

  /** Tells whether a message of this topic would concern anybody, so that nobody writes it in vain. */
  concerns(topic: string): boolean {
    if (this.#verdictsOf !== this.#tree.version || this.#verdicts.size > VERDICTS_MAX) {
      this.#verdicts.clear();
      this.#verdictsOf = this.#tree.version;
    }
    let verdict = this.#verdicts.get(topic);
    if (verdict === undefined) this.#verdicts.set(topic, (verdict = this.#tree.matches(topic)));
    return verdict;
  }

  emit(packet: Packet, done: () => void = noop): void {
    this.emission++;
    for (const handler of this.#tree.match(packet.topic)) handler(packet, noop);
    done();
  }

  on(filter: string, handler: Handler, done?: () => void): void {
    this.#tree.add(filter, handler);
    if (done) setImmediate(done);
  }

  removeListener(filter: string, handler: Handler, done?: () => void): void {
    this.#tree.remove(filter, handler);
    if (done) setImmediate(done);
  }

  close(done?: () => void): void {
    if (done) setImmediate(done);
  }

  /** Streams messages of filters from now on, and with `begin` says first that it does. Fails BUS_LISTENER_SLOW where the taker falls too far behind. */
  async *listen(filters: readonly string[], signal: AbortSignal, begin = false): AsyncGenerator<BusMessage> {
    let waiting: BusMessage[] = begin ? [{ topic: LISTENING, payload: new Uint8Array(0) }] : [];
    let bytes = 0;
    let slow = false;
    let wake = noop;
    const handler: Handler = ({ topic, payload, position }) => {
      if (waiting.length >= LISTENER_MESSAGES_MAX || bytes > LISTENER_BYTES_MAX) slow = true;
      else waiting.push({ topic, payload, ...(position === undefined ? {} : { position }) });
      bytes += payload.length;
      wake();
    };
    const stop = () => wake();
    for (const filter of filters) this.on(filter, handler);
    signal.addEventListener("abort", stop, { once: true });
    try {
      while (!signal.aborted) {
        const taken = waiting;
        waiting = [];
        bytes = 0;
        yield* taken;
        if (slow)
          throw fail(
            BUS_LISTENER_SLOW,
            `more than ${LISTENER_MESSAGES_MAX} messages or ${LISTENER_BYTES_MAX} bytes waited for this listener`,
          );
        if (waiting.length > 0 || signal.aborted) continue;
        await new Promise<void>((resolve) => (wake = resolve));
        wake = noop;
      }
    } finally {
      signal.removeEventListener("abort", stop);
      for (const filter of filters) this.removeListener(filter, handler);
    }
  }

  /** Waits for the first message of a topic, after `ask` has been called. Fails BUS_REQUEST_TIMEOUT. */
  async answerOn(topic: string, ask: () => Promise<unknown>, timeoutMs: number, call: Call): Promise<Uint8Array> {
    const answer = Promise.withResolvers<Uint8Array>();
    const handler: Handler = (packet) => answer.resolve(packet.payload);
    const late = () => answer.reject(fail(BUS_REQUEST_TIMEOUT, `nothing came on '${topic}' within ${timeoutMs} ms`));
    const timer = setTimeout(late, timeoutMs);
    this.on(topic, handler);
    call.signal.addEventListener("abort", late, { once: true });
    try {
      await Promise.race([answer.promise, ask().then(() => answer.promise)]);
      return await answer.promise;
    } finally {
      clearTimeout(timer);
      call.signal.removeEventListener("abort", late);
      this.removeListener(topic, handler);
    }
  }
}
