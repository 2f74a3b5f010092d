/** Follows a bucket of NATS: an ordered consumer, which notices a gap, a silence, and what was forgotten meanwhile. */
import { type Failure, fail, UNAVAILABLE } from "../../../kernel/error.ts";
import type { NatsConnection, NatsMessage } from "../../../kernel/nats/connection.ts";
import type { Entry, Told } from "./board.ts";

const HEARTBEAT_MS = 1_000;
/** Heartbeats that may be missing. */
const MISSING_MAX = 3;
const NS_PER_MS = 1_000_000;

export interface Following {
  readonly connection: NatsConnection;
  ask(this: void, subject: string, body: object): Promise<object>;
  readonly signal: AbortSignal;
}

export class NatsWatch {
  readonly #stream: string;
  readonly #subject: string;
  readonly #goneMsMax: number;
  /** The place in the stream where it goes on, and since when on the monotonic clock nothing was heard. */
  #next: number | undefined;
  #heardMs = 0;

  /** Who heard nothing for `goneMsMax` begins anew. */
  constructor(stream: string, subject: string, goneMsMax: number) {
    this.#stream = stream;
    this.#subject = subject;
    this.#goneMsMax = goneMsMax;
  }

  async *follow({ connection, ask, signal }: Following): AsyncGenerator<Told> {
    if (performance.now() - this.#heardMs > this.#goneMsMax) this.#next = undefined;
    const queue: NatsMessage[] = [];
    let failure: Failure | undefined;
    let wake = () => {};
    const lose = (why: Failure) => {
      failure ??= why;
      wake();
    };
    const silent = () => lose(fail(UNAVAILABLE, "the watch of NATS brings no heartbeat any more"));
    let patience = setTimeout(silent, HEARTBEAT_MS * MISSING_MAX);
    const inbox = connection.newInbox();
    const stop = connection.listen(
      inbox,
      (message) => {
        clearTimeout(patience);
        patience = setTimeout(silent, HEARTBEAT_MS * MISSING_MAX);
        this.#heardMs = performance.now();
        // A heartbeat, or flow control, which wants an answer.
        if (message.head.startsWith("NATS/1.0 100")) return message.reply && connection.publish(message.reply);
        queue.push(message);
        wake();
      },
      lose,
    );
    const abort = () => wake();
    signal.addEventListener("abort", abort, { once: true });
    try {
      let all = await this.#begin(ask, inbox);
      let expected = 1;
      if (all?.left === 0) yield* this.#whole(all, 0);
      while (!signal.aborted) {
        if (failure) throw failure;
        const message = queue.shift();
        if (!message) {
          await new Promise<void>((resolve) => (wake = resolve));
          continue;
        }
        const { place, count } = placeOf(message.reply);
        if (count !== expected++) throw fail(UNAVAILABLE, "the watch of NATS has a gap");
        const told = this.#told(message, place);
        if (all && all.left > 0) {
          if (told.kind === "put") all.entries.push(told.entry);
          if (--all.left === 0) yield* this.#whole(all, place);
          continue;
        }
        all = undefined;
        yield told;
        this.#next = place + 1;
      }
    } finally {
      clearTimeout(patience);
      signal.removeEventListener("abort", abort);
      stop();
    }
  }

  /** Makes the consumer. Answers what is to come before all is there; undefined where it goes on. */
  async #begin(ask: Following["ask"], inbox: string): Promise<{ left: number; entries: Entry[] } | undefined> {
    const from =
      this.#next === undefined
        ? { deliver_policy: "last_per_subject" }
        : { deliver_policy: "by_start_sequence", opt_start_seq: this.#next };
    const config = {
      ...from,
      deliver_subject: inbox,
      filter_subject: `${this.#subject}>`,
      ack_policy: "none",
      replay_policy: "instant",
      flow_control: true,
      idle_heartbeat: HEARTBEAT_MS * NS_PER_MS,
      inactive_threshold: HEARTBEAT_MS * MISSING_MAX * NS_PER_MS,
      mem_storage: true,
      num_replicas: 1,
    };
    const made = await ask(`$JS.API.CONSUMER.CREATE.${this.#stream}`, { stream_name: this.#stream, config });
    const { num_pending = 0, delivered } = made as { num_pending?: number; delivered?: { consumer_seq?: number } };
    return this.#next === undefined ? { left: num_pending + (delivered?.consumer_seq ?? 0), entries: [] } : undefined;
  }

  *#whole({ entries }: { entries: Entry[] }, place: number): Generator<Told> {
    yield { kind: "all", entries };
    this.#next = place + 1;
  }

  #told({ subject, head, body }: NatsMessage, revision: number): Told {
    const key = keyOf(subject.slice(this.#subject.length));
    return isGone(head) ? { kind: "gone", key } : { kind: "put", entry: { key, value: body, revision } };
  }
}

/** `$JS.ACK.[domain.account.]stream.consumer.tries.PLACE.COUNT.time.left[.token]` (ADR-15). */
function placeOf(reply = ""): { place: number; count: number } {
  const words = reply.split(".");
  const at = words.length > 9 ? 7 : 5;
  return { place: Number(words[at]), count: Number(words[at + 1]) };
}

export const headerOf = (head: string, name: string): string | undefined =>
  new RegExp(`^${name}: *(.*?)\\r?$`, "im").exec(head)?.[1];

/** Removed, or its time was over. */
export const isGone = (head: string): boolean =>
  headerOf(head, "KV-Operation") !== undefined || headerOf(head, "Nats-Marker-Reason") !== undefined;

/** A key as one token of a subject: what may not be in one, and dots, as `=` and two hexadecimal digits. */
export const tokenOf = (key: string): string =>
  [...Buffer.from(key)]
    .map((byte) =>
      /[\w/-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `=${byte.toString(16).padStart(2, "0")}`,
    )
    .join("");

export const keyOf = (token: string): string =>
  Buffer.from(
    token.replaceAll(/=([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    "latin1",
  ).toString();
