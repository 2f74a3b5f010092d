/** One request on its way through the steps, what has been found out about it so far, and what is answered to it. */
import { newRequestId, newSpanId } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { type Failure, fail } from "../../kernel/error.ts";
import type { Verdict } from "./access/verdicts.ts";
import { GATEWAY_CLIENT_GONE } from "./api.ts";
import type { Incoming, Switched } from "./front/exchange.ts";
import type { Head, Said } from "./headers.ts";
import type { Media } from "./media/media.ts";
import type { Target } from "./routes/target.ts";
import type { Taken } from "./shape/limiter.ts";
import type { Ticket } from "./ticket.ts";
import { Answer } from "./upstream/answer.ts";

/** What is answered: by a service, from the cache, or by the gateway itself. */
export interface Reply {
  readonly status: number;
  /** Name, value, name, value; what every answer carries is added at the door. */
  readonly headers: readonly string[];
  /** These very headers as they are said each time, where they are; of others it counts for nothing. */
  readonly said?: Said;
  /** All of it, or what is still coming; undefined where there is none. */
  readonly body: Buffer | Answer | undefined;
  /** May be kept by others as its own headers say; else it goes out with `no-store`. */
  readonly kept?: boolean;
  /** Called once, when the answer is over, however it ends. */
  readonly done?: () => void;
  /** Takes the client's connection over, once it has been told (101). */
  readonly switched?: (client: Switched) => void;
}

/** Answers a visit; throws the Failure that it is refused with. */
export type Handler = (visit: Visit) => Reply | Promise<Reply>;

/** One job on the way: does its part before or after the next one's, or answers in its place. */
export type Step = (next: Handler) => Handler;

/** Puts steps in front of a handler, the first of them outermost; what is undefined is left out, and costs nothing. */
export const chain = (steps: readonly (Step | undefined)[], end: Handler): Handler =>
  steps.reduceRight<Handler>((next, step) => (step ? step(next) : next), end);

/** Makes a handler of one that is being loaded: its requests wait for it. */
export function lazily(load: () => Promise<Handler>): Handler {
  const loading = load();
  // Told to whoever asks for it.
  loading.catch(() => undefined);
  return async (visit) => (await loading)(visit);
}

export class Visit {
  readonly exchange: Incoming;
  readonly requestId = newRequestId();
  readonly spanId = newSpanId();
  readonly startMs: number;
  readonly method: string;
  readonly url: string;
  readonly address: string;
  /** What the limits count by. */
  readonly client: string;
  /** Undefined until it has been read, and where it could not be. */
  head: Head | undefined;
  target: Target | undefined;
  /** Name, value, name, value: as they came, or as a step has them; those of the exchange are shared, and never changed. */
  rawHeaders: readonly string[];
  /** The header lines that go on, each with its CRLF. */
  passed = "";
  /** For the log and the metrics. */
  service = "gateway";
  operation = "unknown";
  /** Asked all the time: counted, and written at debug alone. */
  quiet = false;
  verdict: Verdict | undefined;
  /** How the cache answered it: `hit`, `stale`, ...; undefined where it did not. */
  cache: string | undefined;
  limit: { readonly name: string; readonly taken: Taken } | undefined;
  body: Buffer | undefined;
  /** The form in which an answer is given, where it is not JSON or was asked for. */
  media: Media | undefined;
  /** Nobody waits for it. */
  detached = false;
  ticket: Ticket | undefined;
  /** Headers the answer needs, whatever it is: name, value, ... */
  readonly extra: string[] = [];

  constructor(exchange: Incoming, clock: Clock) {
    this.exchange = exchange;
    this.startMs = clock.monotonicMs();
    this.rawHeaders = exchange.rawHeaders;
    this.method = exchange.method;
    this.url = exchange.url;
    this.address = exchange.address;
    this.client = exchange.client;
  }

  /** The same request with what has been found out so far, for somebody else who works on it too. */
  copy(): Visit {
    const copy = Object.assign(Object.create(Visit.prototype) as Visit, this);
    if (this.ticket) copy.ticket = this.ticket.child();
    return copy;
  }

  /** The same request as work of our own: it goes on when the client has gone. */
  detach(): Visit {
    const copy = this.copy();
    copy.detached = true;
    copy.ticket = undefined;
    return copy;
  }

  /** As it came, with its port; empty where there is none. */
  get host(): string {
    return this.head?.host ?? "";
  }

  /** The value of a header by its name in lower case; several lines are one list (RFC 9110 5.3). */
  header(name: string): string | undefined {
    const { rawHeaders } = this;
    let value: string | undefined;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const each = rawHeaders[i];
      if (each.length === name.length && each.toLowerCase() === name)
        value = value === undefined ? rawHeaders[i + 1] : `${value}, ${rawHeaders[i + 1]}`;
    }
    return value;
  }
}

/** Lets go of an answer that nobody takes. */
export function drop(reply: Reply): void {
  if (reply.body instanceof Answer) reply.body.cut();
  reply.done?.();
}

/** Says that nobody is there any more to be answered. */
export const gone = (): Failure => fail(GATEWAY_CLIENT_GONE, "the client has gone");
