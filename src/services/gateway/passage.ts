/** One request's time at the door: handed to the steps, its answer given, whatever goes wrong told, written down at the end. */
import { asFailure, type Failure } from "../../kernel/error.ts";
import { errorBody } from "../../kernel/wire.ts";
import { noteRequest, type Notes } from "./access-log.ts";
import {
  GATEWAY_CLIENT_GONE,
  GATEWAY_HEADERS_TOO_LARGE,
  GATEWAY_REQUEST_REFUSED,
  GATEWAY_REQUEST_SLOW,
} from "./api.ts";
import { deliver } from "./delivery.ts";
import { GATEWAY_CONDITION_FAILED } from "./static.api.ts";
import { GATEWAY_UPGRADE_REQUIRED } from "./websocket.api.ts";
import { Said, switchingHead } from "./headers.ts";
import { JSON_MEDIA } from "./media/media.ts";
import { Answer } from "./upstream/answer.ts";
import type { Exchange, Switched } from "./front/exchange.ts";
import type { Guest } from "./shape/admission.ts";
import { drop, gone, type Handler, type Reply, Visit } from "./visit.ts";

export interface PassageOptions extends Notes {
  /** All steps, from the first limit to the answer. */
  readonly handle: Handler;
  /** Requests under way in this process; changed here. */
  readonly load: { running: number; draining: boolean };
}

/** Statuses that no kind of failure stands for. */
const STATUSES: Readonly<Record<string, number>> = {
  [GATEWAY_HEADERS_TOO_LARGE.code]: 431,
  [GATEWAY_REQUEST_SLOW.code]: 408,
  [GATEWAY_CONDITION_FAILED.code]: 412,
  [GATEWAY_UPGRADE_REQUIRED.code]: 426,
  // As nginx has it; only in the log and the metrics.
  [GATEWAY_CLIENT_GONE.code]: 499,
};

export class Passage implements Guest {
  readonly #o: PassageOptions;
  readonly #exchange: Exchange;
  readonly #visit: Visit;
  #failure: Failure | undefined;
  #status = 0;
  #bytes = 0;
  #done: (() => void) | undefined;
  #running = false;

  constructor(options: PassageOptions, exchange: Exchange) {
    this.#o = options;
    this.#exchange = exchange;
    this.#visit = new Visit(exchange, options.clock);
    exchange.onClose = () => this.#over();
    exchange.onFault = (failure) => this.refuse(failure);
  }

  get open(): boolean {
    return this.#exchange.open;
  }

  run(): void {
    this.#running = true;
    this.#o.load.running++;
    const visit = this.#visit;
    try {
      visit.head = this.#exchange.head();
      visit.passed = visit.head.passed;
      const reply = this.#o.handle(visit);
      if (reply instanceof Promise) void this.#await(reply);
      else this.#give(reply);
    } catch (error) {
      this.refuse(asFailure(error), error);
    }
  }

  async #await(reply: Promise<Reply>): Promise<void> {
    try {
      this.#give(await reply);
    } catch (error) {
      this.refuse(asFailure(error), error);
    }
  }

  /** Answers a failure, where no answer has begun; else the connection is cut, so that half an answer is not taken for one. */
  refuse(failure: Failure, cause: unknown = failure): void {
    if (this.#failure) return;
    this.#failure = failure;
    const exchange = this.#exchange;
    const { requestId, media = JSON_MEDIA } = this.#visit;
    if (failure.kind === "internal") this.#o.log.error({ requestId, err: cause }, failure.message);
    if (!exchange.open) return exchange.destroy();
    const status = statusOf(failure);
    const extra = failure.retryAfterS === undefined ? [] : ["Retry-After", String(failure.retryAfterS)];
    const body = Buffer.from(media.encode({ ...errorBody(failure, requestId), statusCode: status }));
    const length = ["Content-Length", String(body.length)];
    this.#give({ status, headers: [...extra, "Content-Type", media.type, ...length], body });
  }

  /** Gives the answer. */
  #give(reply: Reply): void {
    const exchange = this.#exchange;
    const { ticket } = this.#visit;
    // Meanwhile more has come, and it was malformed; or the client has gone.
    if (!exchange.open) return drop(reply);
    this.#status = reply.status;
    if (reply.switched) return this.#switch(reply, reply.switched);
    this.#done = reply.done;
    // Who sends what is none may mean something else by what follows, too.
    const last = this.#o.load.draining || this.#failure?.code === GATEWAY_REQUEST_REFUSED.code;
    const said = reply.said?.headers === reply.headers ? reply.said : new Said(reply.headers);
    exchange.begin(reply.status, this.#ours(), said.given(reply.kept === true), last);
    const { body } = reply;
    if (body instanceof Answer) {
      return deliver(body, {
        exchange,
        ticket,
        sent: (bytes) => (this.#bytes += bytes),
        broken: (failure) => this.refuse(failure),
      });
    }
    this.#bytes = body?.length ?? 0;
    exchange.end(body);
  }

  #switch(reply: Reply, switched: (client: Switched) => void): void {
    switched(this.#exchange.switch(switchingHead([...this.#ours(), ...reply.headers])));
  }

  /** What every answer carries: the ids, how much more may come, and what the steps added. */
  #ours(): string[] {
    const { limit, extra, requestId, head } = this.#visit;
    const headers = ["X-Request-ID", requestId, "X-Correlation-ID", head?.correlationId ?? requestId];
    if (extra.length > 0) headers.push(...extra);
    if (limit)
      headers.push("RateLimit", `"${limit.name}";r=${limit.taken.remaining};t=${Math.ceil(limit.taken.waitMs / 1000)}`);
    return headers;
  }

  /** The answer has been given, or the client has gone. */
  #over(): void {
    const visit = this.#visit;
    const { ticket } = visit;
    if (this.#running) this.#o.load.running--;
    const { finished } = this.#exchange;
    this.#done?.();
    this.#failure ??= finished ? undefined : gone();
    if (!finished) ticket?.end(gone());
    ticket?.stop();
    const status = finished || !this.#failure ? this.#status : statusOf(this.#failure);
    noteRequest(this.#o, { visit, failure: this.#failure, status, bytes: this.#bytes });
  }
}

export const statusOf = (failure: Failure): number => STATUSES[failure.code] ?? failure.status;
